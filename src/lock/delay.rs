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
    fn a_newcomer_that_saw_nobody_lose_it_waits_for_nothing() {
        let mut watch = DelayWatch::default();
        watch.observe(Some(&entry(&Record::new(None, Duration::from_secs(40)), false)), at(100));
        assert_eq!(watch.left(at(100)), None);
    }
}
