//! The guarantee's arithmetic, pure. A confirmation proves that the session was alive at or after the moment `s` at
//! which its request was sent. Whatever ends the session later, Consul gives the key to nobody for the lock delay after
//! that; so until `s` + lock delay the lock is ours alone, on this machine's own clock, with no word from Consul. The
//! lease spends that time: the margin pays for clock rates, scheduling and the kill itself, the grace for the work to
//! stop in order. Nothing here reads a clock.

use std::time::Duration;

use thiserror::Error;

use super::options::{LockDelay, Ttl};
use crate::clock::Moment;

/// How much a lease has to spend and on what: checked, so that at least a second is left for riding out an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    delay: Duration,
    grace: Duration,
    margin: Duration,
    guaranteed: bool,
}

/// Settings that leave no room for the promise, with the sum that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "these settings cannot keep the promise: lock delay {delay:?} - margin {margin:?} - grace {} leaves {}, at least 1s is \
     needed to notice anything: choose a longer lock delay (60s at most) or a shorter grace",
    shown(*.grace), left(*.delay, .margin.saturating_add(*.grace))
)]
pub struct TooTight {
    delay: Duration,
    margin: Duration,
    grace: Duration,
}

/// Rust writes no time at all as `0ns`, which is not how anybody types `-k 0`.
fn shown(grace: Duration) -> String {
    if grace.is_zero() { "0s".to_owned() } else { format!("{grace:?}") }
}

fn left(delay: Duration, spent: Duration) -> String {
    if delay >= spent { format!("{:?}", delay - spent) } else { format!("-{:?}", spent - delay) }
}

impl Terms {
    /// The terms for a session's lock delay and the work's grace. A lock delay of zero promises nothing at all (Consul
    /// gives the key away at once); the TTL stands in for it then, as the earliest end that Consul announces.
    pub fn new(delay: LockDelay, ttl: Ttl, grace: Duration) -> Result<Self, TooTight> {
        let guaranteed = !delay.get().is_zero();
        let delay = if guaranteed { delay.get() } else { ttl.get().min(LockDelay::MAX.get()) };
        let margin = (delay / 20).max(Duration::from_millis(500));
        if delay < grace.saturating_add(margin).saturating_add(Duration::from_secs(1)) {
            return Err(TooTight { delay, margin, grace });
        }
        Ok(Self { delay, grace, margin, guaranteed })
    }

    /// Whether Consul backs these terms; not so with a lock delay of zero.
    #[must_use]
    pub fn guaranteed(&self) -> bool {
        self.guaranteed
    }

    /// The lock delay D.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Time between the first signal and SIGKILL.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// D less margin: the time from a confirmation to the deadline.
    #[must_use]
    pub fn until_deadline(&self) -> Duration {
        self.delay - self.margin
    }

    /// D less margin and grace: the time from a confirmation to the point of no return.
    #[must_use]
    pub fn until_term(&self) -> Duration {
        self.delay - self.margin - self.grace
    }

    /// How often the lock is confirmed: four times within the room there is, and every 2 s at least.
    #[must_use]
    pub fn interval(&self) -> Duration {
        (self.until_term() / 4).min(Duration::from_secs(2))
    }
}

/// A lease: its terms and the last confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    terms: Terms,
    confirmed: Moment,
}

impl Lease {
    /// A lease from its first confirmation, whose request was sent at `sent`.
    #[must_use]
    pub fn new(terms: Terms, sent: Moment) -> Self {
        Self { terms, confirmed: sent }
    }

    /// Takes note of a confirmation whose request was sent at `sent`; replies may come in any order.
    pub fn confirm(&mut self, sent: Moment) {
        self.confirmed = self.confirmed.max(sent);
    }

    /// When the request was sent that last confirmed.
    #[must_use]
    pub fn confirmed(&self) -> Moment {
        self.confirmed
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// By when the work must be dead.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.confirmed + self.terms.until_deadline()
    }

    /// When the work is told to stop if nothing has confirmed the lock until then.
    #[must_use]
    pub fn term_at(&self) -> Moment {
        self.confirmed + self.terms.until_term()
    }

    /// Until when Consul gives the key to nobody.
    #[must_use]
    pub fn safe_until(&self) -> Moment {
        self.confirmed + self.terms.delay
    }

    /// Whether there is room enough to start anything: half of what a fresh confirmation would give.
    #[must_use]
    pub fn may_start(&self, now: Moment) -> bool {
        self.term_at().since(now) >= self.terms.until_term() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms(delay: u64, grace: u64) -> Result<Terms, TooTight> {
        let delay = LockDelay::new(Duration::from_millis(delay)).expect("within Consul's range");
        Terms::new(delay, Ttl::DEFAULT, Duration::from_millis(grace))
    }

    #[test]
    fn the_defaults_give_the_documented_plan() {
        let terms = terms(30_000, 5_000).expect("the defaults keep the promise");
        assert_eq!(terms.interval(), Duration::from_secs(2));
        assert_eq!(terms.until_term(), Duration::from_millis(23_500));
        assert_eq!(terms.until_deadline(), Duration::from_millis(28_500));
        assert!(terms.guaranteed());
    }

    #[test]
    fn settings_without_room_are_refused_with_the_sum() {
        let error = terms(6_000, 5_000).expect_err("no second is left").to_string();
        assert!(error.contains("lock delay 6s - margin 500ms - grace 5s leaves 500ms"), "{error}");
        let error = terms(3_000, 5_000).expect_err("less than nothing is left").to_string();
        assert!(error.contains("leaves -2.5s"), "{error}");
        let delay = LockDelay::DEFAULT;
        let error = Terms::new(delay, Ttl::DEFAULT, Duration::MAX).expect_err("for ever").to_string();
        assert!(
            error.contains("lock delay 30s - margin 1.5s - grace 18446744073709551615.999999999s leaves -"),
            "{error}"
        );
        assert!(terms(6_500, 5_000).is_ok());
    }

    #[test]
    fn without_a_lock_delay_the_ttl_stands_in_and_nothing_is_promised() {
        let terms = terms(0, 5_000).expect("15 s leave room");
        assert!(!terms.guaranteed());
        assert_eq!(terms.delay(), Duration::from_secs(15));
    }

    proptest! {
        #[test]
        fn the_work_is_told_and_dead_before_consul_gives_the_key_away(
            delay in 1_u64..=60_000, grace in 0_u64..60_000, sent in 0_u64..1_000_000,
        ) {
            if let Ok(terms) = terms(delay, grace) {
                let lease = Lease::new(terms, Moment::from_boot(Duration::from_millis(sent)));
                prop_assert!(lease.term_at() + terms.grace() == lease.deadline());
                prop_assert!(lease.safe_until().since(lease.deadline()) >= Duration::from_millis(500));
                prop_assert!(lease.safe_until().since(lease.deadline()) >= Duration::from_millis(delay) / 20);
                prop_assert!(terms.until_term() >= Duration::from_secs(1));
                prop_assert!(terms.interval() * 4 <= terms.until_term());
                prop_assert!(lease.may_start(lease.confirmed()));
                prop_assert!(!lease.may_start(lease.term_at()));
            } else {
                prop_assert!(delay < grace + (delay / 20).max(500) + 1_001);
            }
        }

        #[test]
        fn confirmations_only_ever_lengthen_a_lease(sent in proptest::collection::vec(0_u64..100_000, 1..20)) {
            let moment = |ms| Moment::from_boot(Duration::from_millis(ms));
            let mut lease = Lease::new(terms(30_000, 5_000).expect("the defaults"), moment(sent[0]));
            for &ms in &sent {
                let before = lease.deadline();
                lease.confirm(moment(ms));
                prop_assert!(lease.deadline() >= before);
            }
            prop_assert_eq!(lease.confirmed(), moment(*sent.iter().max().expect("not empty")));
        }
    }
}
