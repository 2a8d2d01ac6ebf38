//! Taking the key: the one request that does it, built on a read that showed it free, and the proof that it was not taken
//! in the middle of somebody else's lock delay.

use std::time::Duration;

use super::{Attempt, TIMEOUT};
use crate::clock::Moment;
use crate::consul::{Entry, Op, Refusal, RefusalReason, Txn};
use crate::lock::claim::Claim;
use crate::lock::error::Error;
use crate::lock::key::Key;
use crate::lock::options::Sharing;
use crate::lock::readers::{READ_FLAGS, Readers};
use crate::lock::slots;
use crate::lock::standing::{LOCK_FLAGS, Standing};

/// A consistent read asked a quorum, which elects nobody for this long: a lock transaction that was answered within it
/// was answered by the leader that the read found. A later answer may be a new leader's, in the first moments of which
/// the lock delay is not enforced.
pub(super) const SAME_LEADER: Duration = Duration::from_secs(1);

/// How long a slot is left alone that Consul refused for its lock delay; the pauses in between are no shorter.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The key, as it was taken by a request that was sent at `sent`, which confirms it.
pub(super) struct Won {
    pub(super) claim: Claim,
    pub(super) sent: Moment,
    /// The readers that were inside.
    pub(super) readers: Vec<Entry>,
}

/// What came of asking for the key.
pub(super) enum Asked {
    /// It is ours.
    Won(Box<Won>),
    /// It is ours, but whether its lock delay was kept is not proven.
    Unproven,
    /// Read the key again: it has changed, or the answer was lost.
    Again,
    /// A lock delay is running.
    Delayed,
}

impl Attempt<'_> {
    /// The key in Consul that a slot of ours is.
    pub(super) fn path(&self, slot: u16) -> String {
        if self.is_shared() { self.readers().own } else { slots::path(self.key, slot) }
    }

    pub(super) fn readers(&self) -> Readers {
        Readers::of(self.key, &self.session.id)
    }

    /// Sends the one request that takes the key, or one of its slots, built on a read that showed it free.
    pub(super) fn ask(&mut self, slot: u16, standing: &Standing, read_at: Moment) -> Result<Asked, Error> {
        let (key, readers, witness) = (slots::path(self.key, slot), self.readers(), slots::witness(self.key));
        let session = self.session.id.clone();
        if self.options.value.is_none() && (self.told.is_some() || self.told_delay) {
            self.record.date();
            self.value = self.record.to_value();
        }
        self.tell_asking();
        let sent = Moment::now();
        // After any retry it may have been ours before this very request, which then proves nothing.
        let first_time = self.asked.is_empty();
        let is_new = !self.asked.contains(&slot);
        self.asked.retain(|asked| *asked != slot);
        self.asked.push(slot);
        let mut ops = if self.is_shared() {
            readers.enter(&key, standing, &session, &self.value)
        } else {
            let lock = Op::Lock { key: &key, session: &session, value: &self.value, flags: LOCK_FLAGS };
            vec![standing.check(&key), lock]
        };
        if slot == 1 && !self.is_shared() {
            // Readers keep to the key itself.
            ops.extend(if self.sees_readers { vec![readers.list()] } else { readers.look().to_vec() });
            if self.slots() > 1 {
                // Or a token that may not use the other slots would do today and not tomorrow.
                ops.push(Op::CheckNotExists { key: &witness });
            }
        }
        ops.extend(self.queue.leave());
        match self.client.txn(&ops, TIMEOUT) {
            Ok(Txn::Done(entries)) => {
                self.queue.forget();
                let proven = first_time && Moment::now().since(read_at) < SAME_LEADER;
                Ok(if proven { Asked::Won(Box::new(self.won(slot, &entries, sent)?)) } else { Asked::Unproven })
            }
            Ok(Txn::Refused(refusals)) => {
                // Refused is refused: nothing of ours is in the key.
                if is_new {
                    self.asked.pop();
                }
                let paths: Vec<_> = ops.iter().map(|op| op.key().to_owned()).collect();
                self.refused(slot, &refusals, &paths)
            }
            Err(error) => {
                self.retry_later(error, sent)?;
                Ok(Asked::Again)
            }
        }
    }

    /// What a refusal means; `paths` are the keys that the operations were about.
    pub(super) fn refused(&mut self, slot: u16, refusals: &[Refusal], paths: &[String]) -> Result<Asked, Error> {
        let readers = self.readers();
        for refusal in refusals {
            let path = paths.get(refusal.op_index).map_or_else(|| self.key.as_str(), String::as_str);
            match refusal.reason {
                RefusalReason::LockDelay => {
                    self.delay.refused(slot, Moment::now() + ASK_AGAIN);
                    return Ok(Asked::Delayed);
                }
                RefusalReason::Denied if path == readers.own && !self.is_shared() => {
                    self.try_to_see_readers(&refusal.what)?;
                    return Ok(Asked::Again);
                }
                RefusalReason::Denied => return Err(Error::denied_key(&self.client, path, &refusal.what)),
                RefusalReason::InvalidSession => {
                    self.replace_session()?;
                    return Ok(Asked::Again);
                }
                RefusalReason::Exists if path == readers.own && (self.asked.is_empty() || !self.is_shared()) => {
                    return Err(self.held_by_same_session());
                }
                RefusalReason::Exists if path == slots::witness(self.key) => {
                    return Err(self.foreign(path.to_owned(), "it is in the way of a semaphore's slots"));
                }
                RefusalReason::LockHeld
                | RefusalReason::IndexChanged
                | RefusalReason::Exists
                | RefusalReason::Missing
                | RefusalReason::SessionMismatch => return Ok(Asked::Again),
                RefusalReason::Other => {}
            }
        }
        let what = refusals.first().map_or("", |refusal| refusal.what.as_str());
        Err(Error::refused(&self.client, self.key.as_str(), what))
    }

    /// The key is under our session, but the answer that said so came late or not at all. While a lock delay runs,
    /// Consul refuses the lock even to the session that has the key; so it is asked for again until it is granted. The
    /// check keeps a key that was lost meanwhile from being taken blindly.
    pub(super) fn prove(&mut self, slot: u16) -> Result<Option<Won>, Error> {
        loop {
            self.keep_session()?;
            let (key, readers, session) = (slots::path(self.key, slot), self.readers(), self.session.id.clone());
            let mut ops = if self.is_shared() {
                readers.enter_again(&key, &session, &self.value)
            } else {
                let lock = Op::Lock { key: &key, session: &session, value: &self.value, flags: LOCK_FLAGS };
                vec![Op::CheckSession { key: &key, session: &session }, lock]
            };
            if slot == 1 && !self.is_shared() {
                ops.push(readers.list());
            }
            ops.extend(self.queue.leave());
            let sent = Moment::now();
            match self.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(entries)) => {
                    self.queue.forget();
                    return Ok(Some(self.won(slot, &entries, sent)?));
                }
                Ok(Txn::Refused(refusals)) if refusals.iter().any(|r| r.reason == RefusalReason::LockDelay) => {
                    self.patience.answered();
                    self.pause_in_delay(None)?;
                }
                Ok(Txn::Refused(refusals)) => {
                    let paths: Vec<_> = ops.iter().map(|op| op.key().to_owned()).collect();
                    self.step_out()?;
                    return self.lasting(&refusals, &paths).map_or(Ok(None), Err);
                }
                Err(error) => self.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }

    /// The error of a refusal that would be the same again: to read the key would change nothing.
    pub(super) fn lasting(&self, refusals: &[Refusal], paths: &[String]) -> Option<Error> {
        let lasts = |refusal: &Refusal| matches!(refusal.reason, RefusalReason::Denied | RefusalReason::Other);
        let first = refusals.first().filter(|_| refusals.iter().all(lasts))?;
        let path = paths.get(first.op_index).map_or_else(|| self.key.as_str(), String::as_str);
        Some(match first.reason {
            RefusalReason::Denied => Error::denied_key(&self.client, path, &first.what),
            _ => Error::refused(&self.client, path, &first.what),
        })
    }

    fn won(&self, slot: u16, entries: &[Entry], sent: Moment) -> Result<Won, Error> {
        let readers = if self.is_shared() { Vec::new() } else { self.readers().inside(entries) };
        Ok(Won { claim: self.claim(self.key, slot, entries)?, sent, readers })
    }

    /// The claim on a key, out of the answer that says it is ours.
    pub(super) fn claim(&self, lock: &Key, slot: u16, entries: &[Entry]) -> Result<Claim, Error> {
        let (sharing, session) = (self.options.sharing, &self.session.id);
        let path = if sharing.is_shared() { Readers::of(lock, session).own } else { slots::path(lock, slot) };
        // An answer with another session in it was made for somebody else, and repeated by a proxy or cache.
        let ours = |entry: &&Entry| entry.key == path && entry.session.as_ref() == Some(session);
        let entry = entries
            .iter()
            .rfind(ours)
            .ok_or_else(|| Error::refused(&self.client, &path, "the lock's own entry was not in the answer"))?;
        Ok(Claim {
            key: lock.clone(),
            slot: matches!(sharing, Sharing::Limit(_)).then_some(slot),
            flags: if sharing.is_shared() { READ_FLAGS } else { LOCK_FLAGS },
            value: self.value.clone(),
            record: self.options.value.is_none().then(|| self.record.clone()),
            // A reader's entry has a name that nobody uses again.
            keep: self.options.keep_key && !sharing.is_shared(),
            fence: entry.modify_index,
            lock_index: entry.lock_index,
            create_index: entry.create_index,
            only_at: (!self.session.own).then_some(entry.modify_index),
            path,
        })
    }
}
