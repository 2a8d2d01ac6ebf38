//! Taking the key: the one request that does it, built on a read that showed it free, and the proof that it was not taken
//! in the middle of somebody else's lock delay.

use std::time::Duration;

use super::{Attempt, TIMEOUT};
use crate::clock::Moment;
use crate::consul::{Entry, Op, Refusal, RefusalReason, Txn};
use crate::lock::claim::Claim;
use crate::lock::error::Error;
use crate::lock::key::Key;
use crate::lock::standing::{LOCK_FLAGS, Standing};

/// A consistent read asked a quorum, which elects nobody for this long: a lock transaction that was answered within it
/// was answered by the leader that the read found. A later answer may be a new leader's, in the first moments of which
/// the lock delay is not enforced.
pub(super) const SAME_LEADER: Duration = Duration::from_secs(1);

/// The key, as it was taken by a request that was sent at `sent`, which confirms it.
pub(super) struct Won {
    pub(super) claim: Claim,
    pub(super) sent: Moment,
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
    /// Sends the one request that takes the key, built on a read that showed it free.
    pub(super) fn ask(&mut self, standing: &Standing, read_at: Moment) -> Result<Asked, Error> {
        let key = self.key.as_str();
        let check = match standing {
            Standing::Free(index) => Op::CheckIndex { key, index: *index },
            _ => Op::CheckNotExists { key },
        };
        let lock = Op::Lock { key, session: &self.session.id, value: &self.value, flags: LOCK_FLAGS };
        let sent = Moment::now();
        // After any retry the key may have been ours before this very request, which then proves nothing.
        let first_time = !std::mem::replace(&mut self.asked, true);
        let ops: Vec<_> = [check, lock].into_iter().chain(self.queue.leave()).collect();
        match self.client.txn(&ops, TIMEOUT) {
            Ok(Txn::Done(entries)) => {
                self.queue.forget();
                let proven = first_time && Moment::now().since(read_at) < SAME_LEADER;
                Ok(if proven { Asked::Won(Box::new(self.won(&entries, sent)?)) } else { Asked::Unproven })
            }
            Ok(Txn::Refused(refusals)) => {
                // Refused is refused: nothing of ours is in the key.
                self.asked = !first_time;
                self.refused(&refusals)
            }
            Err(error) => {
                self.retry_later(error, sent)?;
                Ok(Asked::Again)
            }
        }
    }

    pub(super) fn refused(&mut self, refusals: &[Refusal]) -> Result<Asked, Error> {
        for refusal in refusals {
            match refusal.reason {
                RefusalReason::LockDelay => return Ok(Asked::Delayed),
                RefusalReason::Denied => return Err(Error::denied_key(&self.client, self.key.as_str(), &refusal.what)),
                RefusalReason::InvalidSession => {
                    self.replace_session()?;
                    return Ok(Asked::Again);
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
    pub(super) fn prove(&mut self) -> Result<Option<Won>, Error> {
        let key = self.key.as_str();
        loop {
            self.keep_session()?;
            let session = &self.session.id;
            let lock = Op::Lock { key, session, value: &self.value, flags: LOCK_FLAGS };
            let ops: Vec<_> = [Op::CheckSession { key, session }, lock].into_iter().chain(self.queue.leave()).collect();
            let sent = Moment::now();
            match self.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(entries)) => {
                    self.queue.forget();
                    return Ok(Some(self.won(&entries, sent)?));
                }
                Ok(Txn::Refused(refusals)) if refusals.iter().any(|r| r.reason == RefusalReason::LockDelay) => {
                    self.patience.answered();
                    self.pause_in_delay(None)?;
                }
                Ok(Txn::Refused(_)) => return Ok(None),
                Err(error) => self.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }

    fn won(&self, entries: &[Entry], sent: Moment) -> Result<Won, Error> {
        Ok(Won { claim: self.claim(self.key, entries)?, sent })
    }

    /// The claim on a key, out of the answer that says it is ours.
    pub(super) fn claim(&self, lock: &Key, entries: &[Entry]) -> Result<Claim, Error> {
        let (key, session) = (lock.as_str(), Some(&self.session.id));
        // An answer with another session in it was made for somebody else, and repeated by a proxy or cache.
        let ours = |entry: &&Entry| entry.key == key && entry.session.as_ref() == session;
        let entry = entries
            .iter()
            .rfind(ours)
            .ok_or_else(|| Error::refused(&self.client, key, "the lock's own entry was not in the answer"))?;
        Ok(Claim {
            key: lock.clone(),
            path: key.to_owned(),
            flags: LOCK_FLAGS,
            value: self.value.clone(),
            record: self.options.value.is_none().then(|| self.record.clone()),
            keep: self.options.keep_key,
            fence: entry.modify_index,
            lock_index: entry.lock_index,
        })
    }
}
