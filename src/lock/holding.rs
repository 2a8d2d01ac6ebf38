//! A lock that is held: what is known of it, and giving it back.

use std::time::Duration;

use super::error::Error;
use super::key::Key;
use super::lease::Lease;
use super::patience::{Outlook, Patience};
use super::record::Record;
use super::session::LockSession;
use super::standing::LOCK_FLAGS;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Error as ConsulError, Op, RefusalReason, SessionId, Txn};

/// Longest wait for the reply to one request of a release.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A lock as it was acquired.
#[derive(Debug, Clone)]
pub struct Holding {
    pub(super) client: Client,
    pub(super) key: Key,
    pub(super) session: LockSession,
    pub(super) value: Vec<u8>,
    pub(super) record: Option<Record>,
    pub(super) fence: u64,
    pub(super) lock_index: u64,
    pub(super) lease: Lease,
    pub(super) keep_key: bool,
    pub(super) retry_for: Duration,
    pub(super) monitor_retries: Option<u32>,
    pub(super) monitor_retry_time: Duration,
}

/// What became of a release.
#[derive(Debug)]
pub enum Release {
    /// The lock was ours and is free.
    Released,
    /// The lock was not ours any more.
    AlreadyGone,
    /// Whether Consul heard of it is not known; the session was ended where that could be done, and ends by its TTL
    /// else.
    Unanswered(Error),
}

impl Holding {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The session that holds it.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session.id
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

    /// The lease as of the acquisition.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// Until when Consul promises to let the session live if nobody renews it from now on; nothing for one without a TTL. It
    /// is long past for a session that was given and that has not been renewed here.
    #[must_use]
    pub fn expires(&self) -> Option<Moment> {
        self.session.expires()
    }

    /// Gives the key back and then ends the session, if it is ours: in that order, since a session that ends while it
    /// holds the key starts the lock delay. Repeated until answered, for `retry_for` or until `stop` is thrown.
    pub fn release(&self, stop: &Stop) -> Release {
        let result = self.free_key(stop);
        if self.session.own {
            self.end_session(stop, matches!(result, Release::Unanswered(_)));
        }
        result
    }

    fn free_key(&self, stop: &Stop) -> Release {
        let (key, session) = (self.key.as_str(), &self.session.id);
        let kept = self.record.as_ref().map_or_else(|| self.value.clone(), |record| record.released().to_value());
        // Unlocking wipes what is not given again, and a key without the flags is refused by the next `consul lock`.
        let last = if self.keep_key {
            Op::Unlock { key, session, value: &kept, flags: LOCK_FLAGS }
        } else {
            Op::Delete { key }
        };
        let ops = [Op::CheckSession { key, session }, last];
        let mut patience = self.patience();
        let mut repeated = false;
        loop {
            let sent = Moment::now();
            let error = match self.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(_)) => return Release::Released,
                Ok(Txn::Refused(refusals)) => {
                    return match refusals.iter().find(|refusal| refusal.reason == RefusalReason::Denied) {
                        Some(denied) => Release::Unanswered(Error::denied_key(&self.client, &self.key, &denied.what)),
                        // The first one went through, and its answer was lost.
                        None if repeated => Release::Released,
                        None => Release::AlreadyGone,
                    };
                }
                Err(error) => error,
            };
            repeated = true;
            let Some(pause) = self.pause(&mut patience, &error, sent) else {
                return Release::Unanswered(Error::about_key(&self.client, &self.key, error));
            };
            if stop.pause(pause).is_err() {
                return Release::Unanswered(error.into());
            }
        }
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
