//! The live line of somebody who waits at a terminal, and all else that is written there. One thread owns the line: a
//! message goes above it, and it is gone without a trace when the waiting is over. Not indicatif: that draws in the
//! background, too, where `stty tostop` would stop us, leaves pieces behind when a window is made narrower, and knows no
//! Ctrl-Z; and this is one line, once a second.
//!
//! The cursor stays at the line's beginning. Whatever a window that becomes narrower makes of the line is then below it,
//! and what the terminal echoes (`^C`) is written into the line instead of behind it; both go when the line goes. After
//! Enter the line is in the row above, and taken from there.

mod keyboard;
mod waiting;

use std::io::{IsTerminal as _, Write as _, stderr};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpgrp, tcgetpgrp};

pub(crate) use keyboard::Keyboard;
pub(crate) use waiting::Waiting;

use crate::cli::report::is_dumb;
use crate::sys;

/// How often the line is drawn anew, for the times in it.
const TURN: Duration = Duration::from_secs(1);

/// The width of a terminal that does not tell it.
const USUAL_WIDTH: usize = 80;

/// Ends the writing of what is longer than the line at its end (DECAWM), should a character be wider than we think.
const CUT: &str = "\x1b[?7l";

/// Takes that back.
const WRAP: &str = "\x1b[?7h";

/// Standard error, with a live line on it or without.
#[derive(Debug)]
pub(crate) struct Screen {
    may_draw: bool,
    waiting: Option<Waiting>,
    drawn_at: Option<Moment>,
    /// The bytes of typed lines as the line was drawn; nothing while it is not there.
    typed: Option<usize>,
    /// A job in the background has said in a line that it waits.
    has_said: bool,
}

impl Screen {
    /// Standard error; a live line is drawn if that is `wanted` and standard error is the terminal that we work at.
    pub(crate) fn new(wanted: bool) -> Self {
        Self { may_draw: wanted && is_capable(), waiting: None, drawn_at: None, typed: None, has_said: false }
    }

    /// Whether there may be a live line.
    pub(crate) fn may_draw(&self) -> bool {
        self.may_draw
    }

    /// To be called once by the thread that draws.
    pub(crate) fn settle_in(&self) {
        // Under `stty tostop` whoever writes in the background is stopped, and its whole job with it: not for a message.
        let mut set = SigSet::empty();
        set.add(Signal::SIGTTOU);
        let _ = set.thread_block();
    }

    /// Writes a message, above the live line if there is one.
    pub(crate) fn print(&mut self, line: &str) {
        let mut text = self.erasure();
        text.push_str(line);
        text.push('\n');
        self.write_with_line(text);
    }

    /// Shows what is waited for. In the background nothing is drawn, and the first `otherwise` is told instead.
    pub(crate) fn show(&mut self, waiting: Waiting, otherwise: Option<&str>) {
        if self.waiting.replace(waiting).is_none() {
            sys::tidy_before_stop();
        }
        match otherwise {
            Some(line) if !is_in_foreground() => {
                if !std::mem::replace(&mut self.has_said, true) {
                    self.print(line);
                }
            }
            _ => self.draw(),
        }
    }

    /// Takes the line away: the waiting is over.
    pub(crate) fn clear(&mut self) {
        self.has_said = false;
        if self.waiting.take().is_some() {
            let erasure = self.erasure();
            if !erasure.is_empty() {
                write(&erasure);
            }
            self.typed = None;
            sys::stop_as_ever();
        }
    }

    /// How long until the line is drawn anew; nothing without one.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.waiting.as_ref()?;
        Some(self.drawn_at.map_or(TURN, |at| (at + TURN).since(Moment::now())))
    }

    /// Draws the line anew, unless the terminal is somebody else's or takes nothing at the moment.
    pub(crate) fn draw(&mut self) {
        self.drawn_at = Some(Moment::now());
        if is_in_foreground() && is_writable(Duration::ZERO) {
            let erasure = self.erasure();
            self.write_with_line(erasure);
        }
    }

    /// A line was typed: if that has moved the cursor, the line is taken from where it was left at once, so that there is
    /// never more than one row to go back.
    pub(crate) fn look(&mut self) {
        if self.typed.is_some_and(|before| keyboard::pending() > before) {
            self.draw();
        }
    }

    fn write_with_line(&mut self, mut text: String) {
        if let Some(waiting) = self.waiting.as_ref().filter(|_| is_in_foreground()) {
            let line = waiting.line(width(), Moment::now());
            text += &format!("{CUT}{line}{WRAP}\r");
            // Before it is there: a stop in between erases an empty line.
            sys::DRAWN.store(true, Ordering::SeqCst);
        }
        write(&text);
        // Not before: what was typed into somebody else's row is not ours to take back.
        if sys::DRAWN.load(Ordering::SeqCst) {
            self.typed.get_or_insert_with(keyboard::pending);
        }
    }

    /// What takes the line away. In the background it is not ours any more: whoever put us there has written below it.
    fn erasure(&mut self) -> String {
        let before = self.typed.take();
        if !sys::DRAWN.swap(false, Ordering::SeqCst) || !is_in_foreground() {
            return String::new();
        }
        let now = keyboard::pending();
        self.typed = Some(now);
        // One row and no more, however much was typed: a row too few is a blemish, and one too many somebody else's text.
        let is_above = before.is_some_and(|before| now > before) && keyboard::is_echoed();
        let up = known_width().filter(|_| is_above).map(keyboard::up).unwrap_or_default();
        up + sys::ERASE
    }
}

/// One system call, so that what several processes write does not mix.
fn write(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// Whether standard error is a terminal that can take a line back, and the one that our job is controlled by: another
/// one is somebody else's desk.
pub(crate) fn is_capable() -> bool {
    let knows_how = !is_dumb();
    knows_how && stderr().is_terminal() && tcgetpgrp(stderr()).is_ok()
}

fn is_in_foreground() -> bool {
    tcgetpgrp(stderr()) == Ok(getpgrp())
}

/// Whether standard error takes anything within this time: not after Ctrl-S, nor where nobody reads.
pub(crate) fn is_writable(within: Duration) -> bool {
    let error = stderr();
    let mut polled = [PollFd::new(error.as_fd(), PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO)) == Ok(1)
        && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT))
}

fn width() -> usize {
    known_width().unwrap_or(USUAL_WIDTH)
}

fn known_width() -> Option<usize> {
    terminal_size::terminal_size_of(stderr()).map(|(width, _)| usize::from(width.0))
}
