//! Readers and writers. A reader holds `KEY/.read/SESSION`, a writer the key itself, and each such entry is a lock: the
//! promise holds for readers too. A reader comes in only while nobody has the key, which one transaction makes sure of.
//! A writer takes the key, from when on no reader comes in, and learns in the same transaction who is inside; then it
//! waits for each of those to go. What is here is what the transactions are made of. Pure.

use super::key::Key;
use super::standing::{LOCK_FLAGS, Standing};
use crate::consul::{Entry, Op, SessionId};

/// Flags of a reader's entry, so that nobody takes it for a lock: "clreader" in ASCII.
pub const READ_FLAGS: u64 = 0x636c_7265_6164_6572;

/// Most bytes of a value that a reader may store. A writer is told of all readers in one answer, which comes in time only
/// while it is not too long: 2,500 readers have 4 MB at most, and some 6,000 with the values that we write.
pub const MAX_VALUE: usize = 1024;

/// Where the readers of a key are, and which of them is our own session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readers {
    /// What they are all below.
    pub(super) prefix: String,
    /// Where our own session would be one.
    pub(super) own: String,
}

impl Readers {
    pub(super) fn of(key: &Key, session: &SessionId) -> Self {
        Self { prefix: format!("{key}/.read/"), own: format!("{key}/.read/{session}") }
    }

    /// By which a writer learns who is inside, to go with what takes the key. A list leaves out without a word what the
    /// token may not see, and a writer that sees no readers would run beside them. So something is checked that Consul
    /// denies: of all that can be asked of a key that is not there without a refusal, `check-not-exists` alone needs a
    /// rule. It needs "write", which a writer needs too where a reader has died.
    pub(super) fn look(&self) -> [Op<'_>; 2] {
        [Op::CheckNotExists { key: &self.own }, self.list()]
    }

    /// The same, where the rule is known to be there.
    pub(super) fn list(&self) -> Op<'_> {
        Op::GetTree { prefix: &self.prefix }
    }

    /// Those inside, among the entries of an answer.
    pub(super) fn inside(&self, entries: &[Entry]) -> Vec<Entry> {
        let is_reader = |entry: &&Entry| entry.flags == READ_FLAGS && entry.key.starts_with(&self.prefix);
        entries.iter().filter(is_reader).cloned().collect()
    }

    /// A reader comes in, past a key that was read as `standing`. For a moment the key itself is taken: Consul refuses
    /// that while the delay of a writer runs who lost it, even where the key went with his session.
    pub(super) fn enter<'a>(
        &'a self,
        key: &'a str,
        standing: &Standing,
        session: &'a SessionId,
        value: &'a [u8],
    ) -> Vec<Op<'a>> {
        let mut ops = vec![standing.check(key)];
        ops.extend(pass(key, session));
        ops.extend([Op::CheckNotExists { key: &self.own }, self.sign(session, value)]);
        ops
    }

    /// The same once more by a reader who may be inside, which proves that no delay was running.
    pub(super) fn enter_again<'a>(&'a self, key: &'a str, session: &'a SessionId, value: &'a [u8]) -> Vec<Op<'a>> {
        let mut ops = vec![Op::CheckSession { key: &self.own, session }, Op::CheckNotExists { key }];
        ops.extend(pass(key, session));
        ops.push(self.sign(session, value));
        ops
    }

    /// A reader goes.
    pub(super) fn go<'a>(&'a self, session: &'a SessionId) -> [Op<'a>; 2] {
        [Op::CheckSession { key: &self.own, session }, Op::Delete { key: &self.own }]
    }

    fn sign<'a>(&'a self, session: &'a SessionId, value: &'a [u8]) -> Op<'a> {
        Op::Lock { key: &self.own, session, value, flags: READ_FLAGS }
    }
}

/// Takes the key and gives it back.
fn pass<'a>(key: &'a str, session: &'a SessionId) -> [Op<'a>; 2] {
    [Op::Lock { key, session, value: b"", flags: LOCK_FLAGS }, Op::Delete { key }]
}

/// A writer takes the place of a reader who has died, as its entry was read. While the reader's delay runs, Consul
/// refuses it.
pub(super) fn bury<'a>(dead: &'a Entry, session: &'a SessionId) -> [Op<'a>; 2] {
    let (key, index) = (dead.key.as_str(), dead.modify_index);
    [Op::CheckIndex { key, index }, Op::Lock { key, session, value: &dead.value, flags: dead.flags }]
}

/// And clears it away. That Consul grants the lock once more proves that it was not granted in the middle of the delay,
/// by a leader who did not know of that yet.
pub(super) fn clear<'a>(dead: &'a Entry, session: &'a SessionId) -> [Op<'a>; 3] {
    let key = dead.key.as_str();
    [
        Op::CheckSession { key, session },
        Op::Lock { key, session, value: &dead.value, flags: dead.flags },
        Op::Delete { key },
    ]
}

#[cfg(test)]
mod model;
