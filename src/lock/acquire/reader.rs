//! What a reader does otherwise than those who take the key itself: his entry is one of its own.

use super::{Attempt, TIMEOUT, read};
use crate::clock::Moment;
use crate::consul::{Read, Txn};
use crate::lock::error::Error;

impl Attempt<'_> {
    /// Whether an earlier request, whose answer was lost, has made us a reader.
    pub(super) fn find_own_entry(&mut self) -> Result<bool, Error> {
        loop {
            match read(&self.client, &self.readers().own, Read::Consistent, TIMEOUT) {
                Ok(seen) => {
                    let session = Some(&self.session.id);
                    let is_ours = |entry| self.is_own(entry) && entry.session.as_ref() == session;
                    return Ok(seen.entry.as_ref().is_some_and(is_ours));
                }
                Err((error, sent)) => self.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }

    /// A reader who cannot prove that he came in when he might goes again: a writer waits for him already.
    pub(super) fn step_out(&mut self) -> Result<(), Error> {
        if !self.is_shared() {
            return Ok(());
        }
        let (readers, session) = (self.readers(), self.session.id.clone());
        loop {
            let sent = Moment::now();
            match self.client.txn(&readers.go(&session), TIMEOUT) {
                Ok(Txn::Done(_) | Txn::Refused(_)) => return Ok(()),
                Err(error) => self.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }
}
