//! A lock that is held: what is known of it, and giving it back.

use std::time::Duration;

use super::claim::Claim;
use super::courtesy;
use super::error::Error;
use super::key::Key;
use super::lease::Lease;
use super::options::LockOptions;
use super::patience::{Outlook, Patience};
use super::session::LockSession;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Read, Refusal, RefusalReason, SessionId, Txn};

/// Longest wait for the reply to one request of a release.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A lock as it was acquired: one key or several under one session, with one lease.
#[derive(Debug, Clone)]
pub struct Holding {
    pub(super) client: Client,
    pub(super) session: LockSession,
    /// Never empty.
    pub(super) claims: Vec<Claim>,
    pub(super) lease: Lease,
    pub(super) retry_for: Duration,
    pub(super) monitor_retries: Option<u32>,
    pub(super) monitor_retry_time: Duration,
    /// Somebody was behind us in the line.
    pub(super) is_awaited: bool,
}

/// What became of a release.
#[derive(Debug)]
pub enum Release {
    /// The lock was ours and is free.
    Released,
    /// The lock was not ours any more; where it had several keys, one of them was not, and the others are free.
    AlreadyGone,
    /// Whether Consul heard of it is not known; the session was ended where that could be done, and ends by its TTL
    /// else.
    Unanswered(Error),
}

impl Holding {
    /// `claims`, of which there is one at least, all held under `session` as confirmed by a request sent at `sent`.
    pub(super) fn new(
        client: &Client,
        options: &LockOptions,
        session: &LockSession,
        claims: Vec<Claim>,
        sent: Moment,
    ) -> Self {
        Self {
            client: client.clone(),
            session: session.clone(),
            claims,
            lease: Lease::new(session.terms, sent),
            retry_for: options.retry_for,
            monitor_retries: options.monitor_retries,
            monitor_retry_time: options.monitor_retry_time,
            is_awaited: false,
        }
    }

    /// What is held: one key as a rule, several in the order of their bytes.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The key; the first of several.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.claims[0].key()
    }

    /// The session that holds it.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session.id
    }

    /// The fencing token: the key's ModifyIndex at acquisition, which grows over the whole life of the cluster. Of
    /// several keys, the first one's.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.claims[0].fence
    }

    /// The key's LockIndex at acquisition: how often it was locked since it was made. Of several keys, the first one's.
    #[must_use]
    pub fn lock_index(&self) -> u64 {
        self.claims[0].lock_index
    }

    /// The lease as of the acquisition.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// Whether somebody was behind us in the queue when the lock was acquired.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// Until when Consul promises to let the session live if nobody renews it from now on; nothing for one without a TTL. It
    /// is long past for a session that was given and that has not been renewed here.
    #[must_use]
    pub fn expires(&self) -> Option<Moment> {
        self.session.expires()
    }

    /// Gives everything back and then ends the session, if it is ours: in that order, since a session that ends while it
    /// holds a key starts the lock delay. Repeated until answered, for `retry_for` or until `stop` is thrown.
    pub fn release(&self, stop: &Stop) -> Release {
        let result = self.free_keys(stop, TIMEOUT);
        if self.session.own {
            if self.is_awaited && matches!(result, Release::Released) {
                let _ = stop.pause(courtesy::WHEN_GIVEN_BACK);
            }
            self.end_session(stop, matches!(result, Release::Unanswered(_)));
        }
        result
    }

    /// Gives everything back, all at once; those that are not ours any more are left out of the next try. No request
    /// takes longer than `timeout`.
    pub(super) fn free_keys(&self, stop: &Stop, timeout: Duration) -> Release {
        let mut left: Vec<_> = self.claims.iter().map(|claim| (claim.clone(), claim.released_value())).collect();
        let mut patience = self.patience();
        let (mut repeated, mut gone) = (false, false);
        while !left.is_empty() {
            let ops: Vec<_> = left.iter().flat_map(|(claim, value)| claim.release(&self.session.id, value)).collect();
            let sent = Moment::now();
            let error = match self.client.txn(&ops, timeout) {
                Ok(Txn::Done(_)) => break,
                Ok(Txn::Refused(refusals)) => {
                    let path = |op: usize| left.get(op / 2).map_or("", |(claim, _)| claim.path());
                    if let Some(denied) = refusals.iter().find(|refusal| refusal.reason == RefusalReason::Denied) {
                        let path = path(denied.op_index);
                        return Release::Unanswered(Error::denied_key(&self.client, path, &denied.what));
                    }
                    if refusals.iter().all(|refusal| refusal.op_index / 2 >= left.len()) {
                        return Release::Unanswered(Error::refused(&self.client, path(0), &refusals[0].what));
                    }
                    match self.still_held(&left, &refusals, timeout) {
                        Ok(held) => {
                            gone |= !repeated && held.len() < left.len();
                            left = held;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            repeated = true;
            let Some(pause) = self.pause(&mut patience, &error, sent) else {
                return Release::Unanswered(Error::about_key(&self.client, left[0].0.path(), error));
            };
            if stop.pause(pause).is_err() {
                return Release::Unanswered(error.into());
            }
        }
        // Refused after a repetition, it is ours no more since the first one went through, and its answer was lost.
        if gone { Release::AlreadyGone } else { Release::Released }
    }

    /// What is held still of the claims, with the values that they are to leave, whose release was refused so.
    fn still_held(
        &self,
        claims: &[(Claim, Vec<u8>)],
        refusals: &[Refusal],
        timeout: Duration,
    ) -> Result<Vec<(Claim, Vec<u8>)>, ConsulError> {
        let mut held = Vec::new();
        for (number, (claim, value)) in claims.iter().enumerate() {
            let reasons: Vec<_> = refusals.iter().filter(|r| r.op_index / 2 == number).map(|r| r.reason).collect();
            let mut claim = claim.clone();
            if claim.only_at.is_some() && reasons.contains(&RefusalReason::IndexChanged) {
                // Somebody wrote to the key, which stays held by that; or the session holds it for another run by now.
                let entry = self.client.get(claim.path(), Read::Consistent, timeout)?.entry;
                let is_this = |entry: &Entry| {
                    entry.session.as_ref() == Some(&self.session.id)
                        && claim.is_behind(entry.create_index, entry.lock_index)
                };
                let Some(entry) = entry.filter(is_this) else { continue };
                claim.only_at = Some(entry.modify_index);
            } else if !reasons.is_empty() {
                continue;
            }
            held.push((claim, value.clone()));
        }
        Ok(held)
    }

    /// One attempt where the release had no answer; else until there is one.
    fn end_session(&self, stop: &Stop, once: bool) {
        let mut patience = self.patience();
        loop {
            let sent = Moment::now();
            match self.client.destroy_session(&self.session.id, TIMEOUT) {
                Err(error) if !once => {
                    let Some(pause) = self.pause(&mut patience, &error, sent) else { return };
                    if stop.pause(pause).is_err() {
                        return;
                    }
                }
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// A busy server too is asked for so long and no longer: the command has ended, and somebody waits for us.
    fn patience(&self) -> Patience {
        Patience::new(self.retry_for, Some(Moment::now() + self.retry_for))
    }

    fn pause(&self, patience: &mut Patience, error: &ConsulError, sent: Moment) -> Option<Duration> {
        patience.failed(Outlook::of(error), sent, Moment::now())
    }
}
