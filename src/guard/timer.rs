//! The guard's alarm clock: an absolute timerfd on CLOCK_BOOTTIME, so that a deadline is met however long poll(2) or the
//! machine slept. Elsewhere than on Linux it is poll's own timeout.

use std::io;
use std::os::fd::BorrowedFd;

use consul_lock::clock::Moment;
use nix::poll::PollTimeout;

#[cfg(target_os = "linux")]
pub(super) use linux::Timer;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    use super::{BorrowedFd, Moment, PollTimeout, io};

    #[derive(Debug)]
    pub(in super::super) struct Timer(TimerFd);

    impl Timer {
        pub(in super::super) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            Ok(Self(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
        }

        /// Sets the moment of the next alarm; an alarm that nobody has seen is forgotten.
        pub(in super::super) fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
            match at {
                // An expiration of zero would disarm it (timerfd_settime(2)).
                Some(at) => {
                    let at = at.since_boot().max(Duration::from_nanos(1));
                    self.0.set(Expiration::OneShot(at.into()), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
                }
                None => self.0.unset()?,
            }
            Ok(())
        }

        /// What to poll for the alarm.
        pub(in super::super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            Some(self.0.as_fd())
        }

        /// How long to poll.
        pub(in super::super) fn timeout(&self) -> PollTimeout {
            PollTimeout::NONE
        }
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Timer(Option<Moment>);

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(None))
    }

    pub(super) fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
        self.0 = at;
        Ok(())
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    pub(super) fn timeout(&self) -> PollTimeout {
        self.0.map_or(PollTimeout::NONE, |at| {
            // Rounded up, or the last millisecond would be spent spinning.
            let left = at.since(Moment::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }
}
