//! The command's birth: what the guard's forked child does until it is the command. Not through std's `spawn`, which waits for
//! the execve(2): from a file system that hangs that may take for ever, and a guard that waits is no guard.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Pid, getpid};

use super::Plan;
use super::process::FAULT;
use super::protocol::Bytes;
use super::schedule::Background;
use super::tree;
use crate::sys;

/// Forks the command. What is returned beside its pid is closed when the program runs, or has the four bytes of execve(2)'s
/// errno.
///
/// # Errors
/// No descriptor or no process to be had.
pub(super) fn fork(plan: &Plan, env: &[(String, Bytes)], locks: &[OwnedFd]) -> io::Result<(Pid, io::PipeReader)> {
    let (from_command, to_guard) = io::pipe()?;
    let guard = getpid();
    match sys::fork()? {
        Some(command) => Ok((command, from_command)),
        None => become_command(guard, plan, env, locks, to_guard),
    }
}

/// The number that an error has, or that of an argument that no program can be given (one with a zero byte).
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::EINVAL as i32)
}

fn become_command(
    guard: Pid,
    plan: &Plan,
    env: &[(String, Bytes)],
    locks: &[OwnedFd],
    mut to_guard: io::PipeWriter,
) -> ! {
    if !sys::die_with(guard) {
        sys::exit(FAULT);
    }
    tree::join();
    if plan.background != Background::Leave {
        for lock in locks {
            let _ = fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()));
        }
    }
    // Signals that came in ignored were never touched; SIGCHLD was set to default before the guard was forked, and exec()
    // does the same for SIGPIPE, which Rust's runtime ignores.
    let _ = plan.inherited.mask().thread_set_mask();
    let error = match plan.argv.split_first() {
        Some((name, args)) => {
            let variables = env.iter().map(|(name, value)| (name, OsString::from(value)));
            Command::new(&plan.program).arg0(name).args(args).envs(variables).exec()
        }
        None => Errno::ENOENT.into(),
    };
    let _ = to_guard.write_all(&errno(&error).to_ne_bytes());
    sys::exit(FAULT)
}
