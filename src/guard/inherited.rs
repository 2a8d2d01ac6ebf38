//! What came with us from whoever started us, read before anything else is done: the command must get it as if we were
//! not there, and keeper and guard must let go of it once the command runs, or a pipeline would wait for them.

use std::fs;
use std::os::fd::RawFd;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{close, dup2_stdin, dup2_stdout};

use crate::sys;

/// Signal mask, ignored signals and open descriptors as they were at the start.
#[derive(Debug, Clone)]
pub(crate) struct Inherited {
    mask: SigSet,
    ignored: Vec<Signal>,
    descriptors: Vec<RawFd>,
}

impl Inherited {
    /// Reads them. To be called first thing in `main`: what is opened, blocked or handled later would count as inherited.
    pub(crate) fn read() -> Self {
        Self {
            mask: SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty()),
            // Rust's runtime ignores SIGPIPE before main, so that one cannot be told; the command gets it default anyway.
            ignored: Signal::iterator()
                .filter(|&signal| signal != Signal::SIGPIPE && sys::is_ignored(signal))
                .collect(),
            descriptors: open_descriptors(),
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

    /// Puts /dev/null on 0 and 1 and closes what was inherited above 2. Once, when the command has its copies.
    pub(crate) fn release_descriptors(&self) {
        if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = dup2_stdin(&null);
            let _ = dup2_stdout(&null);
        }
        for &descriptor in &self.descriptors {
            let _ = close(descriptor);
        }
    }
}

/// The open descriptors above 2.
fn open_descriptors() -> Vec<RawFd> {
    // Without /dev/fd (no /proc) the first thousand are tried: more than any shell hands on.
    let listed: Vec<RawFd> = match fs::read_dir("/dev/fd") {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (3..1024).collect(),
    };
    // The directory listed its own descriptor too, which is closed by now.
    listed.into_iter().filter(|&descriptor| descriptor > 2 && sys::is_open(descriptor)).collect()
}
