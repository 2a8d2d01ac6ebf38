//! What was seen on this machine.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use consul_lock::lock::{Key, Record};
use consul_lock::user;

use super::{Holder, Shown, Waiter, Who, since};
use crate::local::{Holding, Seen};

impl Shown {
    /// A lock on this machine.
    pub(crate) fn here(key: &Key, seen: Seen) -> Self {
        let holders: Vec<_> = seen.holdings.into_iter().map(holder).collect();
        let waiter = |pid| Waiter { who: process(pid), since: None, session: None, shared: false };
        Self {
            key: key.to_string(),
            kind: "local",
            limit: holders.iter().map(|(_, limit)| *limit).max().unwrap_or(1),
            holders: holders.into_iter().map(|(holder, _)| holder).collect(),
            queue: Some(seen.waiters.into_iter().map(waiter).collect()),
            delay: None,
            see_also: None,
        }
    }
}

/// A holder, and how many there may be as far as can be seen.
fn holder(holding: Holding) -> (Holder, u32) {
    let Holding { slot, record, fence, process: pid } = holding;
    let parsed = record.as_deref().and_then(|text| Record::read(text.as_bytes()));
    let limit = parsed.as_ref().map_or(slot, |record| record.limit.max(slot));
    let holder = Holder {
        slot: Some(slot.into()),
        client: "consul-lock",
        who: parsed.as_ref().map_or_else(|| pid.map(process).unwrap_or_default(), Who::of),
        since: parsed.as_ref().and_then(since),
        session: None,
        info: None,
        fence,
        lock_index: None,
        value: if parsed.is_some() { Vec::new() } else { record.unwrap_or_default().into_bytes() },
        run: parsed.map(|record| record.run),
    };
    (holder, limit.into())
}

/// What can be told of a process of this machine by its number.
fn process(pid: i32) -> Who {
    let owner = fs::metadata(format!("/proc/{pid}")).ok().map(|found| user::name(found.uid()));
    let host = nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned());
    Who { host, pid: u32::try_from(pid).ok(), user: owner, program: None }
}
