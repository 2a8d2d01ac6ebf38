//! A lock as it stands in Consul, for those who only look: who holds it, who waits, and who lost it. It is put together
//! from the entries below a key, ours and those of Consul's Go client. Pure; [`Client::lock_view`](crate::Client::lock_view)
//! and [`Client::lock_views`](crate::Client::lock_views) do the reading.

mod gather;
mod read;
mod watch;

use super::record::Record;
use super::standing::{LOCK_FLAGS, SEMAPHORE_FLAGS};
use crate::consul::{Entry, SessionId};

pub use watch::{Sight, watch};

/// A lock with all that belongs to it. Texts in it are as somebody wrote them, and not fit for a terminal
/// ([`plain`](crate::plain)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockView {
    /// The key; for a semaphore of Go's, its prefix.
    pub key: String,
    /// What it is.
    pub kind: Kind,
    /// How many may hold it at once, not counting readers, as far as those who hold it or wait for it tell.
    pub limit: u32,
    /// Who holds it: the slots in their order, then the readers in the order of their coming.
    pub holders: Vec<Holding>,
    /// Who waits, the first in line first.
    pub queue: Vec<Waiting>,
    /// The token may not see who waits, so that the line is empty for us whatever it is.
    pub line_is_hidden: bool,
    /// What was held until its session ended by itself, and has not been taken since: the lock delay of it may be running.
    pub lost: Vec<Lost>,
    /// What is in the key if that is no lock.
    pub foreign: Option<&'static str>,
}

/// The locks below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockList {
    /// In the order of their keys.
    pub locks: Vec<LockView>,
    /// The token may read all of the prefix, so that none is missing.
    pub is_complete: bool,
}

/// What a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One key, with slots below it or not: ours, `consul lock`'s, Go's `api.Lock`'s.
    Lock,
    /// `api.Semaphore` of Consul's Go client, `consul lock -n`.
    GoSemaphore,
}

/// Which part of a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A slot; the key itself is slot 1. Those of a semaphore of Go's have no names and are numbered as they come.
    Slot(u32),
    /// A share in it, as `run --shared` holds.
    Reader,
}

/// Somebody who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What of it.
    pub part: Part,
    /// The session that holds it.
    pub session: SessionId,
    /// The entry: its ModifyIndex is the fence.
    pub entry: Entry,
    /// What the holder says about itself; nothing for clients that say nothing.
    pub record: Option<Record>,
}

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The session that the place in line is under.
    pub session: SessionId,
    /// What it says about itself.
    pub record: Option<Record>,
    /// It wants a share in the lock, and not the lock.
    pub shared: bool,
}

impl Waiting {
    fn of(entry: Entry) -> Option<Self> {
        let record = Record::read(&entry.value);
        let shared = record.as_ref().is_some_and(|record| record.shared);
        Some(Self { session: entry.session?, record, shared })
    }
}

/// A part that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What of it.
    pub part: Part,
    /// Who lost it.
    pub record: Record,
}

/// Which program holds a lock, as far as its traces tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This one.
    ConsulLock,
    /// `consul lock`.
    ConsulLockOfConsul,
    /// A program with Consul's Go client, or one that marks its locks in the same way.
    GoClient,
    /// Anything else, such as `PUT ?acquire=`.
    Other,
}

impl LockView {
    /// Whether anybody holds any of it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }
}

impl Holding {
    fn of(part: Part, entry: Entry) -> Option<Self> {
        Some(Self { part, session: entry.session.clone()?, record: Record::read(&entry.value), entry })
    }

    /// Which program it is; `session_name` is its session's.
    #[must_use]
    pub fn program(&self, session_name: Option<&str>) -> Program {
        let name = session_name.unwrap_or("");
        if self.record.is_some() || name.starts_with("consul-lock ") {
            Program::ConsulLock
        } else if name.starts_with("Consul lock for ") {
            Program::ConsulLockOfConsul
        } else if self.entry.flags == LOCK_FLAGS || self.entry.flags == SEMAPHORE_FLAGS {
            Program::GoClient
        } else {
            Program::Other
        }
    }
}
