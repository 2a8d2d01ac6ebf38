//! Several keys for one lock. All are tried in one transaction first, which takes them all or none. If that fails they
//! are taken one after the other, in the order of their bytes, each through its own line; what is held already is
//! confirmed meanwhile, and if any of it is lost all is given back, and it starts again. Since nobody who keeps this
//! order takes a key while he holds a later one, no circle of waiters can come about.

mod at_once;
mod round;

use super::session::remaining;
use super::{Attempt, CLEAN_UP, ReadResult, TIMEOUT, destroy, open_session};
use crate::clock::Moment;
use crate::consul::Client;
use crate::lock::challenge::{REPLAYED, Unproven, Verdict, challenge};
use crate::lock::claim::Claim;
use crate::lock::delay::Delays;
use crate::lock::error::Error;
use crate::lock::holding::{Holding, Release};
use crate::lock::key::Key;
use crate::lock::notice::{Holder, Notice};
use crate::lock::queue::Queue;
use crate::lock::stop::Stop;
use round::Round;

/// A key that is wanted, and what is remembered of it while others are tried.
struct Wanted<'a> {
    key: &'a Key,
    delay: Delays,
    told: Option<Holder>,
    /// The token is known to see its readers.
    sees_readers: bool,
}

/// The competition for several keys.
pub(super) struct Several<'a> {
    /// The competition for one of them at a time.
    attempt: Attempt<'a>,
    /// In the order of their bytes.
    wanted: Vec<Wanted<'a>>,
    /// The client that no stop cuts off, which has the lock in the end.
    client: Client,
    /// The caller's; the attempt's own ends with a round.
    stop: Stop,
    /// Held, and to be given back.
    claims: Vec<Claim>,
    /// All were asked for at once, and may be ours without our knowing.
    asked: bool,
}

impl<'a> Several<'a> {
    pub(super) fn new(attempt: Attempt<'a>, keys: &[&'a Key]) -> Self {
        let want = |&key| Wanted { key, delay: Delays::default(), told: None, sees_readers: false };
        let (client, stop) = (attempt.client.clone(), attempt.stop.clone());
        let wanted = keys.iter().map(want).collect();
        Self { attempt, wanted, client, stop, claims: Vec::new(), asked: false }
    }

    /// Gets them all, of which there are first readings in their order.
    pub(super) fn acquire(mut self, first: Vec<ReadResult>) -> Result<Holding, Error> {
        let result = self.compete(first);
        if result.is_err() {
            self.give_back();
            self.attempt.clean_up();
        } else if let Some(session) = &self.attempt.queue_session {
            destroy(&self.client, session);
        }
        result
    }

    fn compete(&mut self, first: Vec<ReadResult>) -> Result<Holding, Error> {
        // Which slot of each is free is a matter of chance, and readers come in one by one anyway.
        if self.attempt.options.sharing.is_exclusive()
            && let Some(holding) = self.all_at_once(first)?
        {
            return Ok(holding);
        }
        if self.asked {
            // A request whose answer was lost may yet be carried out, but not under a session that has ended.
            self.renew_everything()?;
        }
        loop {
            match self.one_by_one()? {
                Ok(holding) => return Ok(holding),
                Err(lost) => {
                    self.renew_everything()?;
                    let session = self.attempt.session.id.clone();
                    (self.attempt.tell)(Notice::StartedAgain { lost, session });
                }
            }
        }
    }

    /// Takes them in order; or else the key that was lost before the last one was ours, if that is known.
    fn one_by_one(&mut self) -> Result<Result<Holding, Option<Key>>, Error> {
        let session = &self.attempt.session;
        let round = Round::begin(self.client.separate(), &self.stop, session.terms.interval())?;
        // A stop that is thrown cuts off the client that waits.
        self.attempt.client = self.client.separate();
        self.attempt.stop = round.stop();
        let result = self.take_each(&round);
        self.attempt.stop = self.stop.clone();
        let (claims, lost) = round.end();
        match result {
            Ok(sent) => {
                let (options, session) = (self.attempt.options, &self.attempt.session);
                Ok(Ok(Holding::new(&self.client, options, session, claims, sent)))
            }
            Err(error) => {
                self.claims = claims;
                // The caller has not stopped it.
                if matches!(error, Error::Stopped) && !self.stop.is_thrown() { Ok(Err(lost)) } else { Err(error) }
            }
        }
    }

    /// Takes one after the other; gives the moment from which a last confirmation vouches for all.
    fn take_each(&mut self, round: &Round) -> Result<Moment, Error> {
        for number in 0..self.wanted.len() {
            self.turn_to(number);
            let first = self.attempt.look();
            let result = self.attempt.compete(first);
            self.turn_from(number);
            round.hold(&self.attempt.session.id, result?.claim);
            self.attempt.bound = true;
        }
        let claims = round.claims();
        loop {
            let sent = Moment::now();
            match challenge(&self.attempt.client, &claims, &self.attempt.session.id, TIMEOUT) {
                Ok(Verdict::Ours) => return Ok(sent),
                Ok(Verdict::NotOurs(number)) => {
                    round.lose(number);
                    return Err(Error::Stopped);
                }
                Err(Unproven::Failed(error)) => self.attempt.retry_later(error, sent)?,
                Err(Unproven::Refused(number, what)) => {
                    return Err(Error::denied_key(&self.client, claims[number.min(claims.len() - 1)].path(), &what));
                }
                Err(Unproven::Replayed) => return Err(Error::refused(&self.client, claims[0].path(), REPLAYED)),
            }
        }
    }

    /// Turns the attempt to one of the keys.
    fn turn_to(&mut self, number: usize) {
        let (attempt, wanted) = (&mut self.attempt, &mut self.wanted[number]);
        attempt.key = wanted.key;
        attempt.delay = std::mem::take(&mut wanted.delay);
        attempt.told = wanted.told.take();
        (attempt.told_delay, attempt.told_place) = (false, None);
        attempt.queue = Queue::new(wanted.key);
        attempt.watches = None;
        attempt.free_before.clear();
        attempt.quick = 0;
        attempt.asked.clear();
        attempt.sees_readers = wanted.sees_readers;
    }

    /// Keeps what the attempt has seen of the key.
    fn turn_from(&mut self, number: usize) {
        let (attempt, wanted) = (&mut self.attempt, &mut self.wanted[number]);
        wanted.delay = std::mem::take(&mut attempt.delay);
        wanted.told = attempt.told.take();
    }

    /// Gives everything back and goes on under a new session.
    fn renew_everything(&mut self) -> Result<(), Error> {
        // Under a session that lives on, a later key that stayed ours could make a circle.
        if let Release::Unanswered(error) = self.give_back()
            && !self.attempt.session.own
        {
            return Err(error);
        }
        self.attempt.clean_up();
        let Attempt { options, tell, patience, .. } = &mut self.attempt;
        self.attempt.session = open_session(&self.client, options, &self.stop, tell, patience)?;
        self.attempt.bound = false;
        Ok(())
    }

    /// Gives back what is held, and what may be without our knowing.
    fn give_back(&mut self) -> Release {
        let claims = std::mem::take(&mut self.claims);
        let (options, session) = (self.attempt.options, &self.attempt.session);
        let mut held = Holding::new(&self.client, options, session, claims, Moment::now());
        held.retry_for = CLEAN_UP;
        let result = held.free_keys(&Stop::new(), CLEAN_UP);
        if std::mem::take(&mut self.asked) {
            let (client, until) = (self.client.separate(), Moment::now() + CLEAN_UP);
            self.wanted
                .iter()
                .for_each(|wanted| self.attempt.take_back(&client, wanted.key.as_str(), &|| remaining(until)));
        }
        result
    }
}
