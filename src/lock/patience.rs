//! How long a Consul that does not answer is asked again, and after which pauses. Pure but for the dice.

use std::time::Duration;

use crate::clock::Moment;
use crate::consul::Error;

/// What is left of somebody's patience with a Consul that gives no usable answer.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// How long no answer at all is borne.
    retry_for: Duration,
    /// When everything is given up.
    until: Option<Moment>,
    silent_since: Option<Moment>,
    failures: u32,
}

impl Patience {
    pub(super) fn new(retry_for: Duration, until: Option<Moment>) -> Self {
        Self { retry_for, until, silent_since: None, failures: 0 }
    }

    /// A usable answer came.
    pub(super) fn answered(&mut self) {
        self.silent_since = None;
        self.failures = 0;
    }

    /// A request that was sent at `sent` failed. The pause before the next one, or nothing when it is time to give up.
    /// A server that is merely `busy` (429, or no connection free) is asked for as long as there is time at all.
    pub(super) fn failed(&mut self, busy: bool, sent: Moment, now: Moment) -> Option<Duration> {
        let since = *self.silent_since.get_or_insert(sent);
        if self.until.is_some_and(|until| now >= until) || (!busy && now.since(since) >= self.retry_for) {
            return None;
        }
        let longest = Duration::from_millis(50 << self.failures.min(5)).min(Duration::from_secs(1));
        self.failures += 1;
        let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        Some(self.until.map_or(pause, |until| pause.min(until.since(now))))
    }
}

/// Whether the server is there and has no room for us at the moment.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Busy { .. })
}

/// A pause during a lock delay: a quarter to half a second, so that a crowd of waiters does not ask in step.
pub(super) fn delay_pause() -> Duration {
    Duration::from_millis(fastrand::u64(250..=500))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(ms))
    }

    #[test]
    fn silence_is_borne_for_so_long_and_an_answer_starts_it_anew() {
        let mut patience = Patience::new(Duration::from_secs(30), None);
        assert!(patience.failed(false, at(0), at(10)).is_some());
        assert!(patience.failed(false, at(29_000), at(29_900)).is_some());
        assert!(patience.failed(false, at(29_950), at(30_000)).is_none());
        patience.answered();
        assert!(patience.failed(false, at(30_100), at(30_200)).is_some());
    }

    #[test]
    fn a_busy_server_is_asked_until_the_waiting_is_over() {
        let mut patience = Patience::new(Duration::from_secs(30), Some(at(100_000)));
        for ms in (0..100_000).step_by(1_000) {
            assert!(patience.failed(true, at(ms), at(ms)).is_some_and(|pause| pause <= Duration::from_secs(1)));
        }
        assert!(patience.failed(true, at(100_000), at(100_000)).is_none());
    }

    #[test]
    fn one_attempt_is_one_attempt() {
        assert!(Patience::new(Duration::from_secs(30), Some(at(5))).failed(true, at(5), at(6)).is_none());
    }

    #[test]
    fn pauses_grow_to_a_second_and_never_pass_the_end() {
        let mut patience = Patience::new(Duration::from_secs(60), Some(at(10_000)));
        let pauses: Vec<_> = (0..8).filter_map(|_| patience.failed(false, at(0), at(0))).collect();
        assert!(pauses[0] <= Duration::from_millis(50));
        assert!(pauses[7] >= Duration::from_millis(500));
        assert!(patience.failed(false, at(9_999), at(9_999)).is_some_and(|pause| pause <= Duration::from_millis(1)));
    }
}
