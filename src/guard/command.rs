//! The command's birth. Its process is made while Consul is asked for the lock, or while we lead the line, in the shell's job, and
//! sleeps until it hears what to add to its environment: then nothing but the execve(2) is left to do. Not through std's `spawn`, which waits for
//! the execve(2): from a file system that hangs that may take for ever, and a guard that waits is no guard.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, close, getpid};

use super::Plan;
use super::process::FAULT;
use super::protocol::{self, Bytes, Inbox};
use super::schedule::Background;
use super::tree;
use crate::sys;

/// Variables that are added to the command's environment.
pub(super) type Environment = Vec<(String, Bytes)>;

/// The process that is to be the command. It has every signal blocked, so that one that the terminal sends to the job just
/// before the start is the command's; it dies with the guard.
#[derive(Debug)]
pub(super) struct Unborn {
    pid: Pid,
    socket: UnixStream,
}

impl Unborn {
    /// Forks it.
    ///
    /// # Errors
    /// No descriptor or no process to be had.
    pub(super) fn fork(plan: &Plan, keeper: Option<&UnixStream>) -> io::Result<Self> {
        let (socket, its) = UnixStream::pair()?;
        let guard = getpid();
        match sys::fork()? {
            Some(pid) => Ok(Self { pid, socket }),
            None => {
                drop(socket);
                // Else the keeper would not see the guard's end as long as this process lives.
                let _ = keeper.map(|keeper| close(keeper.as_raw_fd()));
                become_command(guard, plan, its)
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Has it execute the program with `env` added to its environment, and with `locks`, which the tree then inherits. What
    /// is returned is closed when the program runs, or has the four bytes of execve(2)'s errno. Does not wait.
    ///
    /// # Errors
    /// It takes no more at once than a socket does: EAGAIN.
    pub(super) fn execute(self, env: &Environment, locks: &[OwnedFd]) -> io::Result<UnixStream> {
        let locks: Vec<_> = locks.iter().map(AsFd::as_fd).collect();
        let line = protocol::encode(env);
        match protocol::send(&self.socket, &line, &locks) {
            Ok(taken) if taken == line.len() => Ok(self.socket),
            Ok(_) => Err(Errno::EAGAIN.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills it, and waits for its end.
    pub(super) fn kill(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        while nix::sys::wait::waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}

/// The number that an error has, or that of an argument that no program can be given (one with a zero byte).
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::EINVAL as i32)
}

fn become_command(guard: Pid, plan: &Plan, mut socket: UnixStream) -> ! {
    if !sys::die_with(guard) {
        sys::exit(FAULT);
    }
    tree::join();
    sys::set_name(c"lock-command");
    let mut command = plan.argv.split_first().map(|(name, args)| {
        let mut command = Command::new(&plan.program);
        command.arg0(name).args(args);
        command
    });
    warm_up();
    // Without a word the guard is gone.
    let Some((env, locks)) = listen(&socket) else { sys::exit(FAULT) };
    if plan.background != Background::Leave {
        for lock in &locks {
            let _ = fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()));
        }
    }
    // Signals that came in ignored were never touched; SIGCHLD was set to default before the guard was forked, and exec()
    // does the same for SIGPIPE, which Rust's runtime ignores.
    let _ = plan.inherited.mask().thread_set_mask();
    let error = match &mut command {
        Some(command) => command.envs(env.iter().map(|(name, value)| (name, OsString::from(value)))).exec(),
        None => Errno::ENOENT.into(),
    };
    let _ = socket.write_all(&errno(&error).to_ne_bytes());
    sys::exit(FAULT)
}

/// Touches what the start will need while there is time: after a fork without exec every page costs a fault at first use.
pub(super) fn warm_up() {
    let env: Environment = vec![("NAME".to_owned(), Bytes::from("value".as_ref()))];
    drop(Inbox::default().take::<Environment>(&protocol::encode(&env)));
}

/// Waits for what [`Unborn::execute`] sends.
fn listen(socket: &UnixStream) -> Option<(Environment, Vec<OwnedFd>)> {
    let (mut inbox, mut locks, mut buffer) = (Inbox::default(), Vec::new(), [0; 4096]);
    loop {
        match sys::receive(socket, &mut buffer) {
            Ok((0, _)) => return None,
            Ok((length, received)) => {
                locks.extend(received);
                if let Some(env) = inbox.take(&buffer[..length]).pop() {
                    return Some((env, locks));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
