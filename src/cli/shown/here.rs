//! What was seen on this machine.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use consul_lock::lock::{Key, Record};
use consul_lock::user;

use super::{Holder, Shown, Waiter, Who, since};
use crate::local::Seen;

impl Shown {
    /// A lock on this machine.
    pub(crate) fn here(key: &Key, seen: Seen) -> Self {
        let Seen { held, record, fence, holder, waiters } = seen;
        let parsed = record.as_deref().and_then(|text| Record::read(text.as_bytes()));
        let holder = held.then(|| Holder {
            slot: Some(1),
            client: "consul-lock",
            who: parsed.as_ref().map_or_else(|| holder.map(process).unwrap_or_default(), Who::of),
            since: parsed.as_ref().and_then(since),
            session: None,
            info: None,
            fence,
            lock_index: None,
            value: if parsed.is_some() { Vec::new() } else { record.unwrap_or_default().into_bytes() },
            run: parsed.map(|record| record.run),
        });
        let waiter = |pid| Waiter { who: process(pid), since: None, session: None, shared: false };
        Self {
            key: key.to_string(),
            kind: "local",
            limit: 1,
            holders: holder.into_iter().collect(),
            queue: Some(waiters.into_iter().map(waiter).collect()),
            delay: None,
            see_also: None,
        }
    }
}

/// What can be told of a process of this machine by its number.
fn process(pid: i32) -> Who {
    let owner = fs::metadata(format!("/proc/{pid}")).ok().map(|found| user::name(found.uid()));
    let host = nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned());
    Who { host, pid: u32::try_from(pid).ok(), user: owner, program: None }
}
