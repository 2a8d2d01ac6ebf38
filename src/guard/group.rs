//! The tree where there are no subreapers (macOS, the BSDs): the command's process group, which is one of its own there. What
//! leaves the group escapes, and the proof that nobody is left is the group's being empty; the guarantee is Linux's.

use std::thread;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setpgid};

use super::protocol::Report;
use crate::sys::{self, Reaped};

/// The command's process group.
#[derive(Debug)]
pub(super) struct Tree {
    group: Option<Pid>,
    reported: bool,
}

impl Tree {
    /// Nobody yet.
    pub(super) fn new(_spared: Vec<i32>) -> Self {
        Self { group: None, reported: false }
    }

    /// The command is this child; it leads the group.
    pub(super) fn set_command(&mut self, pid: Pid) {
        // The child does the same; whoever comes first, the group is there before it is needed.
        let _ = setpgid(pid, pid);
        self.group = Some(pid);
    }

    /// Whether anybody in the group is alive; waitpid(2) knows only of the command.
    pub(super) fn has_strays(&self) -> bool {
        self.group.is_some_and(|group| killpg(group, None) != Err(Errno::ESRCH))
    }

    /// At least one if there are any.
    pub(super) fn count(&self) -> usize {
        usize::from(self.has_strays())
    }

    /// Sends `signal` to the group, and SIGCONT after it.
    pub(super) fn signal(&mut self, signal: Signal, until: Option<Moment>, _name: bool, _tell: &mut dyn FnMut(Report)) {
        if let Some(group) = self.group.filter(|_| until.is_none_or(|until| Moment::now() < until)) {
            let _ = killpg(group, signal);
            let _ = killpg(group, Signal::SIGCONT);
        }
    }

    /// SIGKILL to the group.
    pub(super) fn sweep(&mut self, _now: Moment, _name: bool, tell: &mut dyn FnMut(Report)) -> bool {
        if let Some(group) = self.group
            && killpg(group, Signal::SIGKILL) == Err(Errno::EPERM)
            && !self.reported
        {
            self.reported = true;
            tell(Report::Unkillable { pid: group.as_raw(), user: "?".to_owned(), name: "?".to_owned() });
        }
        false
    }

    /// Kills the group and returns true when nobody is left, or false at `give_up`.
    pub(super) fn kill_until_gone(&mut self, give_up: Option<Moment>, tell: &mut dyn FnMut(Report)) -> bool {
        loop {
            let now = Moment::now();
            self.sweep(now, false, tell);
            while let Reaped::Child(..) = sys::reap() {}
            if sys::reap() == Reaped::NoChild && !self.has_strays() {
                return true;
            }
            if give_up.is_some_and(|give_up| now >= give_up) {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A child has been reaped; the group's number stays taken while anybody is in it.
    pub(super) fn forget(&mut self, _pid: i32) {
        if !self.has_strays() {
            self.group = None;
        }
    }
}

/// Makes the calling process, the command, the leader of the group.
pub(super) fn join() {
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
}

/// Not known here, and not needed: only the group is killed.
pub(super) fn children_of_this_process() -> Vec<i32> {
    Vec::new()
}

/// Whether `pid` descends from `ancestor`: not known here.
pub(super) fn descends(_pid: i32, _ancestor: i32) -> bool {
    false
}
