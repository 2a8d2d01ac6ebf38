//! How a run can end.

use consul_lock::consul::Error as ConsulError;
use consul_lock::lock::{self, Loss};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a run ended; one table turns it into an exit code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The command ended by itself with this code while the lock was held.
    Exited(i32),
    /// The command died of a signal while the lock was held.
    Killed(Signal),
    /// A signal came while waiting for the lock.
    Interrupted(Signal),
    /// The lock could not be had.
    NotAcquired(Refused),
    /// The lock was lost and the command killed.
    Lost(Loss),
    /// execve(2) refused the command, with this error.
    NotStarted(i32),
    /// The guard is gone, and the command with it.
    GuardDied,
}

/// Why a lock could not be had, in words and as a class with an exit code of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What the exit code tells.
    pub(crate) class: Class,
    /// What a person is told.
    pub(crate) message: String,
    /// The sessions that have the lock or keys of it, or the run on this machine, as CONSUL_LOCK_CHAIN names them.
    pub(crate) holders: Vec<String>,
}

/// The classes of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Class {
    /// Somebody else has the lock.
    Conflict,
    /// What was asked for cannot be.
    Usage,
    /// Consul is not there.
    Unavailable,
    /// Consul denied it.
    Denied,
    /// Something is set up wrongly.
    Configuration,
    /// The lock is not, or no longer, the one's who gives it for theirs.
    Lost,
    /// A fault of our own, or of the machine.
    Internal,
}

/// What a lock's error means to the one who wanted it.
impl From<&lock::Error> for Class {
    fn from(error: &lock::Error) -> Self {
        use lock::Error;
        match error {
            Error::Held { .. }
            | Error::AllHeld { .. }
            | Error::SeveralHeld(_)
            | Error::Delayed { .. }
            | Error::HeldBySameSession { .. } => Self::Conflict,
            Error::Denied { .. } => Self::Denied,
            Error::Foreign { .. } => Self::Configuration,
            Error::NoSuchSession { .. }
            | Error::Contradiction { .. }
            | Error::TooTight(_)
            | Error::TooManyKeys(_)
            | Error::NoLockDelay(_)
            | Error::SharedDelete
            | Error::SharedValue(_)
            | Error::Attached { .. }
            | Error::Part { .. } => Self::Usage,
            Error::NotOurs { .. } => Self::Lost,
            Error::Consul(error) => Self::from(error),
            _ => Self::Internal,
        }
    }
}

/// What Consul's error means to the one who asked.
impl From<&ConsulError> for Class {
    fn from(error: &ConsulError) -> Self {
        match error {
            ConsulError::Denied { .. } => Self::Denied,
            // Consul is there, and will say the same again.
            ConsulError::Misconfigured { .. }
            | ConsulError::Tls { .. }
            | ConsulError::Redirect { .. }
            | ConsulError::Rejected { .. } => Self::Configuration,
            _ => Self::Unavailable,
        }
    }
}

impl Refused {
    /// Refused for a reason that has nothing to do with a holder.
    pub(crate) fn new(class: Class, message: impl ToString) -> Self {
        Self { class, message: message.to_string(), holders: Vec::new() }
    }

    /// Refused by this error.
    pub(crate) fn by(error: &lock::Error) -> Self {
        let holders = match error {
            lock::Error::Held { holder, .. } | lock::Error::AllHeld { holder, .. } => {
                vec![holder.session.to_string()]
            }
            lock::Error::SeveralHeld(held) => held.iter().map(|(_, holder)| holder.session.to_string()).collect(),
            _ => Vec::new(),
        };
        Self { holders, ..Self::new(Class::from(error), error) }
    }
}
