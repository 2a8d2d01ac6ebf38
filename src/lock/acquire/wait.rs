//! Waiting for the key: in line, behind whoever came before, and as the first of the line on the key itself.

use std::time::Duration;

use super::{Attempt, ReadResult, Seen, TIMEOUT, read};
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Read};
use crate::lock::courtesy;
use crate::lock::error::Error;
use crate::lock::notice::{Holder, Notice, Trouble};
use crate::lock::options::LockOptions;
use crate::lock::patience::delay_pause;
use crate::lock::queue::{Joined, Place};
use crate::lock::record::Record;
use crate::lock::session::{LockSession, Touch};
use crate::lock::slots;
use crate::lock::standing::Standing;

/// How often the second in line looks whether the first has overslept.
const PASS_AFTER: Duration = Duration::from_secs(5);

/// Consul lets a query wait for 10 minutes at most; a proxy rather less.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A query that is answered sooner than this, and with nothing new, was not blocked: a cache or a proxy answers it.
pub(super) const QUICK: Duration = Duration::from_millis(100);

/// So many of those in a row are borne.
pub(super) const QUICK_IN_A_ROW: u32 = 2;

/// The pause after each further one.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The longest time without a look at the line; about as long as a session lives on whose owner does not renew it.
const LONGEST_UNSEEN: Duration = Duration::from_secs(30);

/// How long one who has so many before him need not look at the line again, while the one before him stays: he is not
/// the second as soon as that. A look costs as much as the line is long, so that looks at each turn of everybody would
/// cost its square.
fn look_after(ahead: usize, turn: Duration) -> Duration {
    let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
    Duration::from_millis(250).saturating_mul(ahead).min(LONGEST_UNSEEN).max(turn)
}

/// What the first in line does.
pub(super) enum First {
    /// Blocks until the key changes from what it was at the first index, or a slot below it from what it was at the second.
    Watches([u64; 2]),
    /// Asks again in a moment: nothing tells when a lock delay is over.
    Pauses,
}

impl Attempt<'_> {
    /// Tells who has the key, once for each holder, unless the waiting is over.
    pub(super) fn begin_to_wait(&mut self, holder: Holder) -> Result<(), Error> {
        if self.time_is_up() {
            return Err(match self.slots() {
                1 => Error::Held { key: self.key.clone(), holder },
                slots => Error::AllHeld { key: self.key.clone(), slots, holder },
            });
        }
        if self.told.as_ref().is_none_or(|told| told.session != holder.session) {
            (self.tell)(Notice::Waiting { key: self.key.clone(), holder: holder.clone() });
            self.told = Some(holder);
            self.told_delay = false;
        }
        Ok(())
    }

    /// Tells how many are before us, when that has changed.
    fn tell_place(&mut self, place: Option<&Place>) {
        let ahead = match place {
            Some(Place::First) if self.queue.is_joined() => 0,
            Some(Place::Behind { ahead, .. }) => *ahead,
            _ => return,
        };
        if self.told_place.replace(ahead) != Some(ahead) {
            (self.tell)(Notice::Place { key: self.key.clone(), ahead });
        }
    }

    /// Tells once that the lock is near: whoever is woken by it takes a processor just when the request is to be sent.
    pub(super) fn tell_asking(&mut self) {
        if !std::mem::replace(&mut self.told_asking, true) {
            (self.tell)(Notice::Asking);
        }
    }

    /// Waits until the key is worth another look: as the first in line, until it changes from what it was; behind somebody,
    /// until that one is gone.
    pub(super) fn wait_in_line(&mut self, first: &First) -> Result<ReadResult, Error> {
        let mut has_just_looked = true;
        loop {
            self.keep_session()?;
            if self.time_is_up() {
                return Ok(self.look());
            }
            let sent = Moment::now();
            let place = if self.queue.is_unusable() { Ok(Place::First) } else { self.find_place() };
            self.tell_place(place.as_ref().ok());
            if let Ok(Place::First) = place {
                self.tell_asking();
            }
            match place {
                Ok(Place::First) => match first {
                    First::Watches(indexes) if self.slots() > 1 => {
                        self.block_on_slots(*indexes)?;
                        return Ok(self.look());
                    }
                    First::Watches([index, _]) => return self.block(self.key.as_str(), *index, self.third()),
                    First::Pauses => {
                        self.pause_in_delay(self.delay.known(Moment::now()))?;
                        return Ok(self.look());
                    }
                },
                Ok(Place::Behind { last, ahead }) => {
                    if ahead > 1 && self.options.is_watched && !std::mem::take(&mut has_just_looked) {
                        self.look_on()?;
                    }
                    if let Some(seen) = self.wait_behind(&last, ahead)? {
                        return Ok(Ok(seen));
                    }
                }
                Ok(Place::Nowhere) => self.look_for_ourselves(sent)?,
                Err(ref error @ ConsulError::Denied { ref body, .. }) if !error.is_unknown_token() => {
                    self.leave_line(body)
                }
                Err(error) => self.retry_later(error, sent)?,
            }
        }
    }

    pub(super) fn find_place(&mut self) -> Result<Place, ConsulError> {
        if !self.queue.is_joined() {
            let value = self.record.to_value();
            if !self.session.own && self.queue_session.is_none() {
                let own = LockOptions { session: None, ..LockOptions::new(self.key.clone()) };
                match LockSession::create(&self.client, &own, TIMEOUT) {
                    Ok(session) => self.queue_session = Some(session),
                    Err(Error::Consul(error)) => return Err(error),
                    Err(error) => {
                        self.leave_line(&error.to_string());
                        return Ok(Place::First);
                    }
                }
            }
            let session = self.queue_session.as_ref().unwrap_or(&self.session);
            match self.queue.join(&self.client, &session.id.clone(), &value, TIMEOUT)? {
                Joined::At(place) => return Ok(place),
                Joined::SessionGone => return Ok(Place::Nowhere),
                Joined::Denied(what) => {
                    (self.tell)(Notice::Unqueued { key: self.key.clone(), trouble: Trouble(what) });
                    return Ok(Place::First);
                }
            }
        }
        self.queue.look(&self.client, TIMEOUT)
    }

    /// Our entry is not in the list: it went with its session, somebody deleted it, or the token sees a list without it.
    pub(super) fn look_for_ourselves(&mut self, sent: Moment) -> Result<(), Error> {
        match self.queue_session.as_ref().unwrap_or(&self.session).renew(&self.client) {
            Touch::Alive if self.queue.was_seen() => self.queue.forget(),
            Touch::Alive => self.leave_line("its list does not show our own entry"),
            Touch::Gone if self.queue_session.take().is_some() => self.queue.abandon(&self.client, TIMEOUT),
            Touch::Gone => self.replace_session()?,
            Touch::Unknown(error) => self.retry_later(error, sent)?,
        }
        Ok(())
    }

    /// Does without a place in the line. An entry that stayed would keep those behind it waiting for nothing.
    pub(super) fn leave_line(&mut self, why: &str) {
        self.queue.abandon(&self.client, TIMEOUT);
        (self.tell)(Notice::Unqueued { key: self.key.clone(), trouble: Trouble(why.to_owned()) });
        self.queue.give_up();
    }

    /// Waits for the one before us to go. The second in line looks at the key itself now and then: when that is free,
    /// and was before, the first is stopped or cut off, and is passed.
    pub(super) fn wait_behind(&mut self, last: &Entry, ahead: usize) -> Result<Option<Seen>, Error> {
        let look_at = Moment::now() + look_after(ahead, self.third());
        loop {
            let looks = ahead == 1 || self.options.is_watched;
            let wait = if looks { self.third().min(PASS_AFTER) } else { self.third() };
            match self.block(&last.key, last.modify_index, wait)? {
                Ok(seen) => {
                    self.patience.answered();
                    match &seen.entry {
                        None => {
                            let pause = courtesy::WHEN_MOVED_UP;
                            self.stop.pause(self.time_left().map_or(pause, |left| left.min(pause)))?;
                            return Ok(None);
                        }
                        Some(entry) if entry.modify_index != last.modify_index => {
                            self.queue.doubt();
                            return Ok(None);
                        }
                        Some(_) => {}
                    }
                }
                Err((error, sent)) => {
                    self.retry_later(error, sent)?;
                    return Ok(None);
                }
            }
            if ahead == 1 {
                return self.look_past_the_first(last);
            }
            self.keep_session()?;
            if Moment::now() >= look_at || self.time_is_up() || !self.queue.is_joined() {
                return Ok(None);
            }
            if self.options.is_watched {
                self.look_on()?;
            }
        }
    }

    /// What the first in line is free to take, by its record; the line is strict, and what the first may not have nobody
    /// behind it takes.
    pub(super) fn look_past_the_first(&mut self, first: &Entry) -> Result<Option<Seen>, Error> {
        let Some((seen, standings)) = self.look_on()? else { return Ok(None) };
        let slots = self.slots().min(Record::read(&first.value).map_or(1, |record| record.limit));
        let free: Vec<_> = (1..=slots)
            .zip(standings)
            .filter(|(_, standing)| matches!(standing, Standing::Missing | Standing::Free(_)))
            .collect();
        // Once it was tried, it must be free for as long again.
        let before = std::mem::take(&mut self.free_before);
        if free.iter().any(|slot| before.contains(slot)) {
            return Ok(Some(seen));
        }
        self.free_before = free;
        Ok(None)
    }

    /// Looks at the slots without taking any, and tells who has them now.
    fn look_on(&mut self) -> Result<Option<(Seen, Vec<Standing>)>, Error> {
        let seen = match self.look() {
            Ok(seen) => seen,
            Err((error, sent)) => return self.retry_later(error, sent).map(|()| None),
        };
        let entries = slots::arrange(self.key, self.slots(), seen.entry.as_ref(), &seen.below);
        self.delay.observe(&entries, Moment::now());
        let standings: Vec<_> = entries.iter().map(|entry| Standing::of(*entry, &self.session.id)).collect();
        let holder = |standing: &Standing| match standing {
            Standing::Held(holder) => Some(holder.clone()),
            _ => None,
        };
        match (standings.iter().map(holder).collect(), self.delay.known(Moment::now())) {
            (Some(holders), _) => {
                let holder = self.whom(holders)?;
                self.begin_to_wait(holder)?;
            }
            (None, Some(left)) => self.tell_delay(Some(left)),
            (None, None) => {}
        }
        Ok(Some((seen, standings)))
    }

    /// A third of the TTL, so that the session is renewed in time; and no longer than Consul lets a query wait.
    pub(super) fn third(&self) -> Duration {
        self.session.interval().unwrap_or(self.options.session_ttl.third()).min(LONGEST_WAIT)
    }

    /// Blocks until `key` changes from what it was at `index`.
    pub(super) fn block(&mut self, key: &str, index: u64, wait: Duration) -> Result<ReadResult, Error> {
        let wait = self.time_left().map_or(wait, |left| left.min(wait)).max(Duration::from_millis(10));
        // Consul adds up to a sixteenth to a wait.
        let timeout = wait + wait / 16 + Duration::from_secs(2);
        let begun = Moment::now();
        let query = |client: &Client| read(client, key, Read::Blocking { index, wait }, timeout);
        let result = self.stop.interruptible(&self.client, query)?;
        let is_old =
            |seen: &Seen| seen.index <= index || seen.entry.as_ref().is_some_and(|entry| entry.modify_index <= index);
        let in_vain = Moment::now().since(begun) < QUICK.min(wait) && result.as_ref().is_ok_and(is_old);
        self.quick = if in_vain { self.quick.saturating_add(1) } else { 0 };
        if self.quick > QUICK_IN_A_ROW {
            self.stop.pause(self.time_left().map_or(AGAIN, |left| left.min(AGAIN)))?;
        }
        Ok(result)
    }

    /// Waits until it is worth asking again during a lock delay, which the first in line does alone.
    pub(super) fn wait_out_delay(&mut self) -> Result<ReadResult, Error> {
        if self.time_is_up() {
            return Err(Error::Delayed { key: self.key.clone() });
        }
        self.wait_in_line(&First::Pauses)
    }

    pub(super) fn pause_in_delay(&mut self, known: Option<Duration>) -> Result<(), Error> {
        if self.time_is_up() {
            return Err(Error::Delayed { key: self.key.clone() });
        }
        self.tell_delay(known);
        // In parts, so that the session is renewed meanwhile.
        let pause = known.unwrap_or_else(delay_pause).min(self.third());
        Ok(self.stop.pause(self.time_left().map_or(pause, |left| pause.min(left)))?)
    }

    /// Tells that nobody may have the key for so long, once after each holder.
    fn tell_delay(&mut self, left: Option<Duration>) {
        if !std::mem::replace(&mut self.told_delay, true) {
            (self.tell)(Notice::Delayed { key: self.key.clone(), left });
            self.told = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_the_line_the_rarer_the_looks() {
        let turn = Duration::from_secs(5);
        assert_eq!([1, 2, 20].map(|ahead| look_after(ahead, turn)), [turn; 3]);
        assert_eq!(look_after(40, turn), 2 * turn);
        assert_eq!([120, 10_000, usize::MAX].map(|ahead| look_after(ahead, turn)), [6 * turn; 3]);
        assert_eq!(look_after(300, 12 * turn), 12 * turn);
    }
}
