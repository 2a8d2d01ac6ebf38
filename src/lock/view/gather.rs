//! From entries to locks. What belongs to a lock is told by its path and its flags: `KEY` and `KEY/.slot/N` are its slots,
//! `KEY/.read/SESSION` its readers, `KEY/.queue/SESSION` its line, and `PREFIX/.lock` beside `PREFIX/SESSION` is a
//! semaphore of Go's where the flags say so.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::{Holding, Kind, LockView, Lost, Part, Waiting};
use crate::consul::{Entry, SessionId};
use crate::lock::queue::QUEUE_FLAGS;
use crate::lock::readers::READ_FLAGS;
use crate::lock::record::Record;
use crate::lock::standing::{LOCK_FLAGS, SEMAPHORE_FLAGS, foreign};

/// What an entry is to the lock that it belongs to.
enum Role {
    Part(Part),
    Waiter,
    Semaphore,
    Contender,
}

/// The entries of one lock.
#[derive(Default)]
struct Parts {
    held: Vec<(Part, Entry)>,
    waiters: Vec<Entry>,
    semaphore: Option<Entry>,
    contenders: Vec<Entry>,
}

/// All locks among `entries`, by their keys. What is no lock is left out.
pub(super) fn all(entries: Vec<Entry>) -> Vec<LockView> {
    let mut locks: BTreeMap<String, Parts> = BTreeMap::new();
    for entry in entries {
        let (base, role) = role(&entry);
        let is_data = entry.session.is_none() && !is_marked(&entry);
        if is_data && matches!(role, Role::Part(_)) {
            continue;
        }
        locks.entry(base.to_owned()).or_default().add(role, entry);
    }
    locks.into_iter().flat_map(|(key, parts)| parts.views(key)).collect()
}

/// The lock `key`, of which `entries` has everything.
pub(super) fn one(key: &str, entries: Vec<Entry>) -> LockView {
    let mut parts = Parts::default();
    for entry in entries {
        let (base, role) = role(&entry);
        if base == key {
            parts.add(role, entry);
        }
    }
    let semaphore = parts.semaphore.is_some();
    let mut views = parts.views(key.to_owned());
    // Where both are, the semaphore is what keeps others out.
    let wanted = if semaphore { views.pop() } else { views.drain(..).next() };
    wanted.unwrap_or_else(|| empty(key.to_owned(), Kind::Lock))
}

fn role(entry: &Entry) -> (&str, Role) {
    let key = entry.key.as_str();
    if entry.flags == SEMAPHORE_FLAGS {
        if let Some(prefix) = key.strip_suffix("/.lock") {
            return (prefix, Role::Semaphore);
        }
        if let Some((prefix, name)) = key.rsplit_once('/')
            && name.parse::<SessionId>().is_ok()
        {
            return (prefix, Role::Contender);
        }
    }
    if let Some((rest, name)) = key.rsplit_once('/') {
        if let Some(base) = rest.strip_suffix("/.slot")
            && let Ok(number @ 2..) = name.parse()
        {
            return (base, Role::Part(Part::Slot(number)));
        }
        if let Some(base) = rest.strip_suffix("/.read") {
            return (base, Role::Part(Part::Reader));
        }
        if let Some(base) = rest.strip_suffix("/.queue")
            && entry.flags == QUEUE_FLAGS
        {
            return (base, Role::Waiter);
        }
    }
    (key, Role::Part(Part::Slot(1)))
}

/// Whether its flags say that it is a lock or a share in one.
fn is_marked(entry: &Entry) -> bool {
    entry.flags == LOCK_FLAGS || entry.flags == READ_FLAGS
}

fn empty(key: String, kind: Kind) -> LockView {
    let (holders, queue, lost) = (Vec::new(), Vec::new(), Vec::new());
    LockView { key, kind, limit: 1, holders, queue, line_is_hidden: false, lost, foreign: None }
}

impl Parts {
    fn add(&mut self, role: Role, entry: Entry) {
        match role {
            Role::Part(part) => self.held.push((part, entry)),
            Role::Waiter => self.waiters.push(entry),
            Role::Semaphore => self.semaphore = Some(entry),
            Role::Contender => self.contenders.push(entry),
        }
    }

    /// The lock of this name, and the semaphore of Go's that has the same. Contenders alone are neither.
    fn views(self, key: String) -> Vec<LockView> {
        let Self { held, waiters, semaphore, contenders } = self;
        let mut views = Vec::new();
        if !held.is_empty() || !waiters.is_empty() {
            views.push(lock(key.clone(), held, waiters));
        }
        if let Some(semaphore) = semaphore {
            views.push(go_semaphore(key, &semaphore, contenders));
        }
        views
    }
}

fn lock(key: String, mut held: Vec<(Part, Entry)>, mut waiters: Vec<Entry>) -> LockView {
    let mut view = empty(key, Kind::Lock);
    held.sort_by_key(|(part, entry)| (*part, entry.create_index));
    waiters.sort_by_key(|entry| entry.create_index);
    let entries = held.iter().map(|(_, entry)| entry).chain(&waiters);
    let numbers = held.iter().map(|(part, _)| if let Part::Slot(number) = part { *number } else { 1 });
    view.limit =
        entries.filter_map(|entry| Some(Record::read(&entry.value)?.limit.into())).chain(numbers).fold(1, u32::max);
    for (part, entry) in held {
        if entry.session.is_none() {
            let record = Record::read(&entry.value).filter(|record| record.released_at.is_none());
            view.lost.extend(record.filter(|_| is_marked(&entry)).map(|record| Lost { part, record }));
            if part == Part::Slot(1) {
                view.foreign = foreign(&entry);
            }
        } else {
            view.holders.extend(Holding::of(part, entry));
        }
    }
    // Read a moment earlier than the key, an entry can be of somebody who has the lock by now.
    let sessions: HashSet<_> = view.holders.iter().map(|holder| &holder.session).collect();
    let runs: HashSet<_> =
        view.holders.iter().filter_map(|holder| Some(holder.record.as_ref()?.run.as_str())).collect();
    view.queue = waiters
        .into_iter()
        .filter_map(Waiting::of)
        .filter(|waiter| !sessions.contains(&waiter.session))
        .filter(|waiter| waiter.record.as_ref().is_none_or(|record| !runs.contains(record.run.as_str())))
        .collect();
    view
}

/// What Go's semaphore keeps in its key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoSemaphore {
    limit: u32,
    #[serde(default)]
    holders: Option<HashMap<String, bool>>,
}

/// A semaphore of Go's: who stands in its key holds it as long as its contender entry has its session.
fn go_semaphore(prefix: String, entry: &Entry, mut contenders: Vec<Entry>) -> LockView {
    let mut view = empty(prefix, Kind::GoSemaphore);
    let state = serde_json::from_slice::<GoSemaphore>(&entry.value).ok();
    view.limit = state.as_ref().map_or(1, |state| state.limit);
    let names = state.and_then(|state| state.holders).unwrap_or_default();
    contenders.sort_by_key(|entry| entry.create_index);
    for entry in contenders {
        let Some(session) = entry.session.clone() else { continue };
        if names.contains_key(session.as_str()) {
            let number = u32::try_from(view.holders.len() + 1).unwrap_or(u32::MAX);
            view.holders.extend(Holding::of(Part::Slot(number), entry));
        } else {
            view.queue.extend(Waiting::of(entry));
        }
    }
    view
}

#[cfg(test)]
mod tests;
