//! A lock as it is shown, whichever kind it is: made from what was seen in Consul or on this machine, told as text or as
//! JSON. Moments are kept as such; how long ago they are is for the one who tells.

mod consul;
mod here;
mod json;
mod text;

use std::time::{Duration, SystemTime};

use consul_lock::consul::SessionInfo;
use consul_lock::lock::Record;

/// A lock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    /// Its key.
    pub(crate) key: String,
    /// `lock`, `go-semaphore` or `local`.
    pub(crate) kind: &'static str,
    /// How many may hold it at once.
    pub(crate) limit: u32,
    /// Who holds it.
    pub(crate) holders: Vec<Holder>,
    /// Who waits; nothing if that cannot be seen.
    pub(crate) queue: Option<Vec<Waiter>>,
    /// The lock delay that may be running.
    pub(crate) delay: Option<Delay>,
    /// Another key that may have been meant.
    pub(crate) see_also: Option<String>,
}

/// Who somebody is, by its own record or by what the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Who {
    pub(crate) host: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) user: Option<String>,
    pub(crate) program: Option<String>,
}

/// A holder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    /// Its slot; nothing for readers.
    pub(crate) slot: Option<u32>,
    /// The program that locks for it.
    pub(crate) client: &'static str,
    pub(crate) who: Who,
    pub(crate) since: Option<SystemTime>,
    pub(crate) session: Option<String>,
    /// Its session, where it was asked for and may be read.
    pub(crate) info: Option<SessionInfo>,
    pub(crate) fence: Option<u64>,
    pub(crate) lock_index: Option<u64>,
    /// What the key says, where that is no record.
    pub(crate) value: Vec<u8>,
    /// The record's run, which tells it from any other.
    pub(crate) run: Option<String>,
}

/// Somebody in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) who: Who,
    pub(crate) since: Option<SystemTime>,
    pub(crate) session: Option<String>,
    /// It wants a share in the lock.
    pub(crate) shared: bool,
}

/// A lock delay that may be running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delay {
    /// How long it lasts from the loss on.
    pub(crate) at_most: Duration,
    /// Who lost the lock.
    pub(crate) last: Who,
    /// Its run.
    pub(crate) run: String,
    /// When it is over, for those who saw it begin.
    pub(crate) until: Option<SystemTime>,
}

impl Shown {
    /// Whether anybody holds any of it.
    pub(crate) fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Takes over what was learnt from watching: a lock that was held a moment ago, and is not now without having been
    /// released, was lost at this moment.
    pub(crate) fn remember(&mut self, before: &Self, now: SystemTime) {
        let Some(delay) = &mut self.delay else { return };
        let known = before.delay.as_ref().filter(|known| known.run == delay.run).and_then(|known| known.until);
        let held = before.holders.iter().any(|holder| holder.run.as_deref() == Some(delay.run.as_str()));
        delay.until = known.or(held.then(|| now + delay.at_most));
    }
}

impl Who {
    fn of(record: &Record) -> Self {
        Self {
            host: Some(record.host.clone()),
            pid: Some(record.pid),
            user: Some(record.user.clone()),
            program: Some(record.command.clone()),
        }
    }
}

/// The moment in a record; nothing if somebody wrote nonsense.
fn since(record: &Record) -> Option<SystemTime> {
    humantime::parse_rfc3339(&record.acquired_at).ok()
}
