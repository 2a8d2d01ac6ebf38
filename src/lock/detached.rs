//! A lock that no process keeps: one step of a script acquires it, others renew it and give it back, each by the names of
//! the key and the session. What they need to know beside these is in the [`Record`], which the first of them wrote.

use std::time::Duration;

use super::claim::Claim;
use super::error::Error;
use super::key::Key;
use super::notice::{Holder, Notice, Tell, Trouble};
use super::patience::{Outlook, Patience};
use super::readers::{READ_FLAGS, Readers};
use super::record::Record;
use super::session::default_name;
use super::slots;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Read, RefusalReason, Renewal, SessionId, Txn};

/// Longest wait for the reply to one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A lock that another process acquired with [`LockOptions::detached`](super::LockOptions::detached).
///
/// ```no_run
/// use std::sync::Arc;
/// use consul_lock::Client;
/// use consul_lock::lock::{Detached, LockOptions, Stop, Tell};
///
/// let lock = Detached {
///     client: Client::from_env()?,
///     keys: vec![std::env::var("CONSUL_LOCK_KEY")?.parse()?],
///     session: std::env::var("CONSUL_LOCK_SESSION")?.parse()?,
///     retry_for: LockOptions::DEFAULT_RETRY_FOR,
///     keep_key: false,
/// };
/// let (stop, tell) = (Stop::new(), Arc::new(|_| ()) as Tell);
/// lock.renew(&stop, &tell)?;
/// lock.release(&stop, &tell)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Detached {
    /// Where.
    pub client: Client,
    /// The lock's keys, all of them.
    pub keys: Vec<Key>,
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
    /// Renews the session and makes sure that it holds every key. The answer is until when Consul promises to let it live
    /// without another renewal; nothing for a session without a TTL.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the session does not hold a key (any more); whatever kept Consul from answering.
    pub fn renew(&self, stop: &Stop, tell: &Tell) -> Result<Option<Moment>, Error> {
        let mut asking = self.asking(stop, tell);
        let give_up_at = Moment::now() + self.retry_for;
        let about_session = |error| Error::denied_renewal(&self.client, error);
        loop {
            let renewal = asking.ask(|| self.client.renew_session(&self.session, TIMEOUT));
            let (renewal, sent) = renewal.map_err(about_session)?;
            for key in &self.keys {
                self.claim(key, &mut asking)?;
            }
            if renewal == Renewal::Gone {
                // A deposed leader said so, from old state: a quorum has just vouched for the contrary.
                if Moment::now() >= give_up_at {
                    let what = "it knows no such session, although that holds the key";
                    return Err(Error::refused(&self.client, self.keys.first().map_or("", Key::as_str), what));
                }
                stop.pause(TIMEOUT / 10)?;
                continue;
            }
            let info = asking.ask(|| self.client.session_info(&self.session, TIMEOUT)).map_err(about_session)?.0;
            // None: it has ended since, or the token may renew it and not see it. The next step will know.
            return Ok(info.map_or(Some(sent), |info| Some(sent + info.ttl?)));
        }
    }

    /// Gives all keys back, and ends the session if it was made for the lock: in that order, since a session that ends
    /// while it holds a key starts the lock delay. Repeated until answered.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the session does not hold a key (any more), with the others given back;
    /// [`Error::Attached`] and [`Error::Part`], with nothing given back; whatever kept Consul from answering.
    pub fn release(&self, stop: &Stop, tell: &Tell) -> Result<(), Error> {
        let mut asking = self.asking(stop, tell);
        let (mut claims, mut lost) = (Vec::new(), None);
        for key in &self.keys {
            match self.claim(key, &mut asking) {
                Ok(claim) => claims.push(claim),
                Err(error @ Error::NotOurs { .. }) => lost = lost.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        let ends_session = self.owns_session(&claims, &mut asking)?;
        let lost_since = self.free(claims, &mut asking)?;
        if ends_session {
            // It holds nothing any more, and would end by its TTL.
            let _ = asking.ask(|| self.client.destroy_session(&self.session, TIMEOUT));
        }
        lost.or(lost_since).map_or(Ok(()), Err)
    }

    fn asking<'a>(&self, stop: &'a Stop, tell: &'a Tell) -> Asking<'a> {
        Asking { patience: Patience::new(self.retry_for, Some(Moment::now() + self.retry_for)), stop, tell }
    }

    /// The key as a quorum knows it, held by our session: itself, or a slot or a reader's place below it.
    fn claim(&self, key: &Key, asking: &mut Asking<'_>) -> Result<Claim, Error> {
        let is_ours = |entry: &Entry| entry.session.as_ref() == Some(&self.session);
        let read = asking.ask(|| self.client.get(key.as_str(), Read::Consistent, TIMEOUT));
        let entry = read.map_err(|error| Error::about_key(&self.client, key.as_str(), error))?.0.entry;
        let holder = entry.as_ref().and_then(Holder::of);
        let entry = match entry.filter(is_ours) {
            Some(entry) => entry,
            None => {
                let found = self.below(key, asking)?.into_iter().find(is_ours);
                let (key, session) = (key.clone(), self.session.clone());
                found.ok_or(Error::NotOurs { key, session, holder })?
            }
        };
        let record = Record::read(&entry.value);
        let remembered = record.as_ref().and_then(|record| record.detached.as_ref());
        // A reader's place is nobody else's.
        let keep = entry.flags != READ_FLAGS && (self.keep_key || remembered.is_some_and(|detached| detached.keep_key));
        let (key, path, slot, flags, value) = (key.clone(), entry.key, None, entry.flags, entry.value);
        let (fence, lock_index, create_index) = (entry.modify_index, entry.lock_index, entry.create_index);
        // Whoever knows the session may use it beside us.
        let only_at = Some(fence);
        Ok(Claim { key, path, slot, flags, value, record, keep, fence, lock_index, create_index, only_at })
    }

    /// The slots of a semaphore beyond the first, and our place among the readers. What the token may not see it has not
    /// locked.
    fn below(&self, key: &Key, asking: &mut Asking<'_>) -> Result<Vec<Entry>, Error> {
        let none_if_denied = |result: Result<Vec<Entry>, ConsulError>| match result {
            Err(ConsulError::Denied { .. }) => Ok(Vec::new()),
            result => result.map_err(|error| Error::about_key(&self.client, key.as_str(), error)),
        };
        let place = Readers::of(key, &self.session).own;
        let reader = asking.ask(|| self.client.get(&place, Read::Consistent, TIMEOUT));
        let mut entries = none_if_denied(reader.map(|(reply, _)| reply.entry.into_iter().collect()))?;
        let slots = asking.ask(|| self.client.list(&slots::prefix(key), Read::Consistent, TIMEOUT));
        entries.extend(none_if_denied(slots.map(|(listing, _)| listing.entries))?);
        Ok(entries)
    }

    /// Whether the session was made for this lock. Under a value of the user's own nothing says so but the session's
    /// name.
    fn owns_session(&self, claims: &[Claim], asking: &mut Asking<'_>) -> Result<bool, Error> {
        let mut is_known = false;
        for Claim { key, record, .. } in claims {
            match record.as_ref().map(|record| (record, &record.detached)) {
                None => {}
                Some((record, None)) => {
                    return Err(Error::Attached { key: key.clone(), record: Box::new(record.clone()) });
                }
                Some((_, Some(detached))) if detached.keys > self.keys.len() => {
                    return Err(Error::Part { key: key.clone(), keys: detached.keys, session: self.session.clone() });
                }
                Some((_, Some(detached))) => is_known |= detached.own_session,
            }
        }
        if is_known || claims.iter().all(|claim| claim.record.is_some()) {
            return Ok(is_known);
        }
        let info = asking.ask(|| self.client.session_info(&self.session, TIMEOUT));
        let info = info.map_err(|error| Error::denied_renewal(&self.client, error))?.0;
        Ok(info.is_some_and(|info| info.name == default_name(&self.keys.iter().collect::<Vec<_>>())))
    }

    /// Gives them back, all at once; what turns out to be lost, if anything.
    fn free(&self, mut claims: Vec<Claim>, asking: &mut Asking<'_>) -> Result<Option<Error>, Error> {
        let (mut repeated, mut lost) = (false, None);
        while !claims.is_empty() {
            let values: Vec<_> = claims.iter().map(Claim::released_value).collect();
            let ops: Vec<_> =
                claims.iter().zip(&values).flat_map(|(claim, value)| claim.release(&self.session, value)).collect();
            let sent = Moment::now();
            match self.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(_)) => break,
                Ok(Txn::Refused(refusals)) => {
                    if let Some(denied) = refusals.iter().find(|refusal| refusal.reason == RefusalReason::Denied) {
                        let path = claims.get(denied.op_index / 2).map_or("", Claim::path);
                        return Err(Error::denied_key(&self.client, path, &denied.what));
                    }
                    if let Some(refusal) = refusals.iter().find(|refusal| refusal.reason == RefusalReason::Other) {
                        let path = claims.get(refusal.op_index / 2).map_or("", Claim::path);
                        return Err(Error::refused(&self.client, path, &refusal.what));
                    }
                }
                Err(error) => {
                    repeated = true;
                    let about = |error| Error::about_key(&self.client, claims[0].path(), error);
                    asking.pause(error, sent).map_err(about)?;
                }
            }
            let mut left = Vec::new();
            for claim in &claims {
                match self.claim(&claim.key, asking) {
                    Ok(now) if now.path == claim.path && claim.is_behind(now.create_index, now.lock_index) => {
                        left.push(now)
                    }
                    // The first one went through, and its answer was lost; the session may hold it for another run by now.
                    Ok(_) | Err(Error::NotOurs { .. }) if repeated => {}
                    Ok(_) => {
                        let (key, session) = (claim.key.clone(), self.session.clone());
                        lost = lost.or(Some(Error::NotOurs { key, session, holder: None }));
                    }
                    Err(error @ Error::NotOurs { .. }) => lost = lost.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
            claims = left;
        }
        Ok(lost)
    }
}
