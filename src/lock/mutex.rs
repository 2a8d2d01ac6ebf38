//! The front door: a lock as Go's `api.Lock` has it, with one promise more. Its channel tells the loss no later than
//! the grace before the moment at which somebody else could hold the lock, even if Consul does not answer at all.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::acquire::acquire;
use super::error::Error;
use super::holding::{Holding, Release};
use super::keeper::Keeper;
use super::key::Key;
use super::lease::Lease;
use super::notice::{Loss, Notice, Tell};
use super::options::LockOptions;
use super::standing::foreign;
use super::stop::Stop;
use crate::clock::Moment;
use crate::consul::{Client, Op, Read, Txn};

/// Longest wait for the reply to one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often the clock is looked at while nothing is heard: a channel does not count the time that a machine sleeps, and
/// would wait for as long again.
const LOOK: Duration = Duration::from_secs(1);

/// A lock on one key; Go's `api.Lock`.
#[derive(Debug)]
pub struct Lock {
    client: Client,
    options: LockOptions,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    holding: Holding,
    keeper: Keeper,
}

impl Client {
    /// A lock on `key` with the default options; Go's `LockKey`.
    ///
    /// # Errors
    /// When Consul could not carry the key.
    pub fn lock_key(&self, key: &str) -> Result<Lock, super::KeyError> {
        Ok(self.lock_opts(LockOptions::new(key.parse()?)))
    }

    /// A lock as `options` describe it; Go's `LockOpts`.
    #[must_use]
    pub fn lock_opts(&self, options: LockOptions) -> Lock {
        Lock { client: self.clone(), options, held: None }
    }
}

impl Lock {
    /// Waits for the lock and returns a channel that tells its loss, Go's `Lock(stopCh)`. The work must have stopped
    /// within [`LockOptions::grace`] of the message.
    ///
    /// ```no_run
    /// use consul_lock::lock::Stop;
    /// use consul_lock::Client;
    ///
    /// let mut lock = Client::from_env()?.lock_key("reports/nightly")?;
    /// let lost = lock.lock(&Stop::new())?;
    /// while let Err(std::sync::mpsc::TryRecvError::Empty) = lost.try_recv() {
    ///     // a short piece of work
    /// }
    /// lock.unlock()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Held`] when the waiting is over, [`Error::Stopped`] when `stop` was thrown, and whatever went wrong.
    pub fn lock(&mut self, stop: &Stop) -> Result<Receiver<Loss>, Error> {
        if self.held.is_some() {
            return Err(Error::AlreadyHeld(self.options.key.clone()));
        }
        let holding = acquire(&self.client, &self.options, stop, &(Arc::new(|_| ()) as Tell))?;
        let (notices, inbox) = channel();
        let tell: Tell = Arc::new(move |notice| {
            // Nobody listens any more once the lock is given back.
            let _ = notices.send(notice);
        });
        let (losses, lost) = channel();
        let lease = holding.lease();
        let started = std::thread::Builder::new().name("lease".into()).spawn(move || watch(lease, &inbox, &losses));
        match started.and_then(|_| Keeper::start(&holding, &tell)) {
            Ok(keeper) => self.held = Some(Held { holding, keeper }),
            Err(error) => {
                holding.release(stop);
                return Err(error.into());
            }
        }
        Ok(lost)
    }

    /// The lock as it is held: its session, its fencing token.
    #[must_use]
    pub fn holding(&self) -> Option<&Holding> {
        self.held.as_ref().map(|held| &held.holding)
    }

    /// Gives the lock back; Go's `Unlock`.
    ///
    /// # Errors
    /// [`Error::NotHeld`]; [`Error::LostBefore`] when it was not ours any more; whatever kept Consul from answering.
    pub fn unlock(&mut self) -> Result<(), Error> {
        let held = self.held.take().ok_or_else(|| Error::NotHeld(self.options.key.clone()))?;
        // First, or its watch would take our own release for a loss.
        held.keeper.stop();
        match held.holding.release(&Stop::new()) {
            Release::Released => Ok(()),
            Release::AlreadyGone => Err(Error::LostBefore(Loss::Invalidated)),
            Release::Unanswered(error) => Err(error),
        }
    }

    /// Deletes the key if it is a lock that nobody holds; Go's `Destroy`. Of several keys, one after the other.
    ///
    /// # Errors
    /// [`Error::InUse`] while anybody holds it, [`Error::Foreign`] when it is no lock.
    pub fn destroy(&mut self) -> Result<(), Error> {
        self.options.keys().into_iter().try_for_each(|key| self.destroy_key(key))
    }

    fn destroy_key(&self, key: &Key) -> Result<(), Error> {
        let about = |error| Error::about_key(&self.client, key.as_str(), error);
        let reply = self.client.get(key.as_str(), Read::Consistent, TIMEOUT).map_err(about)?;
        let Some(entry) = reply.entry else { return Ok(()) };
        if entry.session.is_some() {
            return Err(Error::InUse(key.clone()));
        }
        if let Some(what) = foreign(&entry) {
            return Err(Error::Foreign {
                key: key.to_string(),
                address: Box::new(self.client.address().clone()),
                what,
            });
        }
        let delete = Op::DeleteCas { key: key.as_str(), index: entry.modify_index };
        match self.client.txn(&[delete], TIMEOUT).map_err(about)? {
            Txn::Done(_) => Ok(()),
            Txn::Refused(_) => Err(Error::InUse(key.clone())),
        }
    }
}

/// Turns notices into the one message that matters.
fn watch(mut lease: Lease, inbox: &Receiver<Notice>, losses: &Sender<Loss>) {
    loop {
        let left = lease.term_at().since(Moment::now());
        let loss = match inbox.recv_timeout(left.min(LOOK)) {
            Ok(Notice::Confirmed(sent)) => {
                lease.confirm(sent);
                continue;
            }
            Ok(Notice::Lost { loss, .. }) => loss,
            Ok(_) => continue,
            Err(RecvTimeoutError::Timeout) if left > LOOK => continue,
            Err(RecvTimeoutError::Timeout) => Loss::Unconfirmed,
            // The lock was given back.
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let _ = losses.send(loss);
        return;
    }
}
