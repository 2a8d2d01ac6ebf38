//! How long a Consul that does not answer is asked again, and after which pauses. Pure but for the dice.

use std::time::Duration;

use crate::clock::Moment;
use crate::consul::Error;

/// How long a token may be unknown: a server that was restarted leads again before it has applied its log, and answers
/// 403 "ACL not found" to tokens that are good.
const TOKEN_UNKNOWN_FOR: Duration = Duration::from_secs(3);

/// What is left of somebody's patience with a Consul that gives no usable answer.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// How long no answer at all is borne.
    retry_for: Duration,
    /// When everything is given up.
    until: Option<Moment>,
    silent_since: Option<Moment>,
    token_unknown_since: Option<Moment>,
    failures: u32,
}

/// What a failed request says about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Nobody is there, or nobody who can do it: that may change.
    Silent,
    /// The server is there and has no room for us at the moment.
    Busy,
    /// The server does not know our token, or not yet.
    TokenUnknown,
    /// The answer will be the same.
    Final,
}

impl Outlook {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Busy { .. } => Self::Busy,
            error if error.is_unknown_token() => Self::TokenUnknown,
            error if error.is_transient() => Self::Silent,
            _ => Self::Final,
        }
    }
}

impl Patience {
    pub(super) fn new(retry_for: Duration, until: Option<Moment>) -> Self {
        Self { retry_for, until, silent_since: None, token_unknown_since: None, failures: 0 }
    }

    /// A usable answer came.
    pub(super) fn answered(&mut self) {
        self.silent_since = None;
        self.token_unknown_since = None;
        self.failures = 0;
    }

    /// A request that was sent at `sent` failed. The pause before the next one, or nothing when it is time to give up.
    /// A server that is merely busy (429, or no connection free) is asked for as long as there is time at all.
    pub(super) fn failed(&mut self, outlook: Outlook, sent: Moment, now: Moment) -> Option<Duration> {
        let silent_since = *self.silent_since.get_or_insert(sent);
        if outlook != Outlook::TokenUnknown {
            self.token_unknown_since = None;
        }
        let is_over = match outlook {
            Outlook::Final => true,
            Outlook::Busy => false,
            Outlook::Silent => now.since(silent_since) >= self.retry_for,
            Outlook::TokenUnknown => {
                now.since(*self.token_unknown_since.get_or_insert(sent)) >= TOKEN_UNKNOWN_FOR.min(self.retry_for)
            }
        };
        if is_over || self.until.is_some_and(|until| now >= until) {
            return None;
        }
        let longest = Duration::from_millis(50 << self.failures.min(5)).min(Duration::from_secs(1));
        self.failures += 1;
        let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        Some(self.until.map_or(pause, |until| pause.min(until.since(now))))
    }
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
        assert!(patience.failed(Outlook::Silent, at(0), at(10)).is_some());
        assert!(patience.failed(Outlook::Silent, at(29_000), at(29_900)).is_some());
        assert!(patience.failed(Outlook::Silent, at(29_950), at(30_000)).is_none());
        patience.answered();
        assert!(patience.failed(Outlook::Silent, at(30_100), at(30_200)).is_some());
    }

    #[test]
    fn a_busy_server_is_asked_until_the_waiting_is_over() {
        let mut patience = Patience::new(Duration::from_secs(30), Some(at(100_000)));
        for ms in (0..100_000).step_by(1_000) {
            assert!(
                patience.failed(Outlook::Busy, at(ms), at(ms)).is_some_and(|pause| pause <= Duration::from_secs(1))
            );
        }
        assert!(patience.failed(Outlook::Busy, at(100_000), at(100_000)).is_none());
    }

    #[test]
    fn one_attempt_is_one_attempt() {
        assert!(Patience::new(Duration::from_secs(30), Some(at(5))).failed(Outlook::Busy, at(5), at(6)).is_none());
    }

    #[test]
    fn an_unknown_token_is_borne_for_a_moment_however_long_nobody_was_there_before() {
        let mut patience = Patience::new(Duration::from_secs(30), None);
        assert!(patience.failed(Outlook::Silent, at(0), at(100)).is_some());
        assert!(patience.failed(Outlook::TokenUnknown, at(20_000), at(20_010)).is_some());
        assert!(patience.failed(Outlook::TokenUnknown, at(22_900), at(22_910)).is_some());
        assert!(patience.failed(Outlook::TokenUnknown, at(23_000), at(23_010)).is_none());
        // Down again: what comes back starts from the beginning.
        assert!(patience.failed(Outlook::Silent, at(23_100), at(23_110)).is_some());
        assert!(patience.failed(Outlook::TokenUnknown, at(23_200), at(23_210)).is_some());
        patience.answered();
        assert!(patience.failed(Outlook::TokenUnknown, at(24_000), at(24_010)).is_some());
    }

    #[test]
    fn what_is_final_is_not_asked_again() {
        assert!(Patience::new(Duration::from_secs(30), None).failed(Outlook::Final, at(0), at(1)).is_none());
    }

    #[test]
    fn pauses_grow_to_a_second_and_never_pass_the_end() {
        let mut patience = Patience::new(Duration::from_secs(60), Some(at(10_000)));
        let pauses: Vec<_> = (0..8).filter_map(|_| patience.failed(Outlook::Silent, at(0), at(0))).collect();
        assert!(pauses[0] <= Duration::from_millis(50));
        assert!(pauses[7] >= Duration::from_millis(500));
        assert!(
            patience
                .failed(Outlook::Silent, at(9_999), at(9_999))
                .is_some_and(|pause| pause <= Duration::from_millis(1))
        );
    }
}
