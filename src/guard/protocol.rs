//! What keeper and guard say to each other: one JSON object a line, over a socket pair. Neither ever waits for the other,
//! who may be stopped: what the socket does not take stays in the outbox.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;

use consul_lock::clock::Moment;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::schedule::Cause;

/// Longest line that is waited for, and most bytes that an outbox holds for a peer that does not read.
const MOST: usize = 1 << 20;

/// What the keeper wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The start may be near: have a process ready.
    Prepare,
    /// Start the command with these variables added to its environment.
    Start { env: Vec<(String, Bytes)>, deadline: Option<Moment> },
    /// A later deadline.
    Extend { deadline: Moment },
    /// First signal now, SIGKILL at `kill_at` or when the grace is over.
    End { kill_at: Option<Moment> },
    /// SIGKILL now.
    Kill,
    /// Send this signal to the command.
    Signal { number: i32 },
}

/// What the guard has to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The command runs.
    Started {
        /// Its pid.
        pid: i32,
    },
    /// fork(2) or execve(2) refused to start it.
    NotStarted {
        /// Their errno.
        errno: i32,
    },
    /// The command has ended.
    Exited {
        /// How.
        status: Status,
        /// How many of its descendants have not; 0 only if [`Report::Gone`] follows at once.
        left: usize,
    },
    /// The tree is being ended, and why.
    Ending {
        /// The first cause there was.
        cause: Cause,
    },
    /// A process that outlived the command is being killed.
    Left {
        /// Its pid.
        pid: i32,
        /// Its program's name.
        name: String,
    },
    /// A process answers EPERM or does not die of SIGKILL. Told once for each.
    Unkillable {
        /// Its pid.
        pid: i32,
        /// Whose it is, by name if /etc/passwd has one.
        user: String,
        /// Its program's name.
        name: String,
    },
    /// No process of the tree is left (with `--background leave`: none that concerns us).
    Gone {
        /// When that was proven.
        at: Moment,
    },
}

/// How a process ended, as waitpid(2) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// It returned this.
    Code(i32),
    /// It died of this signal; realtime signals included.
    Signal(i32),
}

/// Bytes that need not be UTF-8, as text that JSON can carry: each byte is the character of its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bytes(String);

impl From<&OsStr> for Bytes {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().iter().map(|&byte| char::from(byte)).collect())
    }
}

impl From<&Bytes> for OsString {
    fn from(bytes: &Bytes) -> Self {
        Self::from_vec(bytes.0.chars().filter_map(|c| u8::try_from(c).ok()).collect())
    }
}

/// `message` as it goes over the socket.
pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // These types have nothing that JSON cannot carry, and an empty line is skipped by whoever reads it.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The message in a line; `None` for what is none.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

/// Gives the socket as much of `bytes` as it takes without waiting, and says how much that was. The first of them carries the
/// `descriptors`.
///
/// # Errors
/// EAGAIN or ENOBUFS if it takes nothing now, EPIPE if the other end is closed.
pub(super) fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<usize> {
    let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let controls = if descriptors.is_empty() { &[][..] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], controls, MsgFlags::MSG_DONTWAIT, None)
}

/// What has been said and not yet been taken.
#[derive(Debug, Default)]
pub(super) struct Outbox(Vec<u8>);

impl Outbox {
    /// Adds a message; drops it if the peer has not been reading for long.
    pub(super) fn push<T: Serialize>(&mut self, message: &T) {
        if self.0.len() < MOST {
            self.0.extend(encode(message));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the socket as much as it takes.
    ///
    /// # Errors
    /// If the other end is closed.
    pub(super) fn flush(&mut self, socket: &UnixStream) -> io::Result<()> {
        while !self.0.is_empty() {
            match send(socket, &self.0, &[]) {
                Ok(taken) => drop(self.0.drain(..taken)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Cuts what comes in into lines.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    /// Adds bytes and hands out the messages that are complete. What is no message is skipped.
    pub(super) fn take<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Vec<T> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|&byte| byte == b'\n') else {
            if self.0.len() > MOST {
                self.0.clear();
            }
            return Vec::new();
        };
        let rest = self.0.split_off(end + 1);
        let complete = std::mem::replace(&mut self.0, rest);
        // What follows the last line feed is empty: to have that parsed would be an error, and to find its place costs serde_json
        // a look at what the processor can do, which in a virtual machine takes a tenth of a millisecond.
        complete.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).filter_map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn garbage_between_messages_is_skipped() {
        let mut inbox = Inbox::default();
        let text = b"\n{\"Kill\"\n\"Kill\"\n\xff\xfe\n{\"Unheard\":1}\n{\"Signal\":{\"number\":15}}\n{\"Extend\"";
        assert_eq!(inbox.take::<Request>(text), [Request::Kill, Request::Signal { number: 15 }]);
        assert_eq!(inbox.take::<Request>(b":{\"deadline\":7}}\n").len(), 1);
        assert!(inbox.0.is_empty());
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut inbox = Inbox::default();
        for _ in 0..MOST / 1000 + 2 {
            assert!(inbox.take::<Request>(&[b'x'; 1000]).is_empty());
        }
        assert!(inbox.0.len() <= MOST);
        assert_eq!(inbox.take::<Request>(b"\n\"Kill\"\n"), [Request::Kill]);
    }

    #[test]
    fn a_peer_that_does_not_read_costs_no_time_and_little_memory() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mut outbox = Outbox::default();
        let message = Report::Left { pid: 1, name: "x".repeat(1000) };
        for _ in 0..5000 {
            outbox.push(&message);
            outbox.flush(&ours).expect("an open peer");
        }
        assert!(!outbox.is_empty() && outbox.0.len() < 2 * MOST);
        // What was taken and what was kept is whole.
        let reader = std::thread::spawn(move || {
            let mut inbox = Inbox::default();
            let (mut buffer, mut count) = ([0; 4096], 0);
            while let Ok(length @ 1..) = std::io::Read::read(&mut &theirs, &mut buffer) {
                let messages: Vec<Report> = inbox.take(&buffer[..length]);
                assert!(messages.iter().all(|message| matches!(message, Report::Left { pid: 1, .. })));
                count += messages.len();
            }
            (count, inbox.0.len())
        });
        while !outbox.is_empty() {
            outbox.flush(&ours).expect("an open peer");
        }
        drop(ours);
        let (count, rest) = reader.join().expect("a reader");
        assert!(count > 1000 && rest == 0, "{count} messages, {rest} bytes");
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_closed_peer_is_an_error() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        drop(theirs);
        let mut outbox = Outbox::default();
        outbox.push(&Request::Kill);
        assert!(outbox.flush(&ours).is_err());
    }

    proptest! {
        #[test]
        fn a_value_survives_whatever_its_bytes(value: Vec<u8>, cut in 0..200_usize) {
            let value = OsString::from_vec(value);
            let env = vec![("NAME".to_owned(), Bytes::from(value.as_os_str()))];
            let line = encode(&Request::Start { env, deadline: None });
            let (first, second) = line.split_at(cut.min(line.len()));
            let mut inbox = Inbox::default();
            let mut messages = inbox.take::<Request>(first);
            messages.extend(inbox.take::<Request>(second));
            let [Request::Start { env, .. }] = messages.as_slice() else { panic!("{messages:?}") };
            prop_assert_eq!(OsString::from(&env[0].1), value);
        }
    }
}
