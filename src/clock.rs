//! The one clock that every decision is made on. It is CLOCK_BOOTTIME, which goes on while a machine sleeps: a laptop
//! that wakes after an hour must find its deadline long past, and CLOCK_MONOTONIC would have it still ahead
//! (clock_gettime(2)). Other Unixes have no such clock under that name; there it is CLOCK_MONOTONIC, which on macOS
//! counts sleep as well.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// A moment on this machine since it booted, in nanoseconds; comparable between processes of one machine, and with
/// nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        // It cannot fail: the clock is there on every kernel that Rust supports, and the guard, which sets its timer by the
        // same, ends before it has started anything where it is not.
        clock_gettime(CLOCK).map_or(Self(0), |time| Self::from_boot(time.into()))
    }

    /// The moment that is `since_boot` after the machine's start.
    #[must_use]
    pub fn from_boot(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time from the machine's start to this moment, as timerfd_settime(2) takes it.
    #[must_use]
    pub fn since_boot(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self::from_boot(self.since_boot().saturating_add(time))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, time: Duration) -> Self {
        Self::from_boot(self.since_boot().saturating_sub(time))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{:?}", self.since_boot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let early = Moment::from_boot(Duration::from_secs(1));
        let late = Moment::from_boot(Duration::from_secs(3));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early - Duration::from_secs(5), Moment::from_boot(Duration::ZERO));
        assert!(late + Duration::MAX > late);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = Moment::now();
        assert!(Moment::now() >= before);
        assert!(before > Moment::from_boot(Duration::ZERO));
    }
}
