//! Locks of this machine, for a run: its keys one after the other in the order of their bytes, so that no two runs wait for
//! each other, and who is in the way of each.

use std::time::Duration;

use consul_lock::lock::{Key, Record, Sharing};

use super::event::Event;
use super::outcome::{Class, Refused};
use crate::local::{self, Holder, Locks};

/// What a run wants on this machine.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Where.
    pub(crate) locks: Locks,
    /// What, in the order of their bytes.
    pub(crate) keys: Vec<Key>,
    /// With whom.
    pub(crate) sharing: Sharing,
    /// How long to wait; nothing is for ever.
    pub(crate) wait: Option<Duration>,
    /// What the files say while they are held; a record if absent.
    pub(crate) value: Option<Vec<u8>>,
    /// The program named in the record.
    pub(crate) program: Option<String>,
    /// The runs that wait for this one, as CONSUL_LOCK_CHAIN names them.
    pub(crate) ancestors: Vec<String>,
}

/// What is held of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) claims: Vec<Claim>,
    /// This run, as CONSUL_LOCK_CHAIN names it.
    pub(super) link: String,
}

/// A key that is held.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) key: Key,
    pub(super) fence: u64,
    pub(super) held: local::Held,
}

impl Wanted {
    /// Gets all of it, or nothing. Whoever may not wait gives back what he has as soon as one key is somebody else's.
    pub(super) fn acquire(&self, tell: &dyn Fn(Event)) -> Result<Held, Refused> {
        let run = format!("{:016x}", fastrand::u64(..));
        let mut held = Held { claims: Vec::new(), link: link(&run) };
        let taken = self.keys.iter().try_for_each(|key| {
            held.claims.push(self.acquire_one(key, &run, tell)?);
            Ok(())
        });
        match taken {
            Ok(()) => Ok(held),
            Err(refused) => {
                // The end of the process would do the same; what it cannot do is to take the records away.
                let _ = held.release();
                Err(refused)
            }
        }
    }

    fn acquire_one(&self, key: &Key, run: &str, tell: &dyn Fn(Event)) -> Result<Claim, Refused> {
        let mut held = match self.locks.try_lock(key, self.sharing).map_err(|error| refuse(&error))? {
            Some(held) => held,
            None => {
                let obstacle = self.obstacle(key);
                if self.wait.is_some_and(|wait| wait.is_zero()) {
                    return Err(obstacle.refused);
                }
                let Obstacle { holder, other_limit, refused } = obstacle;
                if let Some(holder) = other_limit.map(Box::new) {
                    tell(Event::OtherLimitHere { key: key.clone(), holder, ours: self.sharing.slots() });
                }
                tell(Event::WaitingHere { key: key.clone(), holder: holder.map(Box::new), refused });
                self.locks.lock(key, self.sharing).map_err(|error| refuse(&error))?
            }
        };
        // Dated now, and not when the waiting began.
        let record = || {
            let record = Record::new(self.program.as_deref(), Duration::ZERO).sharing(self.sharing);
            Record { run: run.to_owned(), ..record }
        };
        let value = self.value.clone().unwrap_or_else(|| record().to_value());
        let fence = held.take_fence(run, &value).map_err(|error| refuse(&error))?;
        Ok(Claim { key: key.clone(), fence, held })
    }

    fn obstacle(&self, key: &Key) -> Obstacle {
        let slots = self.sharing.slots();
        let holders: Vec<_> = (1..=slots).map(|slot| self.locks.holders(key, slot).unwrap_or_default()).collect();
        obstacle(key, &holders, &self.ancestors)
    }
}

/// What is in the way of a key.
#[derive(Debug, PartialEq)]
struct Obstacle {
    /// Who is named.
    holder: Option<Record>,
    /// A holder with another limit than ours: as many as the greater one may run at once.
    other_limit: Option<Record>,
    /// What is said when the waiting is over. It names an ancestor where there is one that must end before we begin.
    refused: Refused,
}

/// Picks from the holders of each slot. An ancestor stands in the way for ever where each slot has one; else somebody is
/// named who does not.
fn obstacle(key: &Key, slots: &[Vec<Holder>], ancestors: &[String]) -> Obstacle {
    let run = |holder: &Holder| holder.run.as_deref().map(link);
    let waits_for_us = |holder: &&Holder| run(holder).is_some_and(|run| ancestors.contains(&run));
    let waiting: Vec<_> = slots.iter().filter_map(|holders| holders.iter().find(waits_for_us)).collect();
    let is_for_ever = !slots.is_empty() && waiting.len() == slots.len();
    let all = || slots.iter().flatten();
    let named = if is_for_ever { waiting.first().copied() } else { all().rfind(|holder| !waits_for_us(holder)) };
    let holder = named.and_then(|holder| Record::read(holder.value.as_bytes()));
    let message = match (slots.len(), &holder) {
        (0 | 1, Some(record)) => format!("{key} is held by {record}"),
        (0 | 1, None) => format!("{key} is held by another process on this machine"),
        (slots, Some(record)) => format!("all {slots} slots of {key} are held, one of them by {record}"),
        (slots, None) => format!("all {slots} slots of {key} are held on this machine"),
    };
    let records = || all().filter_map(|holder| Record::read(holder.value.as_bytes()));
    let other_limit = records().find(|record| !record.shared && usize::from(record.limit) != slots.len());
    let holders = named.filter(|_| is_for_ever).and_then(run).into_iter().collect();
    Obstacle { holder, other_limit, refused: Refused { class: Class::Conflict, message, holders } }
}

fn link(run: &str) -> String {
    format!("local:{run}")
}

fn refuse(error: &local::Error) -> Refused {
    Refused::new(if error.is_config() { Class::Configuration } else { Class::Internal }, error)
}

impl Held {
    /// Gives everything back, and tells of the first that could not be.
    pub(super) fn release(self) -> Result<(), local::Error> {
        self.claims.into_iter().rev().map(|claim| claim.held.release()).fold(Ok(()), Result::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(run: &str) -> Holder {
        let record = Record { run: run.to_owned(), command: run.to_owned(), ..Record::new(None, Duration::ZERO) };
        Holder { value: String::from_utf8_lossy(&record.to_value()).into_owned(), run: Some(run.to_owned()) }
    }

    fn found(slots: &[&[&str]], ancestors: &[&str]) -> (Option<String>, Vec<String>) {
        let slots: Vec<Vec<_>> = slots.iter().map(|runs| runs.iter().map(|run| holder(run)).collect()).collect();
        let ancestors: Vec<_> = ancestors.iter().map(|run| link(run)).collect();
        let key: Key = "k".parse().unwrap();
        let Obstacle { holder, refused, .. } = obstacle(&key, &slots, &ancestors);
        assert_eq!(refused.class, Class::Conflict);
        (holder.map(|holder| holder.command), refused.holders)
    }

    #[test]
    fn an_ancestor_stands_in_the_way_for_ever_where_each_slot_has_one() {
        let alone = |name: &str| (Some(name.to_owned()), Vec::<String>::new());
        let for_ever = |name: &str| (Some(name.to_owned()), vec![format!("local:{name}")]);
        // A holder, readers, a semaphore.
        assert_eq!(found(&[&["a"]], &["b"]), alone("a"));
        assert_eq!(found(&[&["a"]], &["b", "a"]), for_ever("a"));
        assert_eq!(found(&[&["a", "b", "c"]], &[]), alone("c"));
        assert_eq!(found(&[&["a", "b", "c"]], &["b"]), for_ever("b"));
        assert_eq!(found(&[&["a"], &["b"]], &["b"]), alone("a"));
        assert_eq!(found(&[&["a"], &["b"]], &["a"]), alone("b"));
        assert_eq!(found(&[&["a"], &["b"]], &["a", "b"]), for_ever("a"));
        assert_eq!(found(&[&["a"], &[]], &["a"]), (None, Vec::new()));
        assert_eq!(found(&[&[]], &["a"]), (None, Vec::new()));
    }

    #[test]
    fn a_holder_without_a_record_is_known_by_its_run() {
        let unnamed = Holder { value: "mine".to_owned(), run: Some("a".to_owned()) };
        let key: Key = "k".parse().unwrap();
        let Obstacle { holder, refused, .. } = obstacle(&key, &[vec![unnamed]], &[link("a")]);
        assert_eq!((holder, refused.holders), (None, vec![link("a")]));
        assert_eq!(refused.message, "k is held by another process on this machine");
    }
}
