//! What a run tells people and programs that watch it. Facts only: how they are worded, and who gets to see them, is
//! the report's business.

use std::time::Duration;

use consul_lock::lock::{Holder, Key, Loss, Notice, Record, Terms};
use nix::sys::signal::Signal;

use super::event::Grant;

/// A thing worth telling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    /// Somebody else has the lock, or one of its keys.
    Waiting {
        /// Which key.
        key: Key,
        /// Who has it.
        holder: Holder,
    },
    /// The same, on this machine alone, by the record in the lock's file.
    WaitingHere {
        /// Which key.
        key: Key,
        /// Who has it.
        holder: Option<Record>,
    },
    /// Nobody has the lock but nobody may have it yet.
    Delayed {
        /// Which key.
        key: Key,
        /// How long that goes on, where it is known.
        left: Option<Duration>,
    },
    /// The place in the line.
    Ahead {
        /// For which key.
        key: Key,
        /// How many are before us.
        ahead: usize,
    },
    /// There is no line to wait in.
    Unqueued {
        /// For which key.
        key: Key,
        /// Why.
        reason: String,
    },
    /// Somebody holds the lock with another limit.
    OtherLimit {
        /// Which key.
        key: Key,
        /// Who.
        holder: Holder,
        /// His limit.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// The same, on this machine alone.
    OtherLimitHere {
        /// Which key.
        key: Key,
        /// Who, and with which limit.
        holder: Box<Record>,
        /// Ours.
        ours: u16,
    },
    /// Consul is asked again, for this reason.
    Retrying(String),
    /// The session died while waiting.
    SessionReplaced(String),
    /// A key was lost while others were waited for; all were given back.
    StartedAgain {
        /// Which key; nothing if the session ended.
        lost: Option<Key>,
        /// The session that the waiting goes on under.
        session: String,
    },
    /// The lock is ours.
    Acquired {
        /// What it is.
        grant: Grant,
        /// How long it took.
        after: Duration,
    },
    /// The lease's plan.
    Plan(Terms),
    /// The promise cannot be kept with these settings.
    NoGuarantee(&'static str),
    /// The command runs.
    Started(i32),
    /// A confirmation failed.
    Unconfirmed {
        /// Why.
        trouble: String,
        /// Time since the last confirmation.
        since: Duration,
        /// Time until the command is told to stop.
        left: Duration,
        /// The first of a row.
        first: bool,
        /// Half of the time is over.
        urgent: bool,
    },
    /// The lock is confirmed; so long after the last time if there was trouble in between.
    Confirmed {
        /// The time without confirmation that has ended, if any.
        after_trouble: Option<Duration>,
    },
    /// Renewals fail while the lock is confirmed.
    RenewalFailing(String),
    /// The lock is lost.
    Lost {
        /// What was seen.
        loss: Loss,
        /// At which of several keys, where it was seen at one.
        key: Option<Key>,
        /// The command is given this long.
        grace: Duration,
    },
    /// The tree of a lost lock is dead.
    Dead {
        /// Time since the loss was noticed.
        after: Duration,
        /// What was left of the lock delay, where anything was.
        left: Option<Duration>,
    },
    /// A signal was passed on to the command.
    Forwarded(Signal),
    /// A signal ends the run or hurries it.
    Hurried(Signal),
    /// The command has ended, with so many descendants left.
    Exited {
        /// Its exit code, if it ended by itself.
        code: Option<i32>,
        /// The signal that it died of, if it did.
        signal: Option<Signal>,
        /// Descendants that live on.
        left: usize,
    },
    /// A process that the command left behind was killed.
    KilledLeftBehind {
        /// Its number.
        pid: i32,
        /// Its program.
        name: String,
    },
    /// A process that cannot be killed.
    Unkillable {
        /// Its number.
        pid: i32,
        /// Its user.
        user: String,
        /// Its program.
        name: String,
    },
    /// The lock is not given back while processes live that cannot be killed.
    HoldingOn,
    /// The guard does not answer; its work is done for it.
    TakingOver,
    /// The lock was given back.
    Released,
    /// The lock was gone when it was given back.
    GoneBeforeRelease,
    /// The file of metrics could not be written.
    MetricsUnwritten(String),
    /// Nobody confirmed the release.
    ReleaseUnanswered(String),
}

impl Note {
    /// Whether the lock is not waited for any more once this was told.
    pub(crate) fn ends_waiting(&self) -> bool {
        let goes_on = matches!(
            self,
            Self::Waiting { .. }
                | Self::WaitingHere { .. }
                | Self::Delayed { .. }
                | Self::Ahead { .. }
                | Self::Unqueued { .. }
                | Self::OtherLimit { .. }
                | Self::OtherLimitHere { .. }
                | Self::Retrying(_)
                | Self::SessionReplaced(_)
                | Self::StartedAgain { .. }
                | Self::NoGuarantee(_)
        );
        !goes_on
    }

    /// What there is to tell of a notice to somebody who waits; of one that concerns a lock that is held, nothing.
    pub(crate) fn while_waiting(notice: Notice) -> Option<Self> {
        match notice {
            Notice::Waiting { key, holder } => Some(Self::Waiting { key, holder }),
            Notice::Delayed { key, left } => Some(Self::Delayed { key, left }),
            Notice::Place { key, ahead } => Some(Self::Ahead { key, ahead }),
            Notice::OtherLimit { key, holder, theirs, ours } => Some(Self::OtherLimit { key, holder, theirs, ours }),
            Notice::Unqueued { key, trouble } => Some(Self::Unqueued { key, reason: trouble.0 }),
            Notice::Retrying(trouble) => Some(Self::Retrying(trouble.0)),
            Notice::SessionReplaced(id) => Some(Self::SessionReplaced(id.to_string())),
            Notice::StartedAgain { lost, session } => Some(Self::StartedAgain { lost, session: session.to_string() }),
            Notice::Asking
            | Notice::Confirmed(_)
            | Notice::Unconfirmed(_)
            | Notice::RenewalFailing(_)
            | Notice::Lost { .. } => None,
        }
    }
}
