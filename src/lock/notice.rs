//! What a lock has to tell while it is waited for and while it is held. The lock decides nothing about messages or
//! processes: whoever asked for it listens, and acts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::record::Record;
use crate::clock::Moment;
use crate::consul::{Entry, Error as ConsulError, SessionId};

/// A thing that happened to a lock.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A key is held by somebody else; told once for each holder.
    Waiting {
        /// Which key.
        key: Key,
        /// Who holds it.
        holder: Holder,
    },
    /// A key is free but nobody may have it yet: the last holder may still be at work.
    Delayed {
        /// Which key.
        key: Key,
        /// How long that goes on, where it is known.
        left: Option<Duration>,
    },
    /// The place in the line of those who wait; told when it changes, as far as it is seen: who is far behind looks rarely.
    Place {
        /// Whose line.
        key: Key,
        /// How many are before us.
        ahead: usize,
    },
    /// The token may not use the line of those who wait, so that we compete with everybody at every release.
    Unqueued {
        /// Whose line.
        key: Key,
        /// Why.
        trouble: Trouble,
    },
    /// Somebody holds the lock with another limit than ours; told once.
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
    /// Consul gave no usable answer and is asked again.
    Retrying(Trouble),
    /// Our session ended while we waited; we go on under this new one.
    SessionReplaced(SessionId),
    /// A key that was held already was lost while another one was waited for. All were given back, and we begin anew.
    StartedAgain {
        /// Which key; nothing if the session ended, and all were lost.
        lost: Option<Key>,
        /// The session that we go on under.
        session: SessionId,
    },
    /// A request that takes the lock is about to be sent, or will be as soon as the key is free: what will be needed then can be
    /// got ready meanwhile.
    Asking,
    /// The lock was ours at a time not before this moment.
    Confirmed(Moment),
    /// A confirmation failed. The lock may still be ours.
    Unconfirmed(Trouble),
    /// Renewals fail, twice in a row; told once until one succeeds. The lock itself may well be confirmed.
    RenewalFailing(Trouble),
    /// The lock is no longer ours.
    Lost {
        /// How that was seen.
        loss: Loss,
        /// The key at which it was seen, if the lock has several; all are lost with it.
        key: Option<Key>,
    },
}

/// Why a request gave nothing to go by, in words for a person.
#[derive(Debug, Clone)]
pub struct Trouble(pub String);

impl From<&ConsulError> for Trouble {
    fn from(error: &ConsulError) -> Self {
        Self(error.to_string())
    }
}

/// Who holds a key, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The session that holds the key.
    pub session: SessionId,
    /// Its record; absent for Go clients and `consul lock`, which store nothing.
    pub record: Option<Box<Record>>,
}

impl Holder {
    /// The holder of an entry; nothing if it is free.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        Some(Self { session: entry.session.clone()?, record: Record::read(&entry.value).map(Box::new) })
    }
}

impl fmt::Display for Holder {
    /// Who it is, and for how long: `backup (pid 71 of root on web1) for 2m 10s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(record) = &self.record else { return write!(f, "session {}", self.session) };
        write!(f, "{record}")?;
        match record.age() {
            // Nobody wants to know that a lock has been held for 3.217 s.
            Some(age) => write!(f, " for {}", humantime::format_duration(Duration::from_secs(age.as_secs()))),
            None => Ok(()),
        }
    }
}

/// How a lock was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The key is there without a session: ours has ended, and the lock delay keeps everybody else out.
    Invalidated,
    /// The key is gone, under behavior "delete": as [`Loss::Invalidated`].
    Deleted,
    /// The key is gone although nothing of ours deletes it: somebody is past the lock delay.
    Removed,
    /// Somebody else holds the key.
    Taken(Holder),
    /// Nothing confirmed the lock for as long as the lease allows.
    Unconfirmed,
    /// More confirmations failed in a row than [`monitor_retries`](super::LockOptions::monitor_retries) bears.
    RetriesSpent(u32),
}

impl Loss {
    /// Whether somebody else may be at work already, so that there is no time for a grace.
    #[must_use]
    pub fn is_past_the_delay(&self) -> bool {
        matches!(self, Self::Removed | Self::Taken(_))
    }

    /// Whether the lock may still be ours, so that it has to be given back.
    #[must_use]
    pub fn is_by_doubt(&self) -> bool {
        matches!(self, Self::Unconfirmed | Self::RetriesSpent(_))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalidated => f.write_str("its session has ended"),
            Self::Deleted => f.write_str("its session has ended and the key with it"),
            Self::Removed => f.write_str("the key was removed by somebody, and others may hold it already"),
            Self::Taken(holder) => match &holder.record {
                Some(record) => write!(f, "{record} holds it already"),
                None => write!(f, "session {} holds it already", holder.session),
            },
            Self::Unconfirmed => f.write_str("nothing has confirmed it for as long as it is safe"),
            Self::RetriesSpent(retries) => write!(f, "more than {retries} confirmations failed in a row"),
        }
    }
}

/// Where notices go. Called from the lock's threads; it must not block.
pub type Tell = Arc<dyn Fn(Notice) + Send + Sync>;
