//! All keys in one transaction: each was read free immediately before, and each is checked not to have changed since.

use super::super::take::SAME_LEADER;
use super::super::{FRESH, ReadResult, Seen, TIMEOUT, begin_to_look, join};
use super::{Several, Wanted};
use crate::clock::Moment;
use crate::consul::{Entry, Error as ConsulError, MAX_OPS, Op, Refusal, RefusalReason, Txn};
use crate::lock::error::Error;
use crate::lock::holding::Holding;
use crate::lock::key::Key;
use crate::lock::notice::{Holder, Notice};
use crate::lock::readers::Readers;
use crate::lock::standing::{LOCK_FLAGS, Standing};

/// What came of asking for all.
enum Asked {
    /// They are ours, and these readers were inside, if that was asked with it.
    Won(Box<Holding>, Option<Vec<Entry>>),
    /// They are ours, but whether their lock delays were kept is not proven.
    Unproven,
    /// Somebody was quicker.
    Refused,
    /// The answer was lost.
    Unknown,
    /// With its value in each, they are more than Consul takes at once.
    TooLong,
}

impl<'a> Several<'a> {
    /// Tries to take all keys at once; nothing if that cannot be, and they are to be taken one after the other.
    pub(super) fn all_at_once(&mut self, first: Vec<ReadResult>) -> Result<Option<Holding>, Error> {
        let (mut next, mut repeated) = (first, false);
        loop {
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
            let keep = |(result, wanted): (ReadResult, &Wanted<'a>)| result.map_err(|failed| (wanted.key, failed));
            let seen = match next.into_iter().zip(&self.wanted).map(keep).collect::<Result<Vec<_>, _>>() {
                Ok(seen) => seen,
                Err((key, (error, sent))) => {
                    self.attempt.key = key;
                    self.attempt.retry_later(error, sent)?;
                    next = self.read_all()?;
                    continue;
                }
            };
            self.attempt.patience.answered();
            self.attempt.keep_session()?;
            let now = Moment::now();
            let standings = self.judge(&seen, now)?;
            let read_at = seen.iter().map(|seen| seen.sent).min().unwrap_or(now);
            if self.asked && standings.iter().all(|standing| *standing == Standing::Ours) {
                if let Some(holding) = self.prove_all()? {
                    return self.unless_read(holding, None);
                }
            } else if self.is_anything_held(&standings)? || self.is_anything_delayed(now)? {
                return Ok(None);
            } else if repeated || now.since(read_at) <= FRESH {
                match self.ask_for_all(&standings, read_at)? {
                    Asked::Won(holding, readers) => return self.unless_read(*holding, readers),
                    Asked::Unproven => {
                        if let Some(holding) = self.prove_all()? {
                            return self.unless_read(holding, None);
                        }
                    }
                    Asked::TooLong => return Ok(None),
                    // Who has only the one try is told who it was.
                    Asked::Refused if !self.attempt.time_is_up() => return Ok(None),
                    Asked::Refused | Asked::Unknown => {}
                }
            }
            repeated = true;
            next = self.read_all()?;
        }
    }

    fn read_all(&self) -> Result<Vec<ReadResult>, Error> {
        let keys: Vec<_> = self.wanted.iter().map(|wanted| wanted.key).collect();
        Ok(join(begin_to_look(&self.client, &keys, 1)?))
    }

    /// What each key is to us, unless one of them can never be ours.
    fn judge(&mut self, seen: &[Seen], now: Moment) -> Result<Vec<Standing>, Error> {
        let mut standings = Vec::new();
        for (wanted, seen) in self.wanted.iter_mut().zip(seen) {
            wanted.delay.observe(&[seen.entry.as_ref()], now);
            self.attempt.key = wanted.key;
            let standing = Standing::of(seen.entry.as_ref(), &self.attempt.session.id);
            match standing {
                Standing::Foreign(what) => return Err(self.attempt.foreign(wanted.key.to_string(), what)),
                Standing::Ours if !(self.asked && self.attempt.is_this_run(seen, 1)) => {
                    return Err(self.attempt.held_by_same_session());
                }
                standing => standings.push(standing),
            }
        }
        Ok(standings)
    }

    /// Tells who holds keys, each holder once; that is an error if there is no time to wait.
    fn is_anything_held(&mut self, standings: &[Standing]) -> Result<bool, Error> {
        let mut held: Vec<(Key, Holder)> = Vec::new();
        for (wanted, standing) in self.wanted.iter_mut().zip(standings) {
            if let Standing::Held(holder) = standing {
                held.push((wanted.key.clone(), holder.clone()));
                wanted.told = Some(holder.clone());
            }
        }
        if held.is_empty() {
            // Some may be ours, and others lost since.
            return Ok(standings.contains(&Standing::Ours));
        }
        if self.attempt.time_is_up() {
            return Err(match <[_; 1]>::try_from(held) {
                Ok([(key, holder)]) => Error::Held { key, holder },
                Err(held) => Error::SeveralHeld(held),
            });
        }
        for (number, (key, holder)) in held.iter().enumerate() {
            if held[..number].iter().all(|(_, before)| before.session != holder.session) {
                (self.attempt.tell)(Notice::Waiting { key: key.clone(), holder: holder.clone() });
            }
        }
        Ok(true)
    }

    /// Whether a lock delay that we saw begin still runs; that is an error if there is no time to wait.
    fn is_anything_delayed(&self, now: Moment) -> Result<bool, Error> {
        let delayed = self.wanted.iter().find(|wanted| wanted.delay.known(now).is_some());
        match delayed {
            Some(wanted) if self.attempt.time_is_up() => Err(Error::Delayed { key: wanted.key.clone() }),
            delayed => Ok(delayed.is_some()),
        }
    }

    fn ask_for_all(&mut self, standings: &[Standing], read_at: Moment) -> Result<Asked, Error> {
        let attempt = &self.attempt;
        let (session, value) = (&attempt.session.id, attempt.value.as_slice());
        let take = |(number, standing): (usize, &Standing)| {
            let key = self.wanted[number].key.as_str();
            [standing.check(key), Op::Lock { key, session, value, flags: LOCK_FLAGS }]
        };
        let mut ops: Vec<_> = standings.iter().enumerate().flat_map(take).collect();
        // Who reads under them goes with it if there is room; else it is asked next, which is as good: nobody comes in.
        let readers = self.readers();
        let look = self.look(&readers);
        let with_readers = ops.len() + look.len() <= MAX_OPS;
        ops.extend(look.into_iter().filter(|_| with_readers));
        let paths: Vec<_> = ops.iter().map(|op| op.key().to_owned()).collect();
        let sent = Moment::now();
        // After any retry they may have been ours before this very request, which then proves nothing.
        let first_time = !self.asked;
        (attempt.tell)(Notice::Asking);
        let answer = attempt.client.txn(&ops, TIMEOUT);
        self.asked = true;
        match answer {
            Ok(Txn::Done(_)) if !(first_time && Moment::now().since(read_at) < SAME_LEADER) => Ok(Asked::Unproven),
            Ok(Txn::Done(entries)) => {
                let readers = with_readers.then(|| readers.iter().flat_map(|one| one.inside(&entries)).collect());
                Ok(Asked::Won(Box::new(self.holding(&entries, sent)?), readers))
            }
            Ok(Txn::Refused(refusals)) => {
                // Refused is refused: nothing of ours is in the keys.
                self.asked = !first_time;
                self.refused(&refusals, &paths)
            }
            // Nor could they be given back at once where each is left in place with its value.
            Err(ConsulError::Rejected { status: 413, .. }) if !self.attempt.options.keep_key => {
                self.asked = !first_time;
                Ok(Asked::TooLong)
            }
            Err(error) => {
                self.attempt.retry_later(error, sent)?;
                Ok(Asked::Unknown)
            }
        }
    }

    fn refused(&mut self, refusals: &[Refusal], paths: &[String]) -> Result<Asked, Error> {
        for refusal in refusals {
            self.turn_by(paths, refusal);
            if refusal.reason == RefusalReason::LockDelay && self.attempt.time_is_up() {
                return Err(Error::Delayed { key: self.attempt.key.clone() });
            }
            self.attempt.refused(1, std::slice::from_ref(refusal), paths)?;
            // That the token sees one key's readers says nothing of the others'.
            let (sees, key) = (std::mem::take(&mut self.attempt.sees_readers), self.attempt.key);
            self.wanted.iter_mut().filter(|wanted| wanted.key == key).for_each(|wanted| wanted.sees_readers |= sees);
            if refusal.reason == RefusalReason::InvalidSession {
                break;
            }
        }
        Ok(Asked::Refused)
    }

    /// Turns the attempt to the key that was refused, by what the operations were about.
    fn turn_by(&mut self, paths: &[String], refusal: &Refusal) {
        let Some(path) = paths.get(refusal.op_index) else { return };
        let is_about = |key: &Key| path == key.as_str() || path.starts_with(&format!("{key}/.read/"));
        if let Some(wanted) = self.wanted.iter().find(|wanted| is_about(wanted.key)) {
            self.attempt.key = wanted.key;
        }
    }

    /// As [`Attempt::prove`](super::Attempt::prove), for all at once.
    fn prove_all(&mut self) -> Result<Option<Holding>, Error> {
        loop {
            self.attempt.keep_session()?;
            let (session, value) = (&self.attempt.session.id, self.attempt.value.as_slice());
            let take = |key| [Op::CheckSession { key, session }, Op::Lock { key, session, value, flags: LOCK_FLAGS }];
            let ops: Vec<_> = self.wanted.iter().flat_map(|wanted| take(wanted.key.as_str())).collect();
            let sent = Moment::now();
            match self.attempt.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(entries)) => return self.holding(&entries, sent).map(Some),
                Ok(Txn::Refused(refusals)) => {
                    let delayed = refusals.iter().find(|refusal| refusal.reason == RefusalReason::LockDelay);
                    let Some(delayed) = delayed else {
                        let paths: Vec<_> = ops.iter().map(|op| op.key().to_owned()).collect();
                        return self.attempt.lasting(&refusals, &paths).map_or(Ok(None), Err);
                    };
                    if let Some(wanted) = self.wanted.get(delayed.op_index / 2) {
                        self.attempt.key = wanted.key;
                    }
                    self.attempt.patience.answered();
                    self.attempt.pause_in_delay(None)?;
                }
                Err(error) => self.attempt.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }

    fn holding(&self, entries: &[Entry], sent: Moment) -> Result<Holding, Error> {
        let claims = self.wanted.iter().map(|wanted| self.attempt.claim(wanted.key, 1, entries));
        let claims = claims.collect::<Result<Vec<_>, _>>()?;
        Ok(Holding::new(&self.client, self.attempt.options, &self.attempt.session, claims, sent))
    }

    fn readers(&self) -> Vec<Readers> {
        self.wanted.iter().map(|wanted| Readers::of(wanted.key, &self.attempt.session.id)).collect()
    }

    fn look<'r>(&self, readers: &'r [Readers]) -> Vec<Op<'r>> {
        let look = |(wanted, readers): (&Wanted<'_>, &'r Readers)| {
            if wanted.sees_readers { vec![readers.list()] } else { readers.look().to_vec() }
        };
        self.wanted.iter().zip(readers).flat_map(look).collect()
    }

    /// All keys are ours; if nobody reads under them, we have them all at once. Else it was in vain: those who are inside
    /// are waited for with the keys in order.
    fn unless_read(&mut self, holding: Holding, readers: Option<Vec<Entry>>) -> Result<Option<Holding>, Error> {
        let inside = match readers {
            Some(inside) => inside,
            None => self.look_for_readers()?,
        };
        let reads = |wanted: &Wanted<'a>| {
            let readers = Readers::of(wanted.key, &self.attempt.session.id).inside(&inside);
            Some((wanted.key.clone(), readers.first().cloned()?))
        };
        let read: Vec<(Key, Entry)> = self.wanted.iter().filter_map(reads).collect();
        if read.is_empty() {
            return Ok(Some(holding));
        }
        if !self.attempt.time_is_up() {
            return Ok(None);
        }
        let held = |(key, reader): &(Key, Entry)| Some((key.clone(), Holder::of(reader)?));
        let mut held: Vec<_> = read.iter().filter_map(held).collect();
        Err(match (held.pop(), read.into_iter().next()) {
            (Some((key, holder)), _) if held.is_empty() => Error::Held { key, holder },
            (Some(last), _) => Error::SeveralHeld(held.into_iter().chain([last]).collect()),
            // They have died.
            (None, Some((key, _))) => Error::Delayed { key },
            (None, None) => Error::Delayed { key: holding.key().clone() },
        })
    }

    fn look_for_readers(&mut self) -> Result<Vec<Entry>, Error> {
        loop {
            let readers = self.readers();
            let ops = self.look(&readers);
            let sent = Moment::now();
            match self.attempt.client.txn(&ops, TIMEOUT) {
                Ok(Txn::Done(entries)) => return Ok(entries),
                Ok(Txn::Refused(refusals)) => {
                    let paths: Vec<_> = ops.iter().map(|op| op.key().to_owned()).collect();
                    self.refused(&refusals, &paths)?;
                }
                Err(error) => self.attempt.retry_later(error, sent)?,
            }
            if self.stop.is_thrown() {
                return Err(Error::Stopped);
            }
        }
    }
}
