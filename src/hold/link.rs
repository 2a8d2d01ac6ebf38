//! What the keeper says to the process in front of it, which prints it: one line of JSON. What that one says is one byte,
//! that the script has the lock; the end of the line without it means that nobody will ever know of the lock.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::Taken;
use crate::run::{Class, Outcome, Refused};

/// What came of the acquisition.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// The lock is held, and will be.
    Held(Taken),
    /// It is not to be had.
    Refused {
        /// What the exit code tells.
        class: Class,
        /// What a person is told.
        message: String,
    },
    /// A signal came.
    Interrupted(i32),
}

impl Word {
    /// The word for an acquisition that failed.
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::NotAcquired(Refused { class, message, .. }) => {
                Self::Refused { class: *class, message: message.clone() }
            }
            Outcome::Interrupted(signal) => Self::Interrupted(*signal as i32),
            other => Self::Refused { class: Class::Internal, message: format!("{other:?}") },
        }
    }

    /// The lock, or what the word was made of.
    pub(super) fn into_result(self) -> Result<Taken, Outcome> {
        match self {
            Self::Held(taken) => Ok(taken),
            Self::Refused { class, message } => Err(Outcome::NotAcquired(Refused::new(class, message))),
            Self::Interrupted(number) => Err(Outcome::Interrupted(Signal::try_from(number).unwrap_or(Signal::SIGTERM))),
        }
    }
}

/// Says a word.
pub(super) fn say(mut link: &UnixStream, word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    link.write_all(&line)
}

/// Waits for the next word; nothing when the keeper is gone.
pub(super) fn hear(link: &mut BufReader<UnixStream>) -> Option<Word> {
    let mut line = Vec::new();
    link.read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// Says that the script has the lock.
pub(super) fn confirm(mut link: &UnixStream) -> io::Result<()> {
    link.write_all(b"!")
}

/// Waits until the script has the lock: false if it never will.
pub(super) fn is_confirmed(mut link: &UnixStream) -> bool {
    let mut byte = [0];
    link.read_exact(&mut byte).is_ok()
}
