//! Getting the key. No lock operation is ever sent for a key that was not read free immediately before, with that read's
//! index checked in the same transaction: Consul tests the lock delay before raft and not after, so that a blind request
//! in flight when a session ends would have the key at once, with the old holder still at work.

use std::thread::JoinHandle;
use std::time::Duration;

use super::delay::DelayWatch;
use super::error::Error;
use super::holding::Holding;
use super::lease::Lease;
use super::notice::{Holder, Notice, Tell, Trouble};
use super::options::LockOptions;
use super::patience::{Outlook, Patience, delay_pause};
use super::record::Record;
use super::session::{LockSession, Touch};
use super::standing::{LOCK_FLAGS, Standing};
use super::stop::{Stop, Stopped};
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Op, Read, Refusal, RefusalReason, Txn};

/// Longest wait for the reply to a request that Consul answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A consistent read asked a quorum, which elects nobody for this long: a lock transaction that was answered within it
/// was answered by the leader that the read found. A later answer may be a new leader's, in the first moments of which
/// the lock delay is not enforced.
const SAME_LEADER: Duration = Duration::from_secs(1);

/// How old a read may be that a lock request is built on; what is left of [`SAME_LEADER`] is for the answer.
const FRESH: Duration = Duration::from_millis(500);

/// Longest time that cleaning up after giving up may take.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// Acquires the lock that `options` describe, waiting as long as they say or until `stop` is thrown.
///
/// # Errors
/// Everything in [`Error`] that concerns acquisition. Whatever happens, nothing is left locked; a session is left to its
/// TTL only where Consul does not answer.
pub fn acquire(client: &Client, options: &LockOptions, stop: &Stop, tell: &Tell) -> Result<Holding, Error> {
    if stop.is_thrown() {
        return Err(Error::Stopped);
    }
    let give_up_at = options.patience().map(|patience| Moment::now() + patience);
    // Throwing the switch ends all connections of the client that waits, so that it must not be the caller's.
    let client = &client.separate();
    let first = first_read(client, options)?;
    let mut patience = Patience::new(options.retry_for, give_up_at);
    let session = open_session(client, options, stop, tell, &mut patience)?;
    if !session.terms.guaranteed() && !options.no_guarantee {
        let id = session.id.clone();
        if session.own {
            destroy(client, &session);
        }
        return Err(Error::NoLockDelay(id));
    }
    let record = Record::new(options.program.as_deref(), session.terms.delay());
    let value = options.value.clone().unwrap_or_else(|| record.to_value());
    let mut attempt = Attempt {
        client: client.clone(),
        options,
        stop,
        tell,
        give_up_at,
        patience,
        session,
        record,
        value,
        delay: DelayWatch::default(),
        told: None,
        told_delay: false,
        asked: false,
    };
    attempt.compete(first).inspect_err(|_| attempt.clean_up())
}

/// An answer to a read, and when it was asked for.
struct Seen {
    entry: Option<Entry>,
    index: u64,
    sent: Moment,
}

type ReadResult = Result<Seen, (ConsulError, Moment)>;

fn read(client: &Client, options: &LockOptions, read: Read, timeout: Duration) -> ReadResult {
    let sent = Moment::now();
    match client.get(options.key.as_str(), read, timeout) {
        Ok(reply) => Ok(Seen { entry: reply.entry, index: reply.index, sent }),
        Err(error) => Err((error, sent)),
    }
}

/// Reads the key on a connection of its own, beside the making of the session.
fn first_read(client: &Client, options: &LockOptions) -> Result<JoinHandle<ReadResult>, Error> {
    let (client, options) = (client.separate(), options.clone());
    let thread = std::thread::Builder::new().name("first-read".into());
    Ok(thread.spawn(move || read(&client, &options, Read::Consistent, TIMEOUT))?)
}

fn open_session(
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

/// Ends a session of ours that holds nothing; one that Consul does not hear of ends by its TTL.
fn destroy(client: &Client, session: &LockSession) {
    let _ = client.destroy_session(&session.id, CLEAN_UP);
}

/// One competition for the key.
struct Attempt<'a> {
    /// The waiter's one connection.
    client: Client,
    options: &'a LockOptions,
    stop: &'a Stop,
    tell: &'a Tell,
    give_up_at: Option<Moment>,
    patience: Patience,
    session: LockSession,
    record: Record,
    value: Vec<u8>,
    delay: DelayWatch,
    /// The holder that was told of last.
    told: Option<Holder>,
    /// That a lock delay is waited for was told, since the last holder.
    told_delay: bool,
    /// A lock request was sent, and the key may be ours without our knowing.
    asked: bool,
}

/// What came of asking for the key.
enum Asked {
    /// It is ours.
    Won(Holding),
    /// It is ours, but whether its lock delay was kept is not proven.
    Unproven,
    /// Read the key again: it has changed, or the answer was lost.
    Again,
    /// A lock delay is running.
    Delayed,
}

impl Attempt<'_> {
    fn compete(&mut self, first: JoinHandle<ReadResult>) -> Result<Holding, Error> {
        // A thread that panicked has read nothing; so we read.
        let mut next = first.join().unwrap_or_else(|_| self.read(Read::Consistent));
        loop {
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
            let seen = match next {
                Ok(seen) => seen,
                Err((error, sent)) => {
                    self.retry_later(error, sent)?;
                    next = self.read(Read::Consistent);
                    continue;
                }
            };
            self.patience.answered();
            self.keep_session()?;
            let now = Moment::now();
            self.delay.observe(seen.entry.as_ref(), now);
            next = match Standing::of(seen.entry.as_ref(), &self.session.id) {
                Standing::Foreign(what) => return Err(self.foreign(what)),
                Standing::Ours if self.is_this_run(seen.entry.as_ref()) => match self.prove()? {
                    Some(holding) => return Ok(holding),
                    None => self.read(Read::Consistent),
                },
                Standing::Ours => return Err(self.held_by_same_session()),
                Standing::Held(holder) => self.wait_for(holder, seen.index)?,
                Standing::Missing | Standing::Free(_) if self.delay.left(now).is_some() => {
                    self.sit_out(now)?;
                    self.read(Read::Consistent)
                }
                Standing::Missing | Standing::Free(_) if now.since(seen.sent) > FRESH => self.read(Read::Consistent),
                standing => match self.ask(&standing, seen.sent)? {
                    Asked::Won(holding) => return Ok(holding),
                    Asked::Unproven => match self.prove()? {
                        Some(holding) => return Ok(holding),
                        None => self.read(Read::Consistent),
                    },
                    Asked::Again => self.read(Read::Consistent),
                    Asked::Delayed => {
                        self.pause_in_delay(None)?;
                        self.read(Read::Consistent)
                    }
                },
            };
        }
    }

    fn read(&self, kind: Read) -> ReadResult {
        read(&self.client, self.options, kind, TIMEOUT)
    }

    /// Sends the one request that takes the key, built on a read that showed it free.
    fn ask(&mut self, standing: &Standing, read_at: Moment) -> Result<Asked, Error> {
        let key = self.options.key.as_str();
        let check = match standing {
            Standing::Free(index) => Op::CheckIndex { key, index: *index },
            _ => Op::CheckNotExists { key },
        };
        let lock = Op::Lock { key, session: &self.session.id, value: &self.value, flags: LOCK_FLAGS };
        let sent = Moment::now();
        // After any retry the key may have been ours before this very request, which then proves nothing.
        let first_time = !std::mem::replace(&mut self.asked, true);
        match self.client.txn(&[check, lock], TIMEOUT) {
            Ok(Txn::Done(entries)) => {
                let proven = first_time && Moment::now().since(read_at) < SAME_LEADER;
                Ok(if proven { Asked::Won(self.holding(&entries, sent)?) } else { Asked::Unproven })
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

    fn refused(&mut self, refusals: &[Refusal]) -> Result<Asked, Error> {
        for refusal in refusals {
            match refusal.reason {
                RefusalReason::LockDelay => return Ok(Asked::Delayed),
                RefusalReason::Denied => return Err(Error::denied_key(&self.client, &self.options.key, &refusal.what)),
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
        Err(Error::refused(&self.client, &self.options.key, what))
    }

    /// The key is under our session, but the answer that said so came late or not at all. While a lock delay runs,
    /// Consul refuses the lock even to the session that has the key; so it is asked for again until it is granted. The
    /// check keeps a key that was lost meanwhile from being taken blindly.
    fn prove(&mut self) -> Result<Option<Holding>, Error> {
        let key = self.options.key.as_str();
        loop {
            self.keep_session()?;
            let session = &self.session.id;
            let ops =
                [Op::CheckSession { key, session }, Op::Lock { key, session, value: &self.value, flags: LOCK_FLAGS }];
            let sent = Moment::now();
            match self.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(entries)) => return Ok(Some(self.holding(&entries, sent)?)),
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

    fn holding(&self, entries: &[Entry], sent: Moment) -> Result<Holding, Error> {
        let (key, session) = (self.options.key.as_str(), Some(&self.session.id));
        // An answer with another session in it was made for somebody else, and repeated by a proxy or cache.
        let ours = |entry: &&Entry| entry.key == key && entry.session.as_ref() == session;
        let entry = entries.iter().rfind(ours).ok_or_else(|| {
            Error::refused(&self.client, &self.options.key, "the lock's own entry was not in the answer")
        })?;
        Ok(Holding {
            client: self.client.clone(),
            key: self.options.key.clone(),
            session: self.session.clone(),
            value: self.value.clone(),
            record: self.options.value.is_none().then(|| self.record.clone()),
            fence: entry.modify_index,
            lock_index: entry.lock_index,
            lease: Lease::new(self.session.terms, sent),
            keep_key: self.options.keep_key,
            retry_for: self.options.retry_for,
            monitor_retries: self.options.monitor_retries,
            monitor_retry_time: self.options.monitor_retry_time,
        })
    }

    /// Blocks until the key changes, a third of the TTL at most, so that the session is renewed in time.
    fn wait_for(&mut self, holder: Holder, index: u64) -> Result<ReadResult, Error> {
        if self.time_is_up() {
            return Err(Error::Held { key: self.options.key.clone(), holder });
        }
        if self.told.as_ref().is_none_or(|told| told.session != holder.session) {
            (self.tell)(Notice::Waiting(holder.clone()));
            self.told = Some(holder);
            self.told_delay = false;
        }
        let third = self.session.interval().unwrap_or(self.options.session_ttl.third());
        let wait = self.time_left().map_or(third, |left| left.min(third)).max(Duration::from_millis(10));
        // Consul adds up to a sixteenth to a wait.
        let timeout = wait + wait / 16 + Duration::from_secs(2);
        let request = |client: &Client| read(client, self.options, Read::Blocking { index, wait }, timeout);
        Ok(self.stop.interruptible(&self.client, request)?)
    }

    /// Waits out a lock delay that we count ourselves.
    fn sit_out(&mut self, now: Moment) -> Result<(), Error> {
        let left = self.delay.left(now).unwrap_or_default();
        let third = self.session.interval().unwrap_or(left);
        self.pause_in_delay(Some(left.min(third)))
    }

    fn pause_in_delay(&mut self, known: Option<Duration>) -> Result<(), Error> {
        if self.time_is_up() {
            return Err(Error::Delayed { key: self.options.key.clone() });
        }
        if !std::mem::replace(&mut self.told_delay, true) {
            (self.tell)(Notice::Delayed(self.delay.left(Moment::now())));
            self.told = None;
        }
        let pause = known.unwrap_or_else(delay_pause);
        Ok(self.stop.pause(self.time_left().map_or(pause, |left| pause.min(left)))?)
    }

    fn retry_later(&mut self, error: ConsulError, sent: Moment) -> Result<(), Error> {
        match self.patience.failed(Outlook::of(&error), sent, Moment::now()) {
            Some(pause) => {
                (self.tell)(Notice::Retrying(Trouble::from(&error)));
                Ok(self.stop.pause(pause)?)
            }
            None => Err(Error::about_key(&self.client, &self.options.key, error)),
        }
    }

    /// Renews the session where that is due, and replaces one of ours that has died: a waiter holds nothing that the
    /// change could endanger.
    fn keep_session(&mut self) -> Result<(), Error> {
        match self.session.touch(&self.client, Moment::now()) {
            Touch::Alive | Touch::Unknown(_) => Ok(()),
            Touch::Gone => self.replace_session(),
        }
    }

    fn replace_session(&mut self) -> Result<(), Error> {
        if !self.session.own {
            let address = self.client.address().clone();
            return Err(Error::NoSuchSession { session: self.session.id.clone(), address });
        }
        self.session = open_session(&self.client, self.options, self.stop, self.tell, &mut self.patience)?;
        (self.tell)(Notice::SessionReplaced(self.session.id.clone()));
        Ok(())
    }

    /// Under a session that was given, another run may hold the key; the run in the record tells us from it.
    fn is_this_run(&self, entry: Option<&Entry>) -> bool {
        let run = |entry: &Entry| Record::read(&entry.value).map(|record| record.run);
        self.session.own || entry.and_then(run).is_some_and(|run| run == self.record.run)
    }

    fn time_left(&self) -> Option<Duration> {
        self.give_up_at.map(|moment| moment.since(Moment::now()))
    }

    fn time_is_up(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    fn foreign(&self, what: &'static str) -> Error {
        Error::Foreign { key: self.options.key.clone(), address: self.client.address().clone(), what }
    }

    fn held_by_same_session(&self) -> Error {
        Error::HeldBySameSession { key: self.options.key.clone(), session: self.session.id.clone() }
    }

    /// Leaves nothing behind: gives back a key that may have become ours, then ends the session, in that order, since a
    /// session that ends while it holds the key starts the lock delay. On connections of its own: the waiter's may have
    /// been cut.
    fn clean_up(&mut self) {
        let client = self.client.separate();
        let until = Moment::now() + CLEAN_UP;
        let left = || until.since(Moment::now()).max(Duration::from_millis(1));
        if self.asked {
            let (key, session) = (self.options.key.as_str(), &self.session.id);
            // A given session may hold the key for another run; that one is not ours to give back.
            if let Ok(reply) = client.get(key, Read::Consistent, left())
                && let Some(entry) = reply.entry.filter(|entry| self.is_this_run(Some(entry)))
            {
                let index = entry.modify_index;
                let ops = [Op::CheckSession { key, session }, Op::DeleteCas { key, index }];
                let _ = client.txn(&ops, left());
            }
        }
        if self.session.own {
            let _ = client.destroy_session(&self.session.id, left());
        }
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
