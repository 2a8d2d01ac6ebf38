//! What a run tells, on standard error and nowhere else. A message never delays a decision: one thread writes, from a
//! queue of fixed length; what finds it full is dropped and counted; and an error in writing is nobody's business.

mod json;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
use std::time::Duration;

use consul_lock::lock::Key;
use nix::sys::signal::Signal;

use super::output::{ColorArg, LogFormat, Output};
use crate::run::Note;
use json::Json;
use text::Text;

/// Messages that may wait for a reader of standard error.
const QUEUE: usize = 256;

/// How long the last messages of a run are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
    format: Format,
    level: Level,
    writer: Option<Writer>,
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
            LogFormat::Text => Format::Text(Text::new(&keys, first_signal, is_coloured(output.color))),
            LogFormat::Json => Format::Json(Json::new(keys)),
        };
        Self { format, level, writer: None, dropped: 0 }
    }

    /// Takes a note and queues what is to be told of it; never waits. The writer is started by the first line that there
    /// is: most runs have nothing to say.
    pub(crate) fn tell(&mut self, note: &Note) {
        let line = match &mut self.format {
            Format::Text(text) => text.line(note, self.level),
            Format::Json(json) => json.line(note, self.level),
        };
        let Some(line) = line else { return };
        let writer = self.writer.get_or_insert_with(Writer::start);
        if self.dropped > 0 {
            let message = format!("{} messages were dropped: nobody read standard error", self.dropped);
            let line = match &self.format {
                Format::Text(text) => text.plain(&message),
                Format::Json(json) => json.plain(&message),
            };
            if writer.lines.try_send(line).is_ok() {
                self.dropped = 0;
            }
        }
        if writer.lines.try_send(line).is_err() {
            self.dropped += 1;
        }
    }

    /// Waits until all is written, but not for a standard error that nobody reads.
    pub(crate) fn finish(self) {
        if let Some(writer) = self.writer {
            drop(writer.lines);
            let _ = writer.done.recv_timeout(LAST_WORDS);
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

/// One system call a line, so that lines of several processes do not mix.
fn write_line(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// A line without a writer: in a thread all the same, which is not waited for if nobody reads.
pub(crate) fn write_last(line: String) {
    let (finished, done) = mpsc::channel::<()>();
    let write = move || {
        write_line(&line);
        drop(finished);
    };
    if std::thread::Builder::new().name("report".into()).spawn(write).is_ok() {
        let _ = done.recv_timeout(LAST_WORDS);
    }
}

fn is_coloured(when: ColorArg) -> bool {
    is_coloured_on(when, std::io::stderr().is_terminal())
}

/// Whether to paint on a stream that is a terminal or not.
pub(crate) fn is_coloured_on(when: ColorArg, is_terminal: bool) -> bool {
    match when {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => {
            let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
            is_terminal && unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    lines: SyncSender<String>,
    done: Receiver<()>,
}

impl Writer {
    fn start() -> Self {
        let (lines, inbox) = sync_channel::<String>(QUEUE);
        let (finished, done) = mpsc::channel::<()>();
        let write = move || {
            inbox.iter().for_each(|line| write_line(&line));
            drop(finished);
        };
        // Without a thread nothing is told, which is no reason not to run.
        let _ = std::thread::Builder::new().name("report".into()).spawn(write);
        Self { lines, done }
    }
}
