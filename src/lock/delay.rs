//! The waiter's half of the guarantee. A Consul server keeps lock delays in its memory, and one that restarts can
//! forget or shorten a delay that it should enforce. A waiter that saw a holder lose the key by itself therefore counts
//! the delay on its own clock too, from the holder record that it read before, and starts nothing sooner, whatever
//! Consul answers. Pure.

use std::time::Duration;

use super::record::Record;
use crate::clock::Moment;
use crate::consul::Entry;

/// What a waiter has seen of a key, as far as it bears on lock delays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DelayWatch {
    holder: Option<Seen>,
    not_before: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    run: String,
    lock_delay: Duration,
}

impl DelayWatch {
    /// Takes note of the key as it was read; `now` is when the reply had come, so that the delay is counted from no
    /// earlier than the loss.
    pub(super) fn observe(&mut self, entry: Option<&Entry>, now: Moment) {
        let record = entry.and_then(|entry| Record::read(&entry.value));
        match entry {
            Some(entry) if entry.session.is_some() => {
                self.holder =
                    record.and_then(|record| Some(Seen { lock_delay: record.lock_delay()?, run: record.run }));
            }
            Some(_) => {
                let lost = self.holder.take().filter(|seen| {
                    record.as_ref().is_some_and(|record| record.run == seen.run && record.released_at.is_none())
                });
                if let Some(seen) = lost {
                    self.not_before = self.not_before.max(Some(now + seen.lock_delay));
                }
            }
            // A holder that gives the key back deletes it.
            None => self.holder = None,
        }
    }

    /// How long nothing may be started yet.
    pub(super) fn left(&self, now: Moment) -> Option<Duration> {
        self.not_before.map(|moment| moment.since(now)).filter(|left| !left.is_zero())
    }
}

/// The delays of a lock's slots, of which there is one as a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delays {
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slot {
    watch: DelayWatch,
    /// Consul refused it for a delay of which we know nothing else: not to be asked again before.
    ask_at: Option<Moment>,
}

impl Slot {
    fn left(&self, now: Moment) -> Option<Duration> {
        let asked = self.ask_at.map(|moment| moment.since(now)).filter(|left| !left.is_zero());
        self.watch.left(now).max(asked)
    }
}

impl Delays {
    /// Takes note of all slots as they were read, in their order.
    pub(super) fn observe(&mut self, entries: &[Option<&Entry>], now: Moment) {
        self.slots.resize_with(entries.len().max(self.slots.len()), Slot::default);
        for (slot, entry) in self.slots.iter_mut().zip(entries) {
            slot.watch.observe(*entry, now);
        }
    }

    /// Consul refused a slot, counted from 1, which is not asked for again before `ask_at`.
    pub(super) fn refused(&mut self, slot: u16, ask_at: Moment) {
        if let Some(slot) = usize::from(slot).checked_sub(1).and_then(|slot| self.slots.get_mut(slot)) {
            slot.ask_at = Some(ask_at);
        }
    }

    /// Whether nothing may be started in a slot yet, or nothing asked.
    pub(super) fn is_running(&self, slot: u16, now: Moment) -> bool {
        let slot = usize::from(slot).checked_sub(1).and_then(|slot| self.slots.get(slot));
        slot.is_some_and(|slot| slot.left(now).is_some())
    }

    /// How long until one of the delays is over, or may be.
    pub(super) fn left(&self, now: Moment) -> Option<Duration> {
        self.slots.iter().filter_map(|slot| slot.left(now)).min()
    }

    /// How long nothing may be started in any slot, as far as we saw the loss ourselves.
    pub(super) fn known(&self, now: Moment) -> Option<Duration> {
        self.slots.iter().map(|slot| slot.watch.left(now)).min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::standing::LOCK_FLAGS;

    fn entry(record: &Record, held: bool) -> Entry {
        let session = held.then(|| "00000000-0000-0000-0000-000000000001".parse().expect("a session id"));
        Entry {
            key: "k".into(),
            value: record.to_value(),
            flags: LOCK_FLAGS,
            session,
            lock_index: 1,
            create_index: 5,
            modify_index: 7,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn a_loss_that_was_seen_is_waited_out() {
        let record = Record::new(None, Duration::from_secs(40));
        let mut watch = DelayWatch::default();
        watch.observe(Some(&entry(&record, true)), at(100));
        assert_eq!(watch.left(at(100)), None);
        watch.observe(Some(&entry(&record, false)), at(110));
        assert_eq!(watch.left(at(110)), Some(Duration::from_secs(40)));
        // Neither a second look nor somebody else's turn in between shortens it.
        watch.observe(Some(&entry(&record, false)), at(115));
        watch.observe(Some(&entry(&Record::new(None, Duration::from_secs(1)), true)), at(116));
        watch.observe(None, at(117));
        assert_eq!(watch.left(at(120)), Some(Duration::from_secs(30)));
        assert_eq!(watch.left(at(150)), None);
    }

    #[test]
    fn a_release_is_no_loss() {
        let record = Record::new(None, Duration::from_secs(40));
        let mut watch = DelayWatch::default();
        watch.observe(Some(&entry(&record, true)), at(100));
        watch.observe(None, at(101));
        assert_eq!(watch.left(at(101)), None);
        watch.observe(Some(&entry(&record, true)), at(102));
        watch.observe(Some(&entry(&record.released(), false)), at(103));
        assert_eq!(watch.left(at(103)), None);
    }

    #[test]
    fn each_slot_has_a_delay_of_its_own() {
        let record = Record::new(None, Duration::from_secs(40));
        let (held, free) = (entry(&record, true), entry(&record, false));
        let mut delays = Delays::default();
        assert!(!delays.is_running(1, at(0)) && delays.left(at(0)).is_none() && delays.known(at(0)).is_none());
        delays.observe(&[Some(&held), Some(&held)], at(100));
        delays.observe(&[Some(&held), Some(&free)], at(110));
        assert!(!delays.is_running(1, at(110)) && delays.is_running(2, at(110)));
        // One of them can be had at any time, as far as we know.
        assert_eq!((delays.left(at(110)), delays.known(at(110))), (Some(Duration::from_secs(40)), None));
        delays.refused(1, at(111));
        assert!(delays.is_running(1, at(110)) && !delays.is_running(1, at(111)));
        assert_eq!((delays.left(at(110)), delays.known(at(110))), (Some(Duration::from_secs(1)), None));
        delays.observe(&[Some(&free), Some(&free)], at(120));
        assert_eq!(delays.known(at(120)), Some(Duration::from_secs(30)));
        assert!(!delays.is_running(1, at(160)) && !delays.is_running(2, at(160)) && delays.left(at(160)).is_none());
    }

    #[test]
    fn a_newcomer_that_saw_nobody_lose_it_waits_for_nothing() {
        let mut watch = DelayWatch::default();
        watch.observe(Some(&entry(&Record::new(None, Duration::from_secs(40)), false)), at(100));
        assert_eq!(watch.left(at(100)), None);
    }
}
