//! The guard: a process between keeper and command that owns the command's process tree and kills it by its deadline without
//! anybody's help. It knows no lock; a deadline is all it is told. This file is the keeper's end of it.
//!
//! ```text
//! shell ── consul-lock (keeper) ── lock-guard (guard, a session of its own) ── command (in the shell's job) ── …
//! ```
//!
//! The keeper forks it first thing, tells it to [`Guard::start`] when the lock is ours, gives it a later deadline after every
//! confirmation, and hears what becomes of the tree. What the guard reports is what it saw; what it means is the keeper's.

mod command;
mod inherited;
mod proc;
mod process;
mod protocol;
mod schedule;
mod signals;
mod timer;
#[cfg_attr(not(target_os = "linux"), path = "group.rs")]
mod tree;

use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use thiserror::Error;

pub(crate) use inherited::{Inherited, release_descriptors};
pub(crate) use proc::is_ours as can_see_processes;
pub(crate) use protocol::{Report, Status};
pub(crate) use schedule::{Background, Cause};
pub(crate) use tree::descends;

use crate::sys;
use protocol::{Inbox, Outbox, Request};
use tree::Tree;

/// How long the guard may take to read what to start, in milliseconds.
const PATIENCE: u16 = 2000;

/// What the guard must know before it is forked.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The file to execute, by execvp's rules; one with a slash is not looked for along PATH.
    pub(crate) program: PathBuf,
    /// The command's arguments as typed, its own name first.
    pub(crate) argv: Vec<OsString>,
    /// Time between the first signal and SIGKILL; none means SIGKILL at once.
    pub(crate) grace: Duration,
    /// What a process gets before SIGKILL.
    pub(crate) first_signal: Signal,
    /// What becomes of processes that outlive the command.
    pub(crate) background: Background,
    /// What the command gets as we got it.
    pub(crate) inherited: Inherited,
    /// What is left to say if the keeper cannot say it.
    pub(crate) last_words: LastWords,
}

/// The line on descriptor 2 of a guard whose keeper is gone, once all are dead. It is made when it is written, for the time
/// that may be in it.
#[derive(Debug, Clone)]
pub(crate) struct LastWords {
    /// Makes it.
    pub(crate) make: fn(about: &str) -> String,
    /// Of what it is.
    pub(crate) about: String,
}

/// Why there is no guard, or none that answers.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// A system call that sets it up.
    #[error("cannot set up the process that guards the command ({0}): {1}")]
    SetUp(&'static str, #[source] io::Error),
    /// It has died, or was killed, before the command was started.
    #[error("the process that guards the command (lock-guard) is gone: {0}")]
    Gone(#[source] io::Error),
    /// It is stopped.
    #[error(
        "the process that guards the command (lock-guard, pid {0}) does not answer: was it stopped? kill -CONT {0}"
    )]
    Stopped(Pid),
}

/// The keeper's hold on the guard. Letting go of it (or dying) makes the guard kill the tree.
#[derive(Debug)]
pub(crate) struct Guard {
    pid: Pid,
    socket: UnixStream,
    outbox: Mutex<Outbox>,
    /// Children that this process had before it became ours (`helper & exec consul-lock …`).
    spared: Vec<i32>,
    /// The command's pid, once its start was reported; zero before.
    command: Arc<AtomicI32>,
}

/// Forks the guard. To be called on the main thread before there is any other thread, handler or connection: the guard
/// keeps a copy of everything.
///
/// # Errors
/// [`Error::SetUp`]: no process, descriptor or memory to be had.
pub(crate) fn fork(plan: Plan) -> Result<Guard, Error> {
    let set_up = |what| move |error| Error::SetUp(what, error);
    // An ignored SIGCHLD would have the kernel reap our children, and their statuses would be lost.
    sys::set_default(Signal::SIGCHLD).map_err(set_up("sigaction"))?;
    let spared = tree::children_of_this_process();
    sys::become_subreaper().map_err(set_up("prctl"))?;
    let (socket, guards) = UnixStream::pair().map_err(set_up("socketpair"))?;
    match sys::fork().map_err(set_up("fork"))? {
        Some(pid) => {
            sys::own_heap();
            Ok(Guard { pid, socket, outbox: Mutex::default(), spared, command: Arc::default() })
        }
        None => {
            drop(socket);
            process::run(plan, guards)
        }
    }
}

impl Guard {
    /// Starts the command with `env` added to its environment. From here on the guard kills it by `deadline` (the first
    /// signal comes a grace before); no deadline means that there is no lease. The guard holds `locks`, 32 descriptors at
    /// most, for as long as it lives, and the tree inherits them unless it may outlive the lock, so that flock(2) goes on
    /// until all are dead.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Stopped`]: nothing was started, or nothing that is not killed.
    pub(crate) fn start(
        &self,
        env: &[(String, OsString)],
        deadline: Option<Moment>,
        locks: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let env = env.iter().map(|(name, value)| (name.clone(), value.as_os_str().into())).collect();
        let line = protocol::encode(&Request::Start { env, deadline });
        let mut sent = 0;
        while sent < line.len() {
            match protocol::send(&self.socket, &line[sent..], if sent == 0 { locks } else { &[] }) {
                Ok(taken) => sent += taken,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    let ready = poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], PATIENCE);
                    if ready == Ok(0) {
                        return Err(Error::Stopped(self.pid));
                    }
                }
                Err(error) => return Err(Error::Gone(error.into())),
            }
        }
        Ok(())
    }

    /// The start may be near: what takes time and can be done before it is done now. May be left out.
    pub(crate) fn prepare(&self) {
        self.say(&Request::Prepare);
    }

    /// Gives the guard a later deadline.
    pub(crate) fn extend(&self, deadline: Moment) {
        self.say(&Request::Extend { deadline });
    }

    /// The lock is lost: first signal now, SIGKILL at `kill_at` (`None`: after the grace), at the deadline at the latest. A
    /// further call can only bring SIGKILL nearer.
    pub(crate) fn end(&self, kill_at: Option<Moment>) {
        self.say(&Request::End { kill_at });
    }

    /// SIGKILL to everybody now.
    pub(crate) fn kill(&self) {
        self.say(&Request::Kill);
    }

    /// After [`Report::Gone`]: nothing more will be asked, so that the guard need not wait for it.
    pub(crate) fn dismiss(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Forwards a signal to the command, and to nobody else should its pid be another's by now.
    pub(crate) fn signal(&self, signal: Signal) {
        self.say(&Request::Signal { number: signal as i32 });
    }

    /// A guard that is dead or stopped hears nothing; the first shows in [`Listener`]'s end, the second at the deadline.
    fn say(&self, request: &Request) {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.push(request);
        let _ = outbox.flush(&self.socket);
    }

    /// The guard's pid.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The guard's reports.
    ///
    /// # Errors
    /// [`Error::SetUp`]: no descriptor is left.
    pub(crate) fn listen(&self) -> Result<Listener, Error> {
        let socket = self.socket.try_clone().map_err(|error| Error::SetUp("dup", error))?;
        Ok(Listener { socket, inbox: Inbox::default(), command: Arc::clone(&self.command) })
    }

    /// The normal end, after [`Report::Gone`] or before any start: the guard has nothing left to do, and is reaped.
    pub(crate) fn reap(self) {
        // It is about to exit; SIGKILL makes sure that we need not wait for a stopped one. What was to be the command dies with
        // it by itself. To look for that would be to meet whoever else has fallen to this process.
        let _ = kill(self.pid, Signal::SIGKILL);
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }

    /// The guard is dead, or stopped past the deadline: kills it and everything that falls to this process, its subreaper.
    /// Returns true with the proof that nobody is left, or false at `give_up`; `tell` gets [`Report::Unkillable`]. Blocks.
    pub(crate) fn take_over(self, give_up: Option<Moment>, mut tell: impl FnMut(Report)) -> bool {
        // Never reaped before, so the pid is its own.
        let _ = kill(self.pid, Signal::SIGKILL);
        let mut tree = Tree::new(self.spared);
        // Needed only where the tree cannot be walked: without /proc, or without subreapers.
        match self.command.load(Ordering::Relaxed) {
            0 => {}
            command => tree.set_command(Pid::from_raw(command)),
        }
        tree.kill_until_gone(give_up, &mut tell)
    }
}

/// What the guard reports, until its end of the socket closes, which is its own end.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixStream,
    inbox: Inbox,
    command: Arc<AtomicI32>,
}

impl Listener {
    /// The reports that have come, without waiting, and whether there can be more. As long as its
    /// descriptor is readable, there is something to be taken.
    pub(crate) fn reports(&mut self) -> (Vec<Report>, bool) {
        let mut buffer = [0; 4096];
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return (Vec::new(), false),
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return (Vec::new(), true),
                Err(_) => return (Vec::new(), false),
            }
        };
        let reports = self.inbox.take(&buffer[..length]);
        for report in &reports {
            if let Report::Started { pid } = report {
                self.command.store(*pid, Ordering::Relaxed);
            }
        }
        (reports, true)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
