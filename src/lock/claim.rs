//! One key of a lock that is held. A lock holds one as a rule, and up to [`MAX_CLAIMS`] where several are held together,
//! all under the one session.

use super::key::Key;
use super::record::Record;
use crate::consul::{MAX_OPS, Op, SessionId};

/// Most keys that one session can hold for one lock: giving a key back takes two operations, and all are given back in
/// one transaction.
pub(super) const MAX_CLAIMS: usize = MAX_OPS / 2;

/// A key that is held, as it was acquired.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The lock's name.
    pub(super) key: Key,
    /// Where in Consul the claim is: the key itself, or something below it.
    pub(super) path: String,
    /// Which slot of a semaphore it is, counted from 1; nothing for a lock without a limit.
    pub(super) slot: Option<u16>,
    /// What marks it.
    pub(super) flags: u64,
    pub(super) value: Vec<u8>,
    /// The record in the value, unless the value is the caller's own.
    pub(super) record: Option<Record>,
    /// Whether it stays in place, without a holder, when it is given back.
    pub(super) keep: bool,
    pub(super) fence: u64,
    pub(super) lock_index: u64,
    /// The CreateIndex of what is held.
    pub(super) create_index: u64,
    /// Given back only as it was last changed at this index: the session is not ours alone, and by the time that a request
    /// arrives, late or for the second time, another run under it may have got the lock.
    pub(super) only_at: Option<u64>,
}

impl Claim {
    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The key in Consul that is held: the lock's name, or a key below it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which slot of a semaphore it is, counted from 1; nothing for a lock without a limit.
    #[must_use]
    pub fn slot(&self) -> Option<u16> {
        self.slot
    }

    /// The fencing token: the key's ModifyIndex at acquisition, which grows over the whole life of the cluster.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// The key's LockIndex at acquisition: how often it was locked since it was made.
    #[must_use]
    pub fn lock_index(&self) -> u64 {
        self.lock_index
    }

    /// What the key says once it is given back, if it stays.
    pub(super) fn released_value(&self) -> Vec<u8> {
        self.record.as_ref().map_or_else(|| self.value.clone(), |record| record.released().to_value())
    }

    /// The operations that give it back if `session` holds it, leaving `value` if it stays.
    pub(super) fn release<'a>(&'a self, session: &'a SessionId, value: &'a [u8]) -> [Op<'a>; 2] {
        let (key, flags) = (self.path.as_str(), self.flags);
        let is_ours = Op::CheckSession { key, session };
        // Unlocking wipes what is not given again, and a key without the flags is refused by the next `consul lock`.
        let unlock = Op::Unlock { key, session, value, flags };
        match (self.keep, self.only_at) {
            (false, None) => [is_ours, Op::Delete { key }],
            (false, Some(index)) => [is_ours, Op::DeleteCas { key, index }],
            (true, None) => [is_ours, unlock],
            // Unlocking goes on only if the session holds it.
            (true, Some(index)) => [Op::CheckIndex { key, index }, unlock],
        }
    }

    /// Whether a key that the session holds, with this CreateIndex and LockIndex, is held by this claim, and not for another
    /// run under the same session that got it later.
    pub(super) fn is_behind(&self, create_index: u64, lock_index: u64) -> bool {
        // Whoever writes to a key that is held sets its LockIndex to 0.
        create_index == self.create_index && (lock_index == self.lock_index || lock_index == 0)
    }
}
