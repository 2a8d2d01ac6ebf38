//! What a writer does once the key is its own: no reader comes in any more, and those who are inside are waited for. The
//! key is confirmed meanwhile, since it may be lost as at any time, and the lease begins with the last confirmation.

use std::time::Duration;

use super::take::Won;
use super::wait::LONGEST_WAIT;
use super::{Attempt, TIMEOUT, read};
use crate::clock::Moment;
use crate::consul::{Entry, Error as ConsulError, MAX_OPS, Read, Refusal, RefusalReason, Txn};
use crate::lock::challenge::{REPLAYED, Unproven, Verdict, challenge};
use crate::lock::delay::DelayWatch;
use crate::lock::error::Error;
use crate::lock::notice::{Holder, Notice, Trouble};
use crate::lock::readers::{bury, clear};

/// The longest time without a confirmation.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// What became of a dead reader's entry.
enum Buried {
    /// It is gone.
    Yes,
    /// Its lock delay is running.
    Delayed,
    /// It has changed, or the answer was lost.
    Again,
}

impl Attempt<'_> {
    /// The token may not write what is below `.read/`; if it may read it, that will do.
    pub(super) fn try_to_see_readers(&mut self, answer: &str) -> Result<(), Error> {
        let own = self.readers().own;
        match read(&self.client, &own, Read::Consistent, TIMEOUT) {
            Ok(_) => self.sees_readers = true,
            Err((ConsulError::Denied { .. }, _)) => return Err(Error::denied_key(&self.client, &own, answer)),
            Err((error, sent)) => self.retry_later(error, sent)?,
        }
        Ok(())
    }

    /// Waits for the readers who were inside when the key became ours to go. Nothing if the key was lost meanwhile.
    pub(super) fn outlast_readers(&mut self, mut won: Won) -> Result<Option<Won>, Error> {
        let mut readers = std::mem::take(&mut won.readers);
        if readers.is_empty() {
            return Ok(Some(won));
        }
        // One that waits for us would never go: it is the first to be named.
        let waits_for_us =
            |reader: &Entry| reader.session.as_ref().is_some_and(|id| self.options.ancestors.contains(id));
        readers.sort_by_key(|reader| !waits_for_us(reader));
        self.told = None;
        for reader in readers {
            if !self.outlast(&mut won, reader)? {
                return Ok(self.start_over());
            }
        }
        let is_ours = self.confirm(&mut won)?;
        Ok(if is_ours { Some(won) } else { self.start_over() })
    }

    /// The key is lost, and every answer about it has come.
    fn start_over(&mut self) -> Option<Won> {
        self.asked.clear();
        None
    }

    /// Waits for one reader; false if the key was lost meanwhile.
    fn outlast(&mut self, won: &mut Won, reader: Entry) -> Result<bool, Error> {
        let (path, mut delay, mut index) = (reader.key.clone(), DelayWatch::default(), reader.modify_index);
        let mut entry = Some(reader);
        loop {
            let now = Moment::now();
            delay.observe(entry.as_ref(), now);
            let next = match &entry {
                None => return Ok(true),
                // We have begun to clear it away ourselves.
                Some(left) if left.session.as_ref() == Some(&self.session.id) => {
                    self.clear(left)?;
                    read(&self.client, &path, Read::Consistent, TIMEOUT)
                }
                Some(reader) if reader.session.is_some() => {
                    if let Some(holder) = Holder::of(reader) {
                        self.begin_to_wait(holder)?;
                    }
                    let wait = self.third().min(CONFIRM_AFTER * 2).min(LONGEST_WAIT);
                    self.block(&path, index, wait)?
                }
                Some(dead) => {
                    let known = delay.left(now);
                    let buried = if known.is_some() { Buried::Delayed } else { self.bury(dead)? };
                    match buried {
                        Buried::Yes => return Ok(true),
                        Buried::Delayed => self.pause_in_delay(known)?,
                        Buried::Again => {}
                    }
                    read(&self.client, &path, Read::Consistent, TIMEOUT)
                }
            };
            match next {
                Ok(seen) => {
                    self.patience.answered();
                    (entry, index) = (seen.entry, seen.index);
                }
                Err((error, sent)) => self.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
            // What a renewal says of a session proves nothing; the confirmation does.
            self.session.touch(&self.client, Moment::now());
            if Moment::now().since(won.sent) >= CONFIRM_AFTER && !self.confirm(won)? {
                return Ok(false);
            }
        }
    }

    /// Asks whether the key is still ours.
    fn confirm(&mut self, won: &mut Won) -> Result<bool, Error> {
        loop {
            let sent = Moment::now();
            match challenge(&self.client, std::slice::from_ref(&won.claim), &self.session.id, TIMEOUT) {
                Ok(Verdict::Ours) => {
                    won.sent = sent;
                    return Ok(true);
                }
                Ok(Verdict::NotOurs(_)) => return Ok(false),
                Err(Unproven::Failed(error)) => self.retry_later(error, sent)?,
                Err(Unproven::Refused(_, what)) => {
                    return Err(Error::denied_key(&self.client, won.claim.path(), &what));
                }
                Err(Unproven::Replayed) => {
                    (self.tell)(Notice::Retrying(Trouble(REPLAYED.to_owned())));
                    self.stop.pause(CONFIRM_AFTER)?;
                    if self.time_is_up() {
                        return Err(Error::refused(&self.client, won.claim.path(), REPLAYED));
                    }
                }
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }

    /// Takes a dead reader's place, which proves that his lock delay is over, and clears it away.
    fn bury(&mut self, dead: &Entry) -> Result<Buried, Error> {
        let (session, sent) = (self.session.id.clone(), Moment::now());
        match self.client.txn(&bury(dead, &session), TIMEOUT) {
            Ok(Txn::Done(_)) => Ok(if self.clear(dead)? { Buried::Yes } else { Buried::Again }),
            Ok(Txn::Refused(refusals)) if refusals.iter().any(|r| r.reason == RefusalReason::LockDelay) => {
                Ok(Buried::Delayed)
            }
            Ok(Txn::Refused(refusals)) => self.unless_lasting(&refusals, dead).map(|()| Buried::Again),
            Err(error) => self.retry_later(error, sent).map(|()| Buried::Again),
        }
    }

    /// Clears away what is under our session; false if it is not, or if Consul has not said.
    fn clear(&mut self, dead: &Entry) -> Result<bool, Error> {
        let (session, sent) = (self.session.id.clone(), Moment::now());
        match self.client.txn(&clear(dead, &session), TIMEOUT) {
            Ok(Txn::Done(_)) => Ok(true),
            Ok(Txn::Refused(refusals)) => {
                if refusals.iter().any(|refusal| refusal.reason == RefusalReason::LockDelay) {
                    self.pause_in_delay(None)?;
                }
                self.unless_lasting(&refusals, dead).map(|()| false)
            }
            Err(error) => self.retry_later(error, sent).map(|()| false),
        }
    }

    /// The error of a refusal that would be the same again; all operations were about the dead reader's entry.
    fn unless_lasting(&self, refusals: &[Refusal], dead: &Entry) -> Result<(), Error> {
        let paths = vec![dead.key.clone(); MAX_OPS];
        self.lasting(refusals, &paths).map_or(Ok(()), Err)
    }
}
