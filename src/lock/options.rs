//! What a lock is asked to be: the counterpart of `api.LockOptions` in Consul's Go client, field by field, with the
//! durations and keys already checked. A value that exists is one that Consul takes.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;

use super::claim::MAX_CLAIMS;
use super::key::Key;
use super::lease::{Terms, TooTight};
use crate::consul::{Behavior, SessionId};

/// A session's time to live, 10 s to 24 h: the range that Consul takes ("HTTP API: Session, Create", `TTL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(Duration);

/// The lock delay, 0 to 60 s: Consul takes more and applies 60 s ("HTTP API: Session, Create", `LockDelay`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockDelay(Duration);

/// How many may hold a semaphore at a time, 1 to [`Limit::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(u16);

/// How a lock is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// One holder. It is a writer to those who share the lock.
    #[default]
    Exclusive,
    /// A semaphore: as many holders as the limit says, each in a slot of its own. The first slot is the key itself.
    Limit(Limit),
    /// A reader: it excludes every holder of the key itself, and no other reader.
    Shared,
}

impl Sharing {
    /// How many slots there are to choose from.
    #[must_use]
    pub fn slots(self) -> u16 {
        match self {
            Self::Limit(limit) => limit.0,
            Self::Exclusive | Self::Shared => 1,
        }
    }

    /// Whether there is one holder at most.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        self.slots() == 1 && !self.is_shared()
    }

    /// Whether the lock is asked for as a reader.
    #[must_use]
    pub fn is_shared(self) -> bool {
        self == Self::Shared
    }
}

/// Why a number is not one that Consul, or a semaphore, would keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RangeError {
    /// Outside 10 s to 24 h.
    #[error("a session's TTL is 10 s at least and 24 h at most, not {0:?}: Consul refuses any other")]
    Ttl(Duration),
    /// Over 60 s.
    #[error("a lock delay is 60 s at most, not {0:?}: Consul would silently apply 60 s")]
    LockDelay(Duration),
    /// Outside 1 to [`Limit::MAX`].
    #[error("a limit is 1 at least and {most} at most, not {0}: whoever waits reads every slot at each hand-over", most = Limit::MAX.0)]
    Limit(u32),
}

impl Limit {
    /// The most holders of a semaphore. Each hand-over reads all its slots, some 500 bytes each.
    pub const MAX: Self = Self(1000);

    /// Checks the range.
    pub fn new(limit: u32) -> Result<Self, RangeError> {
        match u16::try_from(limit) {
            Ok(number @ 1..) if number <= Self::MAX.0 => Ok(Self(number)),
            _ => Err(RangeError::Limit(limit)),
        }
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Ttl {
    /// Go's `DefaultLockSessionTTL`.
    pub const DEFAULT: Self = Self(Duration::from_secs(15));

    /// Checks that Consul takes `ttl`.
    pub fn new(ttl: Duration) -> Result<Self, RangeError> {
        let range = Duration::from_secs(10)..=Duration::from_secs(24 * 60 * 60);
        if range.contains(&ttl) { Ok(Self(ttl)) } else { Err(RangeError::Ttl(ttl)) }
    }

    /// The time itself.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// How often a session is renewed, and how long a waiter's blocking query lasts.
    #[must_use]
    pub fn third(self) -> Duration {
        self.0 / 3
    }
}

impl LockDelay {
    /// 30 s: twice Consul's own default, so that a leader's crash in a cluster with Consul's default timing, 11 to 17 s
    /// without an answer, ends no command.
    pub const DEFAULT: Self = Self(Duration::from_secs(30));
    /// The longest that Consul applies (`MaxLockDelay` in its source).
    pub const MAX: Self = Self(Duration::from_secs(60));

    /// Checks that Consul applies `delay` as it is.
    pub fn new(delay: Duration) -> Result<Self, RangeError> {
        if delay <= Self::MAX.0 { Ok(Self(delay)) } else { Err(RangeError::LockDelay(delay)) }
    }

    /// The delay of a session that somebody else made: what Consul shows, but never more than it applies.
    #[must_use]
    pub fn shown(delay: Duration) -> Self {
        Self(delay.min(Self::MAX.0))
    }

    /// The time itself.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

/// What the lock's own session is made with: Go's `LockOptions.SessionOpts`, a `SessionEntry`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// `SessionEntry.Name`; goes before [`LockOptions::session_name`].
    pub name: Option<String>,
    /// `SessionEntry.Node`; the agent's own node if absent.
    pub node: Option<String>,
    /// `SessionEntry.Checks`, the older field for node checks. An empty list is a session without checks.
    pub checks: Option<Vec<String>>,
    /// `SessionEntry.NodeChecks`. Absent: Consul's default, `serfHealth`. An empty list is a session without checks.
    pub node_checks: Option<Vec<String>>,
    /// `SessionEntry.ServiceChecks`, by the check's id.
    pub service_checks: Option<Vec<String>>,
    /// `SessionEntry.LockDelay`; [`LockDelay::DEFAULT`] if absent.
    pub lock_delay: Option<LockDelay>,
    /// `SessionEntry.Behavior`; release if absent.
    pub behavior: Option<Behavior>,
    /// `SessionEntry.TTL`; goes before [`LockOptions::session_ttl`].
    pub ttl: Option<Ttl>,
}

/// What a lock is asked to be: `api.LockOptions` of Consul's Go client, and below it what that client has no word for.
///
/// ```
/// use std::time::Duration;
/// use consul_lock::lock::{LockOptions, Ttl};
///
/// let options = LockOptions {
///     session_ttl: Ttl::new(Duration::from_secs(20))?,
///     lock_try_once: true,
///     lock_wait_time: Duration::from_secs(5),
///     ..LockOptions::new("cron/backup".parse()?)
/// };
/// assert_eq!(options.key.as_str(), "cron/backup");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// `Key`: must be set, may be written by the token in use.
    pub key: Key,
    /// Further keys that are held together with `key`, all or none, under the one session; [`LockOptions::MAX_KEYS`] in
    /// all. Nobody who takes several keys by this or by the command deadlocks with another who does.
    pub more_keys: Vec<Key>,
    /// `Value`: what the key holds while it is held; a [holder record](super::Record) if absent.
    pub value: Option<Vec<u8>>,
    /// How many may hold it at a time, and with whom it is shared.
    pub sharing: Sharing,
    /// `Session`: lock under this session, which is then neither made nor destroyed here, but is renewed.
    pub session: Option<SessionId>,
    /// `SessionOpts`: what our own session is made with.
    pub session_opts: SessionOptions,
    /// `SessionName`: `consul-lock KEY` if absent, or `consul-lock KEY and 2 more`.
    pub session_name: Option<String>,
    /// `SessionTTL`.
    pub session_ttl: Ttl,
    /// `MonitorRetries`: failed confirmations in a row that are borne before the lock counts as lost; as many as the
    /// lease has room for if absent.
    pub monitor_retries: Option<u32>,
    /// `MonitorRetryTime`: the pause after a failed confirmation.
    pub monitor_retry_time: Duration,
    /// `LockWaitTime`: with [`lock_try_once`](Self::lock_try_once), how long to wait for the lock; zero is one attempt.
    pub lock_wait_time: Duration,
    /// `LockTryOnce`: give up after [`lock_wait_time`](Self::lock_wait_time) instead of waiting for ever.
    pub lock_try_once: bool,
    /// Time that the work guarded by the lock needs to stop; the lease ends that much earlier.
    pub grace: Duration,
    /// How long a Consul that gives no answer is retried while acquiring and while releasing.
    pub retry_for: Duration,
    /// Leave the key in place on release, without a session, instead of deleting it.
    pub keep_key: bool,
    /// Go on where Consul backs no lease: with a lock delay of zero.
    pub no_guarantee: bool,
    /// Another process gives the lock back: the holder record tells it how. See [`Detached`](super::Detached).
    pub detached: bool,
    /// The program named in the holder record; this process's own name if absent. Never its arguments: they hold
    /// secrets, and every reader of the key sees the record.
    pub program: Option<String>,
    /// Sessions whose holders wait for whoever wants this lock, such as the runs that this one was started by. Where
    /// the lock cannot come free before one of them gives something up, that one is named as the holder.
    pub ancestors: Vec<SessionId>,
    /// Somebody reads along who wants to know who has the lock now. Whoever is first or second in line sees that in any
    /// case; with this the others look every 5 s, too, which costs Consul a request each time.
    pub is_watched: bool,
}

impl LockOptions {
    /// Most keys that a lock can have.
    pub const MAX_KEYS: usize = MAX_CLAIMS;
    /// Go's `DefaultLockWaitTime`.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(15);
    /// The grace of `consul lock` and the default here.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);
    /// The default of [`retry_for`](Self::retry_for).
    pub const DEFAULT_RETRY_FOR: Duration = Duration::from_secs(30);
    /// The default of [`monitor_retry_time`](Self::monitor_retry_time).
    pub const DEFAULT_MONITOR_RETRY_TIME: Duration = Duration::from_secs(1);

    /// The defaults for `key`: wait for ever, a TTL of 15 s, a lock delay of 30 s.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            key,
            more_keys: Vec::new(),
            value: None,
            sharing: Sharing::Exclusive,
            session: None,
            session_opts: SessionOptions::default(),
            session_name: None,
            session_ttl: Ttl::DEFAULT,
            monitor_retries: None,
            monitor_retry_time: Self::DEFAULT_MONITOR_RETRY_TIME,
            lock_wait_time: Self::DEFAULT_WAIT,
            lock_try_once: false,
            grace: Self::DEFAULT_GRACE,
            retry_for: Self::DEFAULT_RETRY_FOR,
            keep_key: false,
            no_guarantee: false,
            detached: false,
            program: None,
            ancestors: Vec::new(),
            is_watched: false,
        }
    }

    /// All keys, in the order of their bytes, each once.
    #[must_use]
    pub fn keys(&self) -> Vec<&Key> {
        let keys: BTreeSet<_> = self.more_keys.iter().chain([&self.key]).collect();
        keys.into_iter().collect()
    }

    /// The TTL that our own session gets.
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        self.session_opts.ttl.unwrap_or(self.session_ttl)
    }

    /// The lock delay that our own session gets.
    #[must_use]
    pub fn lock_delay(&self) -> LockDelay {
        self.session_opts.lock_delay.unwrap_or(LockDelay::DEFAULT)
    }

    /// What becomes of the key when our own session ends by itself.
    #[must_use]
    pub fn behavior(&self) -> Behavior {
        self.session_opts.behavior.unwrap_or(Behavior::Release)
    }

    /// The lease's terms under our own session, or why these settings cannot keep the promise. A lock under somebody
    /// else's session learns its terms from that session.
    pub fn terms(&self) -> Result<Terms, TooTight> {
        Terms::new(self.lock_delay(), self.ttl(), self.grace)
    }

    /// The longest to wait for the lock; nothing is for ever.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.lock_try_once.then_some(self.lock_wait_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_consuls_own() {
        let seconds = Duration::from_secs;
        assert!(Ttl::new(seconds(10)).is_ok() && Ttl::new(seconds(86_400)).is_ok());
        assert_eq!(Ttl::new(Duration::from_millis(9_999)), Err(RangeError::Ttl(Duration::from_millis(9_999))));
        assert!(Ttl::new(seconds(86_401)).is_err());
        assert!(LockDelay::new(seconds(60)).is_ok() && LockDelay::new(Duration::ZERO).is_ok());
        assert_eq!(LockDelay::new(seconds(61)), Err(RangeError::LockDelay(seconds(61))));
        assert_eq!(LockDelay::shown(seconds(90)), LockDelay::MAX);
    }

    #[test]
    fn a_limit_is_a_sane_number() {
        assert_eq!([1, 1000].map(|limit| Limit::new(limit).map(Limit::get)), [Ok(1), Ok(1000)]);
        for limit in [0, 1001, 65_536, 65_537, u32::MAX] {
            assert_eq!(Limit::new(limit), Err(RangeError::Limit(limit)));
        }
        assert!(RangeError::Limit(0).to_string().contains("1000 at most, not 0"), "{}", RangeError::Limit(0));
        assert_eq!(Limit::new(3).map(|limit| Sharing::Limit(limit).slots()), Ok(3));
    }

    #[test]
    fn session_opts_go_before_the_short_forms() -> Result<(), Box<dyn std::error::Error>> {
        let mut options = LockOptions::new("k".parse()?);
        assert_eq!(options.ttl(), Ttl::DEFAULT);
        options.session_opts.ttl = Some(Ttl::new(Duration::from_secs(60))?);
        assert_eq!(options.ttl().get(), Duration::from_secs(60));
        assert_eq!(options.patience(), None);
        Ok(())
    }
}
