//! Getting the key. No lock operation is ever sent for a key that was not read free immediately before, with that read's
//! index checked in the same transaction: Consul tests the lock delay before raft and not after, so that a blind request
//! in flight when a session ends would have the key at once, with the old holder still at work.

mod several;
mod take;
mod wait;

use std::thread::JoinHandle;
use std::time::Duration;

use super::claim::MAX_CLAIMS;
use super::delay::DelayWatch;
use super::error::Error;
use super::holding::Holding;
use super::key::Key;
use super::notice::{Holder, Notice, Tell, Trouble};
use super::options::LockOptions;
use super::patience::{Outlook, Patience};
use super::queue::Queue;
use super::record::Record;
use super::session::{LockSession, Touch};
use super::standing::Standing;
use super::stop::{Stop, Stopped};
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Op, Read};
use several::Several;
use take::{Asked, Won};
use wait::First;

/// Longest wait for the reply to a request that Consul answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How old a read may be that a lock request is built on; what is left of [`SAME_LEADER`] is for the answer.
const FRESH: Duration = Duration::from_millis(500);

/// Longest time that cleaning up after giving up may take.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// So many keys are read over one connection at first; reading more takes more connections, not more time.
const READ_BY_ONE: usize = 4;

/// Acquires the lock that `options` describe, with all its keys, waiting as long as they say or until `stop` is thrown.
///
/// # Errors
/// Everything in [`Error`] that concerns acquisition. Whatever happens, nothing is left locked; a session is left to its
/// TTL only where Consul does not answer.
pub fn acquire(client: &Client, options: &LockOptions, stop: &Stop, tell: &Tell) -> Result<Holding, Error> {
    if stop.is_thrown() {
        return Err(Error::Stopped);
    }
    let keys = options.keys();
    if keys.len() > MAX_CLAIMS {
        return Err(Error::TooManyKeys(keys.len()));
    }
    let give_up_at = options.patience().map(|patience| Moment::now() + patience);
    // Throwing the switch ends all connections of the client that waits, so that it must not be the caller's.
    let client = &client.separate();
    let first = begin_to_read(client, &keys)?;
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
        key: keys[0],
        stop: stop.clone(),
        tell,
        give_up_at,
        patience,
        session,
        bound: false,
        record,
        value,
        delay: DelayWatch::default(),
        queue: Queue::new(keys[0]),
        queue_session: None,
        free_before: None,
        quick: 0,
        told: None,
        told_delay: false,
        asked: false,
    };
    let mut first = join(first);
    if keys.len() > 1 {
        return Several::new(attempt, &keys).acquire(first);
    }
    // A thread that panicked has read nothing; so we read.
    let first = first.pop().unwrap_or_else(|| attempt.read(Read::Consistent));
    let result = attempt.compete(first);
    match (&result, &attempt.queue_session) {
        (Ok(_), Some(session)) => destroy(client, session),
        (Ok(_), None) => {}
        (Err(_), _) => attempt.clean_up(),
    }
    result.map(|won| Holding::new(client, options, &attempt.session, vec![won.claim], won.sent))
}

/// An answer to a read, and when it was asked for.
struct Seen {
    entry: Option<Entry>,
    index: u64,
    sent: Moment,
}

type ReadResult = Result<Seen, (ConsulError, Moment)>;

fn read(client: &Client, key: &str, read: Read, timeout: Duration) -> ReadResult {
    let sent = Moment::now();
    match client.get(key, read, timeout) {
        Ok(reply) => Ok(Seen { entry: reply.entry, index: reply.index, sent }),
        Err(error) => Err((error, sent)),
    }
}

/// Readings under way.
type Reading = JoinHandle<Vec<ReadResult>>;

/// Reads the keys on connections of their own, beside the making of the session.
fn begin_to_read(client: &Client, keys: &[&Key]) -> std::io::Result<Vec<Reading>> {
    let begin = |some: &[&Key]| {
        let (client, some) = (client.separate(), some.iter().map(|&key| key.clone()).collect::<Vec<_>>());
        let read_each = move || some.iter().map(|key| read(&client, key.as_str(), Read::Consistent, TIMEOUT)).collect();
        std::thread::Builder::new().name("first-read".into()).spawn(read_each)
    };
    keys.chunks(READ_BY_ONE).map(begin).collect()
}

/// The readings, in the order of the keys; those of a thread that panicked are missing.
fn join(readings: Vec<Reading>) -> Vec<ReadResult> {
    readings.into_iter().flat_map(|reading| reading.join().unwrap_or_default()).collect()
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

/// The time until then, and a moment at least.
fn remaining(until: Moment) -> Duration {
    until.since(Moment::now()).max(Duration::from_millis(1))
}

/// One competition for the key.
struct Attempt<'a> {
    /// The waiter's one connection.
    client: Client,
    options: &'a LockOptions,
    /// The key that is wanted.
    key: &'a Key,
    stop: Stop,
    tell: &'a Tell,
    give_up_at: Option<Moment>,
    patience: Patience,
    session: LockSession,
    /// Other keys are held under the session already, so that it cannot be replaced.
    bound: bool,
    record: Record,
    value: Vec<u8>,
    delay: DelayWatch,
    queue: Queue,
    /// What our entry in the line is under, where the lock's own session was given to us.
    queue_session: Option<LockSession>,
    /// How the key was when the second in line last found it free.
    free_before: Option<Standing>,
    /// How many blocking queries in a row were answered at once with nothing new.
    quick: u32,
    /// The holder that was told of last.
    told: Option<Holder>,
    /// That a lock delay is waited for was told, since the last holder.
    told_delay: bool,
    /// A lock request was sent, and the key may be ours without our knowing.
    asked: bool,
}

impl Attempt<'_> {
    /// Gets the key, of which there is a first reading.
    fn compete(&mut self, first: ReadResult) -> Result<Won, Error> {
        let mut next = first;
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
                    Some(won) => return Ok(won),
                    None => self.read(Read::Consistent),
                },
                Standing::Ours => return Err(self.held_by_same_session()),
                Standing::Held(holder) => {
                    self.begin_to_wait(holder)?;
                    self.wait_in_line(&First::Watches(seen.index))?
                }
                Standing::Missing | Standing::Free(_) if self.delay.left(now).is_some() => self.wait_out_delay()?,
                Standing::Missing | Standing::Free(_) if now.since(seen.sent) > FRESH => self.read(Read::Consistent),
                standing => match self.ask(&standing, seen.sent)? {
                    Asked::Won(won) => return Ok(*won),
                    Asked::Unproven => match self.prove()? {
                        Some(won) => return Ok(won),
                        None => self.read(Read::Consistent),
                    },
                    Asked::Again => self.read(Read::Consistent),
                    Asked::Delayed => self.wait_out_delay()?,
                },
            };
        }
    }

    fn read(&self, kind: Read) -> ReadResult {
        read(&self.client, self.key.as_str(), kind, TIMEOUT)
    }

    fn retry_later(&mut self, error: ConsulError, sent: Moment) -> Result<(), Error> {
        match self.patience.failed(Outlook::of(&error), sent, Moment::now()) {
            Some(pause) => {
                (self.tell)(Notice::Retrying(Trouble::from(&error)));
                Ok(self.stop.pause(pause)?)
            }
            None => Err(Error::about_key(&self.client, self.key.as_str(), error)),
        }
    }

    /// Renews the session where that is due, and replaces one of ours that has died: a waiter holds nothing that the
    /// change could endanger.
    fn keep_session(&mut self) -> Result<(), Error> {
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

    fn replace_session(&mut self) -> Result<(), Error> {
        if !self.session.own {
            let address = Box::new(self.client.address().clone());
            return Err(Error::NoSuchSession { session: self.session.id.clone(), address });
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
        Error::Foreign { key: self.key.clone(), address: Box::new(self.client.address().clone()), what }
    }

    fn held_by_same_session(&self) -> Error {
        Error::HeldBySameSession { key: self.key.clone(), session: self.session.id.clone() }
    }

    /// Leaves nothing behind: gives back a key that may have become ours, then ends the session, in that order, since a
    /// session that ends while it holds the key starts the lock delay. On connections of its own: the waiter's may have
    /// been cut.
    fn clean_up(&mut self) {
        let client = self.client.separate();
        let until = Moment::now() + CLEAN_UP;
        if std::mem::take(&mut self.asked) {
            self.take_back(&client, self.key, &|| remaining(until));
        }
        self.queue.abandon(&client, remaining(until));
        let queue_session = self.queue_session.take();
        for session in [queue_session.as_ref(), Some(&self.session)].into_iter().flatten().filter(|one| one.own) {
            let _ = client.destroy_session(&session.id, remaining(until));
        }
    }

    /// Deletes a key if it is ours.
    fn take_back(&self, client: &Client, key: &Key, left: &dyn Fn() -> Duration) {
        let (key, session) = (key.as_str(), &self.session.id);
        // A given session may hold the key for another run; that one is not ours to give back.
        if let Ok(reply) = client.get(key, Read::Consistent, left())
            && let Some(entry) = reply.entry.filter(|entry| self.is_this_run(Some(entry)))
        {
            let index = entry.modify_index;
            let ops = [Op::CheckSession { key, session }, Op::DeleteCas { key, index }];
            let _ = client.txn(&ops, left());
        }
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
