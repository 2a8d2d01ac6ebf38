//! The session of an acquisition: made, kept, replaced, and at last ended with all that is under it.

use std::time::Duration;

use super::{Attempt, CLEAN_UP, TIMEOUT};
use crate::clock::Moment;
use crate::consul::{Behavior, Client, Op, Read};
use crate::lock::error::Error;
use crate::lock::notice::{Notice, Tell, Trouble};
use crate::lock::options::LockOptions;
use crate::lock::patience::{Outlook, Patience};
use crate::lock::session::{LockSession, Touch};
use crate::lock::stop::Stop;

/// Makes the session, or looks up the one that was given.
pub(super) fn open_session(
    client: &Client,
    options: &LockOptions,
    stop: &Stop,
    tell: &Tell,
    patience: &mut Patience,
) -> Result<LockSession, Error> {
    loop {
        let sent = Moment::now();
        let result = match &options.session {
            Some(id) => LockSession::given(client, options, id, TIMEOUT),
            None => LockSession::create(client, options, TIMEOUT),
        };
        match result {
            Err(Error::Consul(error)) => {
                let outlook = Outlook::of(&error);
                let Some(pause) = patience.failed(outlook, sent, Moment::now()) else { return Err(error.into()) };
                tell(Notice::Retrying(Trouble::from(&error)));
                stop.pause(pause)?;
            }
            Ok(session) if stop.is_thrown() => {
                if session.own {
                    destroy(client, &session);
                }
                return Err(Error::Stopped);
            }
            other => return other,
        }
    }
}

/// Why a session cannot be used for such a lock.
pub(super) fn unfit(session: &LockSession, options: &LockOptions) -> Option<Error> {
    if !session.terms.guaranteed() && !options.no_guarantee {
        return Some(Error::NoLockDelay(session.id.clone()));
    }
    (options.sharing.is_shared() && session.behavior == Behavior::Delete).then_some(Error::SharedDelete)
}

/// Ends a session of ours that holds nothing; one that Consul does not hear of ends by its TTL.
pub(super) fn destroy(client: &Client, session: &LockSession) {
    let _ = client.destroy_session(&session.id, CLEAN_UP);
}

/// The time until then, and a moment at least.
pub(super) fn remaining(until: Moment) -> Duration {
    until.since(Moment::now()).max(Duration::from_millis(1))
}

impl Attempt<'_> {
    /// Renews the session where that is due, and replaces one of ours that has died: a waiter holds nothing that the
    /// change could endanger.
    pub(super) fn keep_session(&mut self) -> Result<(), Error> {
        let now = Moment::now();
        if let Some(session) = &mut self.queue_session
            && matches!(session.touch(&self.client, now), Touch::Gone)
        {
            self.queue_session = None;
            self.queue.abandon(&self.client, TIMEOUT);
        }
        match self.session.touch(&self.client, now) {
            Touch::Alive | Touch::Unknown(_) => Ok(()),
            Touch::Gone => self.replace_session(),
        }
    }

    pub(super) fn replace_session(&mut self) -> Result<(), Error> {
        if !self.session.own {
            return self.expect_session();
        }
        if self.bound {
            // The round is over.
            self.stop.throw();
            return Err(Error::Stopped);
        }
        self.queue.abandon(&self.client, TIMEOUT);
        self.session = open_session(&self.client, self.options, &self.stop, self.tell, &mut self.patience)?;
        (self.tell)(Notice::SessionReplaced(self.session.id.clone()));
        Ok(())
    }

    /// Makes sure that the session that was given is there: a deposed leader says of one that lives that it is gone.
    fn expect_session(&mut self) -> Result<(), Error> {
        let sent = Moment::now();
        match self.client.session_info(&self.session.id, TIMEOUT) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let address = Box::new(self.client.address().clone());
                Err(Error::NoSuchSession { session: self.session.id.clone(), address })
            }
            Err(error) => self.retry_later(error, sent),
        }
    }

    /// Leaves nothing behind: gives back what may have become ours, then ends the session, in that order, since a session
    /// that ends while it holds a key starts the lock delay. On connections of its own: the waiter's may have been cut.
    pub(super) fn clean_up(&mut self) {
        let client = self.client.separate();
        let until = Moment::now() + CLEAN_UP;
        for slot in std::mem::take(&mut self.asked) {
            self.take_back(&client, &self.path(slot), &|| remaining(until));
        }
        self.queue.abandon(&client, remaining(until));
        let queue_session = self.queue_session.take();
        for session in [queue_session.as_ref(), Some(&self.session)].into_iter().flatten().filter(|one| one.own) {
            let _ = client.destroy_session(&session.id, remaining(until));
        }
    }

    /// Deletes a key if it is ours.
    pub(super) fn take_back(&self, client: &Client, key: &str, left: &dyn Fn() -> Duration) {
        let session = &self.session.id;
        // A given session may hold the key for another run; that one is not ours to give back.
        if let Ok(reply) = client.get(key, Read::Consistent, left())
            && let Some(entry) = reply.entry.filter(|entry| self.is_own(entry))
        {
            let index = entry.modify_index;
            let ops = [Op::CheckSession { key, session }, Op::DeleteCas { key, index }];
            let _ = client.txn(&ops, left());
        }
    }
}
