//! The slots of a semaphore. Each slot is a lock by itself, so that the whole promise holds for each: the first is the
//! key, the others are below it, `KEY/.slot/2` and so on. A client with a limit of N takes one of the first N: never more
//! than the largest limit in use run at once, and a client without a limit excludes the holder of the first slot alone.
//! Pure.

use super::key::Key;
use super::notice::Holder;
use super::standing::{SEMAPHORE_FLAGS, Standing};
use crate::consul::Entry;

/// What the slots but the first are below.
pub(super) fn prefix(key: &Key) -> String {
    format!("{key}/.slot/")
}

/// The key of a slot, counted from 1.
pub(super) fn path(key: &Key, slot: u16) -> String {
    if slot <= 1 { key.to_string() } else { format!("{key}/.slot/{slot}") }
}

/// A key that is never there, whose name any rule for the slots is good for: the first slot is the key itself.
pub(super) fn witness(key: &Key) -> String {
    format!("{key}/.slot/1")
}

/// The key that says that Go's `api.Semaphore` uses `key` as its prefix.
pub(super) fn semaphore_path(key: &Key) -> String {
    format!("{key}/.lock")
}

/// Whether Go's `api.Semaphore` is among the entries that were read around a key.
pub(super) fn has_semaphore(key: &Key, entries: &[Entry]) -> bool {
    let path = semaphore_path(key);
    entries.iter().any(|entry| entry.key == path && entry.flags == SEMAPHORE_FLAGS)
}

/// The entries of the slots 1 to `slots` in their order, from that of the key and those below it.
pub(super) fn arrange<'a>(
    key: &Key,
    slots: u16,
    first: Option<&'a Entry>,
    listed: &'a [Entry],
) -> Vec<Option<&'a Entry>> {
    let prefix = prefix(key);
    let mut arranged = vec![None; usize::from(slots.max(1))];
    arranged[0] = first;
    for entry in listed {
        let Some(name) = entry.key.strip_prefix(&prefix) else { continue };
        // A name that is written otherwise than we write it is no slot.
        let number = name.parse::<u16>().ok().filter(|number| *number >= 2 && number.to_string() == name);
        if let Some(place) = number.and_then(|number| arranged.get_mut(usize::from(number) - 1)) {
            *place = Some(entry);
        }
    }
    arranged
}

/// What to do about the slots as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// One of them is somebody's data.
    Foreign(u16, &'static str),
    /// One of them is under our own session.
    Ours(u16),
    /// This one is free, and was so as it says.
    Take(u16, Standing),
    /// None can be had, and these hold some of them.
    Held(Vec<Holder>),
    /// Nobody has one, and nobody may have one yet.
    Delayed,
}

/// Picks a slot: one that was asked for before if that is still to be had, since the answer may be on its way; else any,
/// by `die`, which throws a number below the one it is given. `is_barred` says which slots nothing may be started in yet.
pub(super) fn pick(
    standings: &[Standing],
    asked: Option<u16>,
    is_barred: impl Fn(u16) -> bool,
    die: impl FnOnce(usize) -> usize,
) -> Pick {
    let numbered = || (1_u16..).zip(standings);
    for (slot, standing) in numbered() {
        match standing {
            Standing::Foreign(what) => return Pick::Foreign(slot, what),
            Standing::Ours => return Pick::Ours(slot),
            Standing::Missing | Standing::Free(_) | Standing::Held(_) => {}
        }
    }
    let free: Vec<_> = numbered()
        .filter(|(slot, standing)| matches!(standing, Standing::Missing | Standing::Free(_)) && !is_barred(*slot))
        .collect();
    let again = free.iter().find(|(slot, _)| Some(*slot) == asked);
    let any = || if free.is_empty() { None } else { free.get(die(free.len())) };
    if let Some((slot, standing)) = again.or_else(any) {
        return Pick::Take(*slot, (*standing).clone());
    }
    let holder = |standing: &Standing| match standing {
        Standing::Held(holder) => Some(holder.clone()),
        _ => None,
    };
    let held: Vec<_> = standings.iter().filter_map(holder).collect();
    if held.is_empty() { Pick::Delayed } else { Pick::Held(held) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::standing::LOCK_FLAGS;
    use proptest::prelude::*;

    fn key() -> Key {
        "a/b".parse().expect("a key")
    }

    fn entry(path: &str, flags: u64) -> Entry {
        Entry {
            key: path.into(),
            value: Vec::new(),
            flags,
            session: None,
            lock_index: 1,
            create_index: 5,
            modify_index: 7,
        }
    }

    fn held() -> Standing {
        let session = "00000000-0000-0000-0000-000000000002".parse().expect("a session id");
        Standing::Held(Holder { session, record: None })
    }

    #[test]
    fn each_slot_has_its_key_and_no_other_is_one() {
        assert_eq!([1, 2, 10].map(|slot| path(&key(), slot)), ["a/b", "a/b/.slot/2", "a/b/.slot/10"]);
        let first = entry("a/b", LOCK_FLAGS);
        let names = ["10", "2", "4", "1", "0", "02", "+3", "3x", "99999", ""];
        let listed = names.map(|name| entry(&format!("a/b/.slot/{name}"), LOCK_FLAGS));
        let found = arrange(&key(), 4, Some(&first), &listed);
        let keys: Vec<_> = found.iter().map(|entry| entry.map(|entry| entry.key.as_str())).collect();
        assert_eq!(keys, [Some("a/b"), Some("a/b/.slot/2"), None, Some("a/b/.slot/4")]);
        assert_eq!(arrange(&key(), 1, None, &listed), [None]);
    }

    #[test]
    fn a_semaphore_of_consuls_own_is_known_by_its_key_and_its_flags() {
        let is = |path, flags| has_semaphore(&key(), &[entry(path, flags)]);
        assert!(is("a/b/.lock", SEMAPHORE_FLAGS));
        assert!(!is("a/b/.lock", LOCK_FLAGS) && !is("a/b/.lock/.slot/2", SEMAPHORE_FLAGS));
    }

    #[test]
    fn a_slot_that_was_asked_for_is_asked_for_again() {
        let standings = [Standing::Missing, Standing::Free(7), Standing::Missing];
        assert_eq!(pick(&standings, Some(2), |_| false, |_| 0), Pick::Take(2, Standing::Free(7)));
        assert_eq!(pick(&standings, Some(2), |slot| slot == 2, |_| 1), Pick::Take(3, Standing::Missing));
    }

    #[test]
    fn data_in_any_slot_is_told_and_what_is_ours_is_found() {
        let standings = [Standing::Missing, held(), Standing::Foreign("data")];
        assert_eq!(pick(&standings, None, |_| false, |_| 0), Pick::Foreign(3, "data"));
        assert_eq!(pick(&[Standing::Missing, Standing::Ours], None, |_| false, |_| 0), Pick::Ours(2));
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(Standing::Missing), (1..99_u64).prop_map(Standing::Free), Just(held())]
    }

    proptest! {
        #[test]
        fn only_what_is_free_and_not_barred_is_picked_and_each_of_it_can_be(
            standings in proptest::collection::vec(any_standing(), 1..9), barred in any::<u16>(), seed in any::<usize>(),
        ) {
            let is_barred = |slot: u16| barred & (1 << slot) != 0;
            let is_free = |slot: u16| !matches!(standings[usize::from(slot) - 1], Standing::Held(_)) && !is_barred(slot);
            let free: Vec<u16> = (1..).take(standings.len()).filter(|slot| is_free(*slot)).collect();
            match pick(&standings, None, is_barred, |sides| seed % sides) {
                Pick::Take(slot, standing) => {
                    prop_assert_eq!(slot, free[seed % free.len()]);
                    prop_assert_eq!(standing, standings[usize::from(slot) - 1].clone());
                }
                Pick::Held(holders) => {
                    let count = standings.iter().filter(|standing| **standing == held()).count();
                    prop_assert!(free.is_empty() && count > 0 && holders.len() == count);
                }
                Pick::Delayed => prop_assert!(free.is_empty() && !standings.contains(&held())),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
