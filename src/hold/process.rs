//! The process that a keeper holds the lock for, by a handle that no later process of the same number can be taken for.

use thiserror::Error;

#[cfg(target_os = "linux")]
pub(crate) use linux::Process;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::Process;

/// Why a process cannot be watched.
#[derive(Debug, Error)]
pub(crate) enum Unwatchable {
    /// There is none, or it has ended.
    #[error("there is no process {0}: give --pid a process that lives, as $$ is in a shell script")]
    Gone(i32),
    /// It is a thread's number.
    #[cfg(target_os = "linux")]
    #[error("{0} is the number of a thread: give --pid that of its process")]
    Thread(i32),
    /// The kernel has no handles on processes.
    #[error(
        "this system cannot watch a process that is not its child (Linux can since 5.3): use --max instead of --pid"
    )]
    Unsupported,
    /// No descriptor to be had, say.
    #[cfg(target_os = "linux")]
    #[error("process {0} cannot be watched ({1})")]
    Failed(i32, std::io::Error),
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{AsFd, OwnedFd};

    use nix::errno::Errno;
    use nix::libc;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::Unwatchable;
    use crate::sys;

    /// A process that was there.
    #[derive(Debug)]
    pub(crate) struct Process {
        pid: i32,
        handle: OwnedFd,
    }

    impl Process {
        /// Takes hold of the process that has this number now (pidfd_open(2)).
        pub(crate) fn open(pid: i32) -> Result<Self, Unwatchable> {
            let handle = sys::pidfd_open(pid).map_err(|error| match error.raw_os_error() {
                Some(libc::ESRCH) => Unwatchable::Gone(pid),
                Some(libc::EINVAL | libc::ENOENT) => Unwatchable::Thread(pid),
                Some(libc::ENOSYS) => Unwatchable::Unsupported,
                _ => Unwatchable::Failed(pid, error),
            })?;
            let process = Self { pid, handle };
            // A zombie has a number still.
            if process.poll(PollTimeout::ZERO) { Err(Unwatchable::Gone(pid)) } else { Ok(process) }
        }

        /// Its number.
        pub(crate) fn pid(&self) -> i32 {
            self.pid
        }

        /// Waits until it has ended.
        pub(crate) fn wait(&self) {
            while !self.poll(PollTimeout::NONE) {}
        }

        /// Whether it has ended; a poll(2) that fails for another reason than a signal counts as its end, since a lock is
        /// not to be held for ever.
        fn poll(&self, timeout: PollTimeout) -> bool {
            match poll(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(Errno::EINTR) => false,
                Ok(_) | Err(_) => true,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::Unwatchable;

    /// Nothing: see [`Process::open`].
    #[derive(Debug)]
    pub(crate) enum Process {}

    impl Process {
        /// Answers that this cannot be done.
        pub(crate) fn open(pid: i32) -> Result<Self, Unwatchable> {
            let is_there =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH);
            Err(if is_there { Unwatchable::Unsupported } else { Unwatchable::Gone(pid) })
        }

        pub(crate) fn pid(&self) -> i32 {
            match *self {}
        }

        pub(crate) fn wait(&self) {
            match *self {}
        }
    }
}
