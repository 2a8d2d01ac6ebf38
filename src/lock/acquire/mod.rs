//! Getting the key. No lock operation is ever sent for a key that was not read free immediately before, with that read's
//! index checked in the same transaction: Consul tests the lock delay before raft and not after, so that a blind request
//! in flight when a session ends would have the key at once, with the old holder still at work.

mod look;
mod reader;
mod semaphore;
mod session;
mod several;
mod take;
mod wait;
mod watch;
mod writer;

use std::time::Duration;

use super::claim::MAX_CLAIMS;
use super::delay::Delays;
use super::error::Error;
use super::holding::Holding;
use super::key::Key;
use super::notice::{Holder, Notice, Tell, Trouble};
use super::options::LockOptions;
use super::patience::{Outlook, Patience};
use super::queue::Queue;
use super::readers::MAX_VALUE;
use super::record::{Detachment, Record};
use super::session::LockSession;
use super::slots::{self, Pick};
use super::standing::{SEMAPHORES, Standing};
use super::stop::{Stop, Stopped};
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError};
use look::{ReadResult, Seen, begin_to_look, join, look, read};
use session::{destroy, open_session, unfit};
use several::Several;
use take::{Asked, Won};
use wait::First;
use watch::Watches;

/// Longest wait for the reply to a request that Consul answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How old a read may be that a lock request is built on; what is left of [`SAME_LEADER`] is for the answer.
const FRESH: Duration = Duration::from_millis(500);

/// Longest time that cleaning up after giving up may take.
const CLEAN_UP: Duration = Duration::from_secs(2);

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
    let shared = options.sharing.is_shared();
    if let Some(value) = options.value.as_ref().filter(|value| shared && value.len() > MAX_VALUE) {
        return Err(Error::SharedValue(value.len()));
    }
    let first = begin_to_look(client, &keys, options.sharing.slots())?;
    let mut patience = Patience::new(options.retry_for, give_up_at);
    let session = open_session(client, options, stop, tell, &mut patience)?;
    if let Some(error) = unfit(&session, options) {
        if session.own {
            destroy(client, &session);
        }
        return Err(error);
    }
    let detached = options.detached.then_some(Detachment {
        own_session: session.own,
        keep_key: options.keep_key,
        keys: keys.len(),
    });
    let record =
        Record { detached, ..Record::new(options.program.as_deref(), session.terms.delay()).sharing(options.sharing) };
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
        delay: Delays::default(),
        queue: Queue::new(keys[0]),
        queue_session: None,
        watches: None,
        free_before: Vec::new(),
        quick: 0,
        told: None,
        told_delay: false,
        told_limit: false,
        asked: Vec::new(),
        sees_readers: false,
        told_place: None,
        told_asking: false,
    };
    let mut first = join(first);
    if keys.len() > 1 {
        return Several::new(attempt, &keys).acquire(first);
    }
    // A thread that panicked has read nothing; so we read.
    let first = first.pop().unwrap_or_else(|| attempt.look());
    let result = attempt.compete(first);
    match (&result, &attempt.queue_session) {
        (Ok(_), Some(session)) => destroy(client, session),
        (Ok(_), None) => {}
        (Err(_), _) => attempt.clean_up(),
    }
    let is_awaited = attempt.queue.is_followed();
    result
        .map(|won| Holding { is_awaited, ..Holding::new(client, options, &attempt.session, vec![won.claim], won.sent) })
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
    delay: Delays,
    queue: Queue,
    /// What our entry in the line is under, where the lock's own session was given to us.
    queue_session: Option<LockSession>,
    /// What the first in line for a semaphore watches.
    watches: Option<Watches>,
    /// The slots that the second in line last found free, and how they were.
    free_before: Vec<(u16, Standing)>,
    /// How many blocking queries in a row were answered at once with nothing new.
    quick: u32,
    /// The holder that was told of last.
    told: Option<Holder>,
    /// That a lock delay is waited for was told, since the last holder.
    told_delay: bool,
    /// That somebody has another limit was told.
    told_limit: bool,
    /// Lock requests were sent for these slots, which may be ours without our knowing.
    asked: Vec<u16>,
    /// The token is known to see the key's readers.
    sees_readers: bool,
    /// The place in the line that was told of last: how many are before us.
    told_place: Option<usize>,
    /// That the request that takes the lock is near was told.
    told_asking: bool,
}

impl Attempt<'_> {
    /// Gets the key, or one of its slots, of which there is a first reading; no reader is inside then.
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
                    next = self.look();
                    continue;
                }
            };
            self.patience.answered();
            self.keep_session()?;
            if self.is_shared() && !self.asked.is_empty() && self.find_own_entry()? {
                match self.prove(1)? {
                    Some(won) => return Ok(won),
                    None => next = self.look(),
                }
                continue;
            }
            let now = Moment::now();
            let won = match self.judge(&seen, now)? {
                Pick::Foreign(slot, what) => return Err(self.foreign(slots::path(self.key, slot), what)),
                Pick::Ours(slot) if self.is_this_run(&seen, slot) => self.prove(slot)?,
                Pick::Ours(_) => return Err(self.held_by_same_session()),
                Pick::Held(holders) => {
                    let holder = self.whom(holders)?;
                    self.begin_to_wait(holder)?;
                    next = self.wait_in_line(&First::Watches([seen.index, seen.below_index]))?;
                    continue;
                }
                Pick::Delayed => {
                    next = self.wait_out_delay()?;
                    continue;
                }
                Pick::Take(..) if now.since(seen.sent) > FRESH => None,
                Pick::Take(slot, standing) => match self.ask(slot, &standing, seen.sent)? {
                    Asked::Won(won) => Some(*won),
                    Asked::Unproven => self.prove(slot)?,
                    Asked::Again => None,
                    // Another slot may be had.
                    Asked::Delayed if self.slots() > 1 => {
                        next = Ok(seen);
                        continue;
                    }
                    Asked::Delayed => {
                        next = self.wait_out_delay()?;
                        continue;
                    }
                },
            };
            // Nobody is inside any more when it is ours, and it is still ours when nobody is inside any more.
            if let Some(won) = won
                && let Some(won) = self.outlast_readers(won)?
            {
                return Ok(won);
            }
            next = self.look();
        }
    }

    /// What to do about the slots as they were seen.
    fn judge(&mut self, seen: &Seen, now: Moment) -> Result<Pick, Error> {
        if slots::has_semaphore(self.key, &seen.below) {
            return Err(self.foreign(slots::semaphore_path(self.key), SEMAPHORES));
        }
        let entries = slots::arrange(self.key, self.slots(), seen.entry.as_ref(), &seen.below);
        self.delay.observe(&entries, now);
        let standings: Vec<_> = entries.iter().map(|entry| Standing::of(*entry, &self.session.id)).collect();
        self.compare_limits(&standings);
        let is_barred = |slot| self.delay.is_running(slot, now);
        Ok(slots::pick(&standings, self.asked.last().copied(), is_barred, |sides| fastrand::usize(..sides)))
    }

    /// How many slots there are to choose from.
    fn slots(&self) -> u16 {
        self.options.sharing.slots()
    }

    fn is_shared(&self) -> bool {
        self.options.sharing.is_shared()
    }

    fn look(&self) -> ReadResult {
        look(&self.client, self.key, self.slots())
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

    /// Whether the slot that our session holds is held for this run.
    fn is_this_run(&self, seen: &Seen, slot: u16) -> bool {
        let entries = slots::arrange(self.key, self.slots(), seen.entry.as_ref(), &seen.below);
        !self.is_shared()
            && entries.get(usize::from(slot) - 1).copied().flatten().is_some_and(|entry| self.is_own(entry))
    }

    /// Under a session that was given, another run may hold the key; the run in the record tells us from it.
    fn is_own(&self, entry: &Entry) -> bool {
        self.session.own || Record::read(&entry.value).is_some_and(|record| record.run == self.record.run)
    }

    fn time_left(&self) -> Option<Duration> {
        self.give_up_at.map(|moment| moment.since(Moment::now()))
    }

    fn time_is_up(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    fn foreign(&self, key: String, what: &'static str) -> Error {
        Error::Foreign { key, address: Box::new(self.client.address().clone()), what }
    }

    fn held_by_same_session(&self) -> Error {
        Error::HeldBySameSession { key: self.key.clone(), session: self.session.id.clone() }
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
