//! A lock that no process keeps: one step of a script acquires it, others renew it and give it back, each by the names of
//! the key and the session. What they need to know beside these is in the [`Record`], which the first of them wrote.

use std::time::Duration;

use super::error::Error;
use super::key::Key;
use super::notice::{Holder, Notice, Tell, Trouble};
use super::patience::{Outlook, Patience};
use super::record::Record;
use super::session::default_name;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Op, Read, RefusalReason, Renewal, SessionId, Txn};

/// Longest wait for the reply to one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A lock that another process acquired with [`LockOptions::detached`](super::LockOptions::detached).
///
/// ```no_run
/// use std::sync::Arc;
/// use consul_lock::Client;
/// use consul_lock::lock::{Detached, LockOptions, Stop};
///
/// let lock = Detached {
///     client: Client::from_env()?,
///     key: std::env::var("CONSUL_LOCK_KEY")?.parse()?,
///     session: std::env::var("CONSUL_LOCK_SESSION")?.parse()?,
///     retry_for: LockOptions::DEFAULT_RETRY_FOR,
///     keep_key: false,
/// };
/// lock.renew(&Stop::new(), &(Arc::new(|_| ())))?;
/// lock.release(&Stop::new(), &(Arc::new(|_| ())))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Detached {
    /// Where.
    pub client: Client,
    /// The lock.
    pub key: Key,
    /// The session that it is held under.
    pub session: SessionId,
    /// How long a Consul that gives no answer is asked again.
    pub retry_for: Duration,
    /// Leave the key in place on release, even if its record does not say so.
    pub keep_key: bool,
}

/// One request's time and the patience with it.
struct Asking<'a> {
    patience: Patience,
    stop: &'a Stop,
    tell: &'a Tell,
}

impl Asking<'_> {
    /// Pauses before the next attempt; the error if there is none.
    fn pause(&mut self, error: ConsulError, sent: Moment) -> Result<(), ConsulError> {
        let Some(pause) = self.patience.failed(Outlook::of(&error), sent, Moment::now()) else { return Err(error) };
        (self.tell)(Notice::Retrying(Trouble::from(&error)));
        self.stop.pause(pause).map_err(|_| error)
    }

    /// Asks until there is an answer; when the request was sent that had it.
    fn ask<T>(&mut self, mut request: impl FnMut() -> Result<T, ConsulError>) -> Result<(T, Moment), ConsulError> {
        loop {
            let sent = Moment::now();
            match request() {
                Ok(answer) => {
                    self.patience.answered();
                    return Ok((answer, sent));
                }
                Err(error) => self.pause(error, sent)?,
            }
        }
    }
}

impl Detached {
    /// Renews the session and makes sure that it holds the key. The answer is until when Consul promises to let it live
    /// without another renewal; nothing for a session without a TTL.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the session does not hold the key (any more); whatever kept Consul from answering.
    pub fn renew(&self, stop: &Stop, tell: &Tell) -> Result<Option<Moment>, Error> {
        let mut asking = self.asking(stop, tell);
        let give_up_at = Moment::now() + self.retry_for;
        let about_session = |error| Error::denied_renewal(&self.client, error);
        loop {
            let renewal = asking.ask(|| self.client.renew_session(&self.session, TIMEOUT));
            let (renewal, sent) = renewal.map_err(about_session)?;
            self.check(&mut asking)?;
            if renewal == Renewal::Gone {
                // A deposed leader said so, from old state: a quorum has just vouched for the contrary.
                if Moment::now() >= give_up_at {
                    return Err(self.not_ours(None));
                }
                stop.pause(TIMEOUT / 10)?;
                continue;
            }
            let info = asking.ask(|| self.client.session_info(&self.session, TIMEOUT)).map_err(about_session)?.0;
            // None: it has ended since, or the token may renew it and not see it. The next step will know.
            return Ok(info.map_or(Some(sent), |info| Some(sent + info.ttl?)));
        }
    }

    /// Gives the key back, and ends the session if it was made for the lock: in that order, since a session that ends
    /// while it holds the key starts the lock delay. Repeated until answered.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the session does not hold the key (any more), [`Error::Attached`] when it is another
    /// process's to give back; whatever kept Consul from answering.
    pub fn release(&self, stop: &Stop, tell: &Tell) -> Result<(), Error> {
        let mut asking = self.asking(stop, tell);
        let entry = self.check(&mut asking)?;
        let ends_session = self.owns_session(&entry, &mut asking)?;
        self.free_key(entry, &mut asking)?;
        if ends_session {
            // It holds nothing any more, and would end by its TTL.
            let _ = asking.ask(|| self.client.destroy_session(&self.session, TIMEOUT));
        }
        Ok(())
    }

    fn asking<'a>(&self, stop: &'a Stop, tell: &'a Tell) -> Asking<'a> {
        Asking { patience: Patience::new(self.retry_for, Some(Moment::now() + self.retry_for)), stop, tell }
    }

    /// The key as a quorum knows it, held by our session.
    fn check(&self, asking: &mut Asking<'_>) -> Result<Entry, Error> {
        let read = asking.ask(|| self.client.get(self.key.as_str(), Read::Consistent, TIMEOUT));
        let entry = read.map_err(|error| self.about_key(error))?.0.entry;
        let holder = entry.as_ref().and_then(Holder::of);
        match entry.filter(|_| holder.as_ref().is_some_and(|holder| holder.session == self.session)) {
            Some(entry) => Ok(entry),
            None => Err(self.not_ours(holder)),
        }
    }

    /// Whether the session was made for this lock. Under a value of the user's own nothing says so but the session's
    /// name.
    fn owns_session(&self, entry: &Entry, asking: &mut Asking<'_>) -> Result<bool, Error> {
        if let Some(record) = Record::read(&entry.value) {
            return match record.detached {
                Some(detached) => Ok(detached.own_session),
                None => Err(Error::Attached { key: self.key.clone(), record: Box::new(record) }),
            };
        }
        let info = asking.ask(|| self.client.session_info(&self.session, TIMEOUT));
        let info = info.map_err(|error| Error::denied_renewal(&self.client, error))?.0;
        Ok(info.is_some_and(|info| info.name == default_name(&self.key)))
    }

    fn free_key(&self, mut entry: Entry, asking: &mut Asking<'_>) -> Result<(), Error> {
        let (key, session) = (self.key.as_str(), &self.session);
        let mut repeated = false;
        loop {
            let record = Record::read(&entry.value);
            let keep = self.keep_key
                || record
                    .as_ref()
                    .and_then(|record| record.detached.as_ref())
                    .is_some_and(|detached| detached.keep_key);
            let value = record.map_or_else(|| entry.value.clone(), |record| record.released().to_value());
            // Unlocking wipes what is not given again, and a key without the flags is refused by the next `consul lock`.
            let last =
                if keep { Op::Unlock { key, session, value: &value, flags: entry.flags } } else { Op::Delete { key } };
            let sent = Moment::now();
            match self.client.txn(&[Op::CheckSession { key, session }, last], TIMEOUT) {
                Ok(Txn::Done(_)) => return Ok(()),
                Ok(Txn::Refused(refusals)) => {
                    if let Some(denied) = refusals.iter().find(|refusal| refusal.reason == RefusalReason::Denied) {
                        return Err(Error::denied_key(&self.client, &self.key, &denied.what));
                    }
                }
                Err(error) => {
                    repeated = true;
                    asking.pause(error, sent).map_err(|error| self.about_key(error))?;
                }
            }
            entry = match self.check(asking) {
                Ok(entry) => entry,
                // The first one went through, and its answer was lost.
                Err(Error::NotOurs { .. }) if repeated => return Ok(()),
                Err(error) => return Err(error),
            };
        }
    }

    fn not_ours(&self, holder: Option<Holder>) -> Error {
        Error::NotOurs { key: self.key.clone(), session: self.session.clone(), holder }
    }

    fn about_key(&self, error: ConsulError) -> Error {
        Error::about_key(&self.client, &self.key, error)
    }
}
