//! What an entry in Consul means for somebody who wants the key, and for somebody who holds it. Pure.

use super::notice::{Holder, Loss};
use crate::consul::{Behavior, Entry, Op, SessionId};

/// Flags that mark a key as a lock, the same as Go's `LockFlagValue`, so that `consul lock`, `api.Lock` and this client
/// know each other's keys.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// Flags of the key in which Go's `api.Semaphore` keeps its holders, `SemaphoreFlagValue`.
pub(super) const SEMAPHORE_FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// What is said of such a key.
pub(super) const SEMAPHORES: &str = "a semaphore of Consul's Go client keeps its holders there (consul lock -n)";

/// What a key is to somebody who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is no such key.
    Missing,
    /// It is a lock, held by nobody, last written at this index.
    Free(u64),
    /// Our own session holds it.
    Ours,
    /// Another session holds it.
    Held(Holder),
    /// It is somebody's data.
    Foreign(&'static str),
}

impl Standing {
    pub(super) fn of(entry: Option<&Entry>, session: &SessionId) -> Self {
        let Some(entry) = entry else { return Self::Missing };
        match (foreign(entry), Holder::of(entry)) {
            (Some(what), _) => Self::Foreign(what),
            (None, None) => Self::Free(entry.modify_index),
            (None, Some(holder)) if holder.session == *session => Self::Ours,
            (None, Some(holder)) => Self::Held(holder),
        }
    }

    /// The operation that goes on only if `key`, which was read free, is still as it was.
    pub(super) fn check<'a>(&self, key: &'a str) -> Op<'a> {
        match self {
            Self::Free(index) => Op::CheckIndex { key, index: *index },
            _ => Op::CheckNotExists { key },
        }
    }
}

/// Why an entry is no lock; nothing if it is one, or could become one without a loss to anybody.
#[must_use]
pub fn foreign(entry: &Entry) -> Option<&'static str> {
    if entry.flags == SEMAPHORE_FLAGS {
        return Some(SEMAPHORES);
    }
    let unused = entry.flags == 0 && entry.value.is_empty();
    (entry.flags != LOCK_FLAGS && !unused).then_some("it holds data without the flags that mark a lock")
}

/// Judges a consistent read of a key that we hold: nothing if it is still ours.
pub(super) fn judge(entry: Option<&Entry>, session: &SessionId, behavior: Behavior) -> Option<Loss> {
    match entry {
        None if behavior == Behavior::Delete => Some(Loss::Deleted),
        None => Some(Loss::Removed),
        Some(entry) => match Holder::of(entry) {
            None => Some(Loss::Invalidated),
            Some(holder) if holder.session == *session => None,
            Some(holder) => Some(Loss::Taken(holder)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: char) -> SessionId {
        format!("00000000-0000-0000-0000-00000000000{last}").parse().expect("a session id")
    }

    fn entry(value: &[u8], flags: u64, session: Option<SessionId>) -> Entry {
        Entry { key: "k".into(), value: value.into(), flags, session, lock_index: 1, create_index: 5, modify_index: 7 }
    }

    #[test]
    fn only_locks_and_empty_keys_are_ours_to_take() {
        let of = |value: &[u8], flags, session| Standing::of(Some(&entry(value, flags, session)), &id('1'));
        assert_eq!(Standing::of(None, &id('1')), Standing::Missing);
        assert_eq!(of(b"", 0, None), Standing::Free(7));
        assert_eq!(of(b"{}", LOCK_FLAGS, None), Standing::Free(7));
        assert!(matches!(of(b"data", 0, None), Standing::Foreign(_)));
        assert!(matches!(of(b"", 42, None), Standing::Foreign(_)));
        assert!(matches!(of(b"data", 0, Some(id('2'))), Standing::Foreign(_)));
        assert!(matches!(of(b"", SEMAPHORE_FLAGS, None), Standing::Foreign(why) if why.contains("semaphore")));
        assert_eq!(of(b"", LOCK_FLAGS, Some(id('1'))), Standing::Ours);
        assert!(matches!(of(b"", LOCK_FLAGS, Some(id('2'))), Standing::Held(holder) if holder.session == id('2')));
    }

    #[test]
    fn a_holder_knows_how_it_lost() {
        let with = |session| Some(entry(b"", LOCK_FLAGS, session));
        let judge = |entry: Option<Entry>, behavior| judge(entry.as_ref(), &id('1'), behavior);
        assert_eq!(judge(with(Some(id('1'))), Behavior::Release), None);
        assert_eq!(judge(with(None), Behavior::Release), Some(Loss::Invalidated));
        assert_eq!(judge(None, Behavior::Delete), Some(Loss::Deleted));
        assert_eq!(judge(None, Behavior::Release), Some(Loss::Removed));
        let taken = judge(with(Some(id('2'))), Behavior::Release).expect("somebody has it");
        assert!(taken.is_past_the_delay() && !taken.is_by_doubt());
    }
}
