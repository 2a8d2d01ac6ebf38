//! What can happen to a run. Every thread speaks to the one event loop, in these words and no others.

use consul_lock::clock::Moment;
use consul_lock::lock::{Key, Lease, Notice, Record};
use nix::sys::signal::Signal;

use super::outcome::Refused;
use crate::guard::Report;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The lock is ours.
    Acquired(Grant),
    /// The lock could not be had, and nothing is left of the attempt.
    NotAcquired(Refused),
    /// The lock on this machine is held by somebody else, and the waiting has begun.
    WaitingHere {
        /// The lock.
        key: Key,
        /// Who has it.
        holder: Option<Box<Record>>,
        /// What is said should that not change in time; its holders are those for whom to wait would be for ever.
        refused: Refused,
    },
    /// The lock on this machine is held by somebody with another limit than ours.
    OtherLimitHere {
        /// The lock.
        key: Key,
        /// Who has it, and with which limit.
        holder: Box<Record>,
        /// Ours.
        ours: u16,
    },
    /// The lock has something to tell.
    Lock(Notice),
    /// The guard has something to tell.
    Guard(Report),
    /// The guard's end of the line is closed.
    GuardSilent,
    /// The keeper has killed and reaped what the guard could not.
    TakenOver {
        /// Whether there is proof that nobody is left.
        all_dead: bool,
    },
    /// The release has come to an end.
    Released(Released),
    /// A signal came.
    Signal {
        /// Which.
        signal: Signal,
        /// Where from.
        origin: Origin,
    },
    /// The time that the run asked to be woken at has come.
    Tick,
}

/// A lock as it was acquired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Without one the lock cannot be lost.
    pub(crate) lease: Option<Lease>,
    /// The session that holds it, in Consul.
    pub(crate) session: Option<String>,
    /// The fencing tokens, one for each key, in the order of the keys.
    pub(crate) fences: Vec<u64>,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The terminal, which sent it to the whole job.
    Terminal,
    /// The command or a descendant of it.
    Tree,
    /// Anybody else.
    Outside,
}

/// How a release ended.
#[derive(Debug)]
pub(crate) enum Released {
    /// The lock was ours and is free.
    Done,
    /// The lock was not ours any more.
    AlreadyGone,
    /// Nobody confirmed it: why.
    Unanswered(String),
}

/// What the run wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Give up waiting and leave nothing behind.
    StopWaiting,
    /// Have the guard get ready for the start.
    Prepare,
    /// Execute the command, to be dead by the deadline.
    Start(Option<Moment>),
    /// Tell the guard of a later deadline.
    Extend(Moment),
    /// First signal now, SIGKILL at the moment given; at the end of the grace if there is none.
    End(Option<Moment>),
    /// Pass a signal on to the command.
    Forward(Signal),
    /// SIGKILL now.
    Kill,
    /// Kill and reap in the guard's place.
    TakeOver,
    /// Give the lock back.
    Release,
    /// Tell somebody.
    Tell(super::note::Note),
    /// The run is over.
    Finish(super::outcome::Outcome),
}
