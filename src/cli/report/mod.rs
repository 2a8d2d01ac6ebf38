//! What a run tells, on standard error and nowhere else. A message never delays a decision: one thread writes, from a
//! queue of fixed length; what finds it full is dropped and counted; and an error in writing is nobody's business.

mod json;
mod remark;
mod text;
mod writer;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use consul_lock::clock::Moment;
use consul_lock::lock::Key;
use nix::sys::signal::Signal;

use super::live::{self, Waiting};
use super::output::{ColorArg, LogFormat, Output};
use crate::guard::LastWords;
use crate::run::Note;
use json::Json;
pub(crate) use remark::Remarks;
use text::Text;
use writer::Writer;
pub(crate) use writer::write_last;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Whatever happens: losses, and what was killed.
    Always,
    /// Without `-q`.
    Normal,
    /// With `-v`.
    Verbose,
    /// With `-vv`.
    Debug,
}

/// Writes what a run tells.
#[derive(Debug)]
pub(crate) struct Report {
    keys: Vec<Key>,
    format: Format,
    level: Level,
    output: Output,
    writer: Option<Writer>,
    /// What the live line shows, while there is one.
    waiting: Option<Waiting>,
    /// Lines that found the queue full.
    dropped: u64,
}

#[derive(Debug)]
enum Format {
    Text(Text),
    Json(Json),
}

impl Report {
    /// A report on the lock with these keys, as `output` wants it; `first_signal` is the one that a lost lock sends.
    pub(crate) fn new(output: Output, keys: Vec<Key>, first_signal: Signal) -> Self {
        let level = match (output.quiet, output.verbose) {
            (true, _) => Level::Always,
            (false, 0) => Level::Normal,
            (false, 1) => Level::Verbose,
            (false, _) => Level::Debug,
        };
        let format = match output.log_format {
            LogFormat::Text => Format::Text(Text::new(&keys, first_signal, output.color)),
            LogFormat::Json => Format::Json(Json::new(keys.clone())),
        };
        Self { keys, format, level, output, writer: None, waiting: None, dropped: 0 }
    }

    /// Takes a note and queues what is to be told of it; never waits, but for the live line to be gone before anything else
    /// happens on the terminal. The writer is started by the first line that there is: most runs have nothing to say.
    pub(crate) fn tell(&mut self, note: &Note) {
        if note.ends_waiting() && self.waiting.take().is_some() {
            self.writer.iter_mut().for_each(Writer::clear);
        }
        let line = match &mut self.format {
            Format::Text(text) => text.line(note, self.level),
            Format::Json(json) => json.line(note, self.level),
        };
        if line.is_none() && self.waiting.is_none() {
            return;
        }
        let mut writer = self.writer.take().unwrap_or_else(|| Writer::start(wants_line(self.output)));
        self.tell_of_dropped(&writer);
        let queued = match (self.picture(note, &writer), line) {
            (Some(waiting), line) => writer.live(waiting, line),
            (None, Some(line)) => writer.line(line),
            (None, None) => true,
        };
        self.dropped += u64::from(!queued);
        self.writer = Some(writer);
    }

    /// What the live line shows after this note; nothing if it is not about waiting, or there can be no live line.
    fn picture(&mut self, note: &Note, writer: &Writer) -> Option<Waiting> {
        if !writer.may_draw() {
            return None;
        }
        let (now, colour) = (Moment::now(), is_coloured(self.output.color));
        let mut waiting = self.waiting.clone().unwrap_or_else(|| Waiting::new(names(&self.keys), now, colour));
        if waiting.on(note, now) {
            self.waiting = Some(waiting.clone());
            return Some(waiting);
        }
        None
    }

    fn tell_of_dropped(&mut self, writer: &Writer) {
        if self.dropped > 0 {
            let message = format!("{} messages were dropped: nobody read standard error", self.dropped);
            let line = match &mut self.format {
                Format::Text(text) => text.plain(&message),
                Format::Json(json) => json.plain(&message),
            };
            if writer.line(line) {
                self.dropped = 0;
            }
        }
    }

    /// Waits until all is written, but not for a standard error that nobody reads.
    pub(crate) fn finish(self) {
        if let Some(writer) = self.writer {
            writer.finish();
        }
    }

    /// Tells the error that ended everything. For when there is no writer, or none any more.
    pub(crate) fn error(output: Output, keys: &[Key], code: u8, message: &str) {
        let line = match output.log_format {
            LogFormat::Text => text::error(message, is_coloured(output.color)),
            LogFormat::Json => json::error(keys, code, message),
        };
        write_last(line);
    }
}

/// Whether somebody who waits is shown a live line.
pub(crate) fn draws(output: Output) -> bool {
    wants_line(output) && live::is_capable()
}

fn wants_line(output: Output) -> bool {
    output.log_format == LogFormat::Text && !output.quiet
}

/// So many keys are named; of more, the first ones and a number.
const NAMED: usize = 4;

/// Keys in a message: `a, b and c`.
pub(crate) fn names(keys: &[Key]) -> String {
    let mut names: Vec<_> = keys.iter().map(Key::to_string).collect();
    if names.len() > NAMED {
        names.truncate(NAMED - 1);
        names.push(format!("{} more", keys.len() - names.len()));
    }
    match names.split_last() {
        Some((last, first @ [_, ..])) => format!("{} and {last}", first.join(", ")),
        Some((only, [])) => only.clone(),
        None => String::new(),
    }
}

/// What the guard says of the lock with these keys if the keeper is gone.
pub(crate) fn last_words(format: LogFormat, keys: &[Key]) -> LastWords {
    const MESSAGE: &str = "the process that held the lock is gone; the command and every process it started are dead";
    match format {
        LogFormat::Text => LastWords { make: |_| format!("consul-lock: {MESSAGE}"), about: String::new() },
        LogFormat::Json => LastWords { make: |names| json::keeper_gone(names, MESSAGE), about: json::names(keys) },
    }
}

/// Whether messages are coloured.
fn is_coloured(when: ColorArg) -> bool {
    is_coloured_on(when, &std::io::stderr())
}

/// Whether to paint on a stream: as anstream finds, by the terminal and NO_COLOR, unless the flag says otherwise. It takes
/// a terminal for coloured where `CI` is set, a dumb one too, which shows what paints as it is.
pub(crate) fn is_coloured_on<S: RawStream>(when: ColorArg, stream: &S) -> bool {
    match when {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => {
            let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
            (forced || !is_dumb()) && AutoStream::choice(stream) != ColorChoice::Never
        }
    }
}

/// Whether the terminal shows control sequences as they are, as far as TERM tells.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}
