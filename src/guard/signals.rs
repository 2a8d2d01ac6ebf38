//! The guard's ears: all signals are blocked, so that none ends or stops it, and the one that it wants, SIGCHLD, is read
//! from a descriptor beside the others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};

/// A descriptor that is readable when a child has died.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(target_os = "linux")]
    descriptor: nix::sys::signalfd::SignalFd,
    #[cfg(not(target_os = "linux"))]
    descriptor: std::os::unix::net::UnixStream,
}

impl Signals {
    /// Blocks every signal of this process, and listens.
    #[cfg(target_os = "linux")]
    pub(super) fn block_all() -> io::Result<Self> {
        use nix::sys::signalfd::{SfdFlags, SignalFd};
        let all = SigSet::all();
        all.thread_set_mask()?;
        let descriptor = SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor })
    }

    /// Blocks every signal but SIGCHLD, whose handler writes to a socket.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn block_all() -> io::Result<Self> {
        let (descriptor, write_end) = std::os::unix::net::UnixStream::pair()?;
        descriptor.set_nonblocking(true)?;
        write_end.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, write_end)?;
        let mut all = SigSet::all();
        all.remove(nix::sys::signal::Signal::SIGCHLD);
        all.thread_set_mask()?;
        Ok(Self { descriptor })
    }

    /// Reads what has come, and returns what the terminal sent to the whole job. Whatever was sent to the guard itself is
    /// dropped here: it takes orders from the keeper and the clock alone.
    #[cfg(target_os = "linux")]
    pub(super) fn drain(&mut self) -> Vec<Signal> {
        let mut from_terminal = Vec::new();
        while let Ok(Some(info)) = self.descriptor.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if let Some(signal @ (Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP)) = signal
                && info.ssi_code == nix::libc::SI_KERNEL
            {
                from_terminal.push(signal);
            }
        }
        from_terminal
    }

    /// Reads what has come; nothing of the terminal's, since the command is in no job of the terminal's here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn drain(&mut self) -> Vec<Signal> {
        while matches!(io::Read::read(&mut self.descriptor, &mut [0; 64]), Ok(1..)) {}
        Vec::new()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
