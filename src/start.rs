//! Where the program begins on Linux with glibc: here and not in the standard library, whose own start reads
//! /proc/self/maps and makes a second stack, for the main thread and again for each other one, to have a message for a
//! stack that overflows: 0.2 ms of a free run. What else it does is done here. Without it such an overflow ends the process
//! by SIGSEGV, as it does any program in C.

use std::io;
use std::os::fd::IntoRawFd;
use std::panic::catch_unwind;

use anyhow::anyhow;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::sys;

/// What the C library calls.
pub(crate) fn start() -> i32 {
    let prepared = open_standard_descriptors().and_then(|()| sys::ignore(Signal::SIGPIPE));
    match prepared.map(|()| catch_unwind(crate::begin)) {
        Ok(Ok(never)) => never,
        Ok(Err(_)) => crate::cli::fail(&anyhow!("this is a fault of consul-lock's own")),
        Err(error) => crate::cli::fail(&anyhow!(error).context("cannot begin")),
    }
}

/// A descriptor from 0 to 2 that came in closed would be given to the first thing that is opened, and messages would be
/// written into that.
fn open_standard_descriptors() -> io::Result<()> {
    for number in (0..3).filter(|&number| !sys::is_open(number)) {
        // The lowest number that is free is the one that we get: this one, as those below it are open.
        let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?.into_raw_fd();
        debug_assert_eq!(null, number);
    }
    Ok(())
}
