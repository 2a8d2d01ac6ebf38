//! What came with us from whoever started us: the command must get it as if we were not there, and keeper and guard must let
//! go of it once the command has it, or a pipeline would wait for them.

use std::fs;
use std::os::fd::RawFd;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{close, dup2_stdin, dup2_stdout};

use crate::sys;

/// Signal mask and ignored signals as they were at the start.
#[derive(Debug, Clone)]
pub(crate) struct Inherited {
    mask: SigSet,
    ignored: Vec<Signal>,
}

impl Inherited {
    /// Reads them. To be called first thing in `main`: what is blocked or handled later would count as inherited.
    pub(crate) fn read() -> Self {
        Self {
            mask: SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty()),
            // Rust's runtime ignores SIGPIPE before main, so that one cannot be told; the command gets it default anyway.
            ignored: Signal::iterator()
                .filter(|&signal| signal != Signal::SIGPIPE && sys::is_ignored(signal))
                .collect(),
        }
    }

    /// Whether `signal` came in ignored (nohup, a shell's `&`). Such a signal gets no handler of ours.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        self.ignored.contains(&signal)
    }

    /// The signal mask that the command gets.
    pub(super) fn mask(&self) -> &SigSet {
        &self.mask
    }
}

/// Puts /dev/null on 0 and 1 and closes what was inherited above 2: where nothing will be read or written any more, because
/// another process has its copies.
pub(crate) fn release_descriptors() {
    if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
    }
    for descriptor in inherited_descriptors() {
        let _ = close(descriptor);
    }
}

/// The open descriptors above 2 that an execve(2) leaves open: none of our own are, and all that came with one.
fn inherited_descriptors() -> Vec<RawFd> {
    // Without /dev/fd (no /proc) the first thousand are tried: more than any shell hands on.
    let listed: Vec<RawFd> = match fs::read_dir("/dev/fd") {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (3..1024).collect(),
    };
    listed.into_iter().filter(|&descriptor| descriptor > 2 && sys::survives_exec(descriptor)).collect()
}
