//! Where the loop hears of everything: of what threads have to say over one channel, of signals by the pipe that their
//! handlers write to, of the guard by its socket. One poll(2) waits for all three, so that neither signals nor the guard
//! need a thread; who sends over the channel rings the pipe as well.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Input;
use super::event::Event;
use super::signals::Signals;
use crate::guard::Listener;

/// The way into the loop. It never blocks, and any number of threads may have one.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    sender: Sender<Input>,
    bell: Arc<UnixStream>,
}

/// The loop's end.
pub(super) struct Inbox {
    receiver: Receiver<Input>,
    signals: Signals,
    /// Nothing once its end is closed, and that was told.
    guard: Option<Listener>,
    heard: VecDeque<Input>,
}

/// A way in, where what goes in comes out, and the other end of the bell.
///
/// # Errors
/// No descriptors to be had.
pub(super) fn open() -> std::io::Result<(Outlet, Receiver<Input>, UnixStream)> {
    let (sender, receiver) = channel();
    let (bell, rung) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    Ok((Outlet { sender, bell: Arc::new(bell) }, receiver, rung))
}

impl Outlet {
    /// Says it to the loop; nobody listens once that has ended, and nothing is lost.
    pub(super) fn send(&self, input: Input) {
        if self.sender.send(input).is_ok() {
            // A pipe that is full has rung.
            let _ = (&*self.bell).write(&[0]);
        }
    }

    /// The end of the pipe that a handler may ring.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub(super) fn bell(&self) -> std::io::Result<UnixStream> {
        self.bell.try_clone()
    }
}

impl Inbox {
    /// Hears all three.
    pub(super) fn new(receiver: Receiver<Input>, signals: Signals, guard: Listener) -> Self {
        Self { receiver, signals, guard: Some(guard), heard: VecDeque::new() }
    }

    /// Waits for the next event, or for `wake_at`. A signal is never overtaken by what came after it.
    pub(super) fn next(&mut self, wake_at: Moment) -> Input {
        loop {
            self.hear();
            if let Some(input) = self.heard.pop_front() {
                return input;
            }
            let left = wake_at.since(Moment::now());
            if left.is_zero() {
                return Input::Event(Event::Tick);
            }
            self.wait(left);
        }
    }

    /// Takes what is there, without waiting.
    fn hear(&mut self) {
        self.heard.extend(self.signals.pending().map(Input::Event));
        if let Some(guard) = &mut self.guard {
            let (reports, open) = guard.reports();
            self.heard.extend(reports.into_iter().map(|report| Input::Event(Event::Guard(report))));
            if !open {
                self.guard = None;
                self.heard.push_back(Input::Event(Event::GuardSilent));
            }
        }
        self.heard.extend(self.receiver.try_iter());
    }

    /// Sleeps until there may be something, for `left` at most. An error, EINTR for one, only means to look again.
    fn wait(&self, left: Duration) {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.guard.as_ref().map(|guard| PollFd::new(guard.as_fd(), PollFlags::POLLIN)));
        // poll(2) has milliseconds; one too early would only be another round.
        let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut polled, timeout);
    }
}
