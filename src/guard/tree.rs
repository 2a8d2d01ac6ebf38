//! The tree: all that descends from this process, which is a subreaper, so that whoever loses its parent falls to it. To
//! signal everybody, and to kill until nobody is left.
//!
//! A walk is no snapshot: processes are born and change parents behind it. Only ECHILD from waitpid(2) proves that nobody
//! is left, and the kill loop walks until then.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::process;
use std::thread;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::proc::{self, Children};
use super::protocol::Report;
use super::schedule::pause;
use crate::sys::{self, Reaped};

/// A process that got SIGKILL and is there after this time is reported.
const UNDYING: Duration = Duration::from_millis(500);

/// Walks before a first signal, at most.
const SNAPSHOT_WALKS: usize = 3;

/// A walk of a tree that cannot be killed and forks all the time might never end.
const LONGEST_WALK: Duration = Duration::from_secs(1);

/// The descendants of this process.
#[derive(Debug)]
pub(super) struct Tree {
    me: i32,
    /// Children that this process had before and that are none of ours, with all that descends from them.
    spared: Vec<i32>,
    /// The one child that is known without /proc.
    command: Option<i32>,
    seen: HashMap<i32, Seen>,
}

/// What has been done about a process.
#[derive(Debug, Default)]
struct Seen {
    killed: Option<Moment>,
    reported: bool,
    named: bool,
}

/// A process at a moment.
#[derive(Debug, Clone, Copy)]
struct Member {
    pid: i32,
    born: u64,
}

impl Tree {
    /// All that descends from this process, except from the `spared` children.
    pub(super) fn new(spared: Vec<i32>) -> Self {
        Self { me: process::id().cast_signed(), spared, command: None, seen: HashMap::new() }
    }

    /// The command is this child.
    pub(super) fn set_command(&mut self, pid: Pid) {
        self.command = Some(pid.as_raw());
    }

    /// Whether processes of it are alive though waitpid(2) knows of none: not in a subreaper.
    pub(super) fn has_strays(&self) -> bool {
        false
    }

    /// How many processes are alive in it, as far as one walk can tell.
    pub(super) fn count(&self) -> usize {
        let (begun, mut alive) = (Moment::now(), 0);
        walk(self.me, &self.spared, &self.look(), |pid, _| {
            alive += usize::from(is_alive(pid));
            Onward::unless(Moment::now().since(begun) > LONGEST_WALK)
        });
        alive
    }

    /// Sends `signal` once to each process that exists now, parents before children, and SIGCONT after it; nothing is sent
    /// at `until` or later. With `name_them` each is told.
    pub(super) fn signal(
        &mut self,
        signal: Signal,
        until: Option<Moment>,
        name_them: bool,
        tell: &mut dyn FnMut(Report),
    ) {
        let is_time = || until.is_none_or(|until| Moment::now() < until);
        for member in self.snapshot(is_time) {
            if name_them {
                self.seen.entry(member.pid).or_default().name(member.pid, tell);
            }
            let handle = sys::pidfd_open(member.pid).ok();
            if proc::stat(member.pid).is_some_and(|stat| stat.born == member.born) && is_time() {
                for signal in [signal, Signal::SIGCONT] {
                    let _ = send(member.pid, handle.as_ref(), signal);
                }
            }
        }
    }

    /// Everybody who was born before now, and before anybody is signalled: who is born to a trap's clean-up must not be among
    /// them, and a process that forks and exits all the time must not be run after.
    fn snapshot(&self, is_time: impl Fn() -> bool) -> Vec<Member> {
        let begun = proc::ticks(Moment::now());
        let mut known = HashSet::new();
        let mut members = Vec::new();
        for _ in 0..SNAPSHOT_WALKS {
            let before = members.len();
            walk(self.me, &self.spared, &self.look(), |pid, parent| {
                if !known.contains(&pid) {
                    // The parent proves that it still is the process that the walk met; one that has changed parents is met
                    // by the next walk.
                    match proc::stat(pid).filter(|stat| stat.parent == parent || stat.parent == self.me) {
                        Some(stat) if stat.born <= begun => members.push(Member { pid, born: stat.born }),
                        _ => return Onward::Past,
                    }
                    known.insert(pid);
                }
                Onward::unless(!is_time())
            });
            if members.len() == before {
                break;
            }
        }
        members
    }

    /// One walk that sends SIGKILL to everybody as it is met. True if it met somebody new; then the next walk should follow
    /// at once. With `name_them` each that had not been named is told.
    pub(super) fn sweep(&mut self, now: Moment, name_them: bool, tell: &mut dyn FnMut(Report)) -> bool {
        let children = self.look();
        let (me, seen) = (self.me, &mut self.seen);
        let mut met_new = false;
        walk(me, &self.spared, &children, |pid, parent| {
            let seen = seen.entry(pid).or_default();
            if name_them && seen.killed.is_none() {
                seen.name(pid, tell);
            }
            let undying = match kill_as_met(pid, parent, me) {
                Ok(()) => {
                    met_new |= seen.killed.is_none();
                    now.since(*seen.killed.get_or_insert(now)) >= UNDYING
                }
                Err(error) => error == Errno::EPERM,
            };
            if undying && !seen.reported && is_alive(pid) {
                seen.reported = true;
                tell(Report::Unkillable { pid, user: proc::user(pid), name: proc::name(pid) });
            }
            Onward::unless(Moment::now().since(now) > LONGEST_WALK)
        });
        met_new
    }

    /// Kills everybody and returns true when nobody is left, or false at `give_up`. Blocks meanwhile.
    pub(super) fn kill_until_gone(&mut self, give_up: Option<Moment>, tell: &mut dyn FnMut(Report)) -> bool {
        let begun = Moment::now();
        let mut found_nobody = 0;
        loop {
            let now = Moment::now();
            let met_new = self.sweep(now, false, tell);
            let reaped = loop {
                match sys::reap() {
                    Reaped::Child(pid, _) => self.forget(pid),
                    end => break end,
                }
            };
            if reaped == Reaped::NoChild {
                return true;
            }
            // Spared children keep ECHILD from us; then some walks that meet nobody must do.
            found_nobody = if !self.spared.is_empty() && self.count() == 0 { found_nobody + 1 } else { 0 };
            if found_nobody == 3 {
                return true;
            }
            if give_up.is_some_and(|give_up| now >= give_up) {
                return false;
            }
            if !met_new {
                let done = Moment::now();
                thread::sleep(pause(done.since(begun)).max(done.since(now)));
            }
        }
    }

    /// A child has been reaped: its pid may come back as another's.
    pub(super) fn forget(&mut self, pid: i32) {
        self.seen.remove(&pid);
        self.command = self.command.filter(|&command| command != pid);
    }

    fn look(&self) -> Children {
        Children::look().unwrap_or_else(|| Children::only(self.me, self.command))
    }
}

impl Seen {
    /// Tells the process's name, once.
    fn name(&mut self, pid: i32, tell: &mut dyn FnMut(Report)) {
        if !self.named && is_alive(pid) {
            self.named = true;
            tell(Report::Left { pid, name: proc::name(pid) });
        }
    }
}

/// Where a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Onward {
    /// To the children of the process.
    Below,
    /// Not to its children.
    Past,
    /// Nowhere.
    Stop,
}

impl Onward {
    fn unless(stop: bool) -> Self {
        if stop { Self::Stop } else { Self::Below }
    }
}

/// Calls `visit` with each descendant of `top` and its parent, parents first; children are looked up after the visit.
fn walk(top: i32, spared: &[i32], children: &Children, mut visit: impl FnMut(i32, i32) -> Onward) {
    let below = |parent: i32| children.of(parent).into_iter().map(move |pid| (pid, parent));
    let mut ahead: Vec<_> = below(top).filter(|(pid, _)| !spared.contains(pid)).collect();
    let mut met = HashSet::new();
    while let Some((pid, parent)) = ahead.pop() {
        if met.insert(pid) {
            match visit(pid, parent) {
                Onward::Below => ahead.extend(below(pid)),
                Onward::Past => {}
                Onward::Stop => break,
            }
        }
    }
}

/// SIGKILL to `pid`, which a walk from `top` met as a child of `parent`.
fn kill_as_met(pid: i32, parent: i32, top: i32) -> nix::Result<()> {
    if parent == top {
        // Only we reap our children, so nobody else can have this pid.
        return kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let handle = sys::pidfd_open(pid).ok();
    // What was opened is the process that the walk met if it still is its parent's child, or has become ours.
    if proc::stat(pid).is_some_and(|stat| stat.parent == parent || stat.parent == top) {
        send(pid, handle.as_ref(), Signal::SIGKILL)
    } else {
        Err(Errno::ESRCH)
    }
}

fn send(pid: i32, handle: Option<&OwnedFd>, signal: Signal) -> nix::Result<()> {
    match handle {
        Some(handle) => sys::pidfd_send_signal(handle, signal),
        // A kernel without pidfds: the check before must do.
        None => kill(Pid::from_raw(pid), signal),
    }
}

fn is_alive(pid: i32) -> bool {
    proc::stat(pid).is_some_and(|stat| !stat.is_dead)
}

/// Has the command, which calls this, be where [`Tree`] finds it.
pub(super) fn join() {}

/// The children that this process has already.
pub(super) fn children_of_this_process() -> Vec<i32> {
    if !sys::has_children() {
        return Vec::new();
    }
    Children::look().map_or_else(Vec::new, |children| children.of(process::id().cast_signed()))
}

/// Whether `pid` is, or descends from, `ancestor`.
pub(crate) fn descends(pid: i32, ancestor: i32) -> bool {
    let mut at = pid;
    // A chain of parents that changes under us could in theory go round; no tree is this deep.
    for _ in 0..10_000 {
        if at == ancestor {
            return true;
        }
        match proc::stat(at) {
            Some(stat) if stat.parent > 0 => at = stat.parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_descends_from_us_and_its_ancestors_and_not_the_other_way_round() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let (me, pid) = (process::id().cast_signed(), child.id().cast_signed());
        assert!(descends(pid, me) && descends(pid, pid) && descends(pid, 1));
        assert!(!descends(me, pid) && !descends(1, me));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        assert!(!descends(pid, me), "nobody knows of the dead");
    }

    #[test]
    fn a_walk_goes_below_past_or_no_further_and_meets_each_process_once() {
        // 1 has 2 and 3; 3 has 4; 4 claims to be the parent of 2, as a change of parents behind the walk can make it seem.
        let children = Children::Listed(HashMap::from([(1, vec![2, 3, 9]), (3, vec![4]), (4, vec![2])]));
        let met = |onward: fn(i32) -> Onward| {
            let mut met = Vec::new();
            walk(1, &[9], &children, |pid, parent| {
                met.push((pid, parent));
                onward(pid)
            });
            met
        };
        assert_eq!(met(|_| Onward::Below), [(3, 1), (4, 3), (2, 4)]);
        assert_eq!(met(|pid| if pid == 3 { Onward::Past } else { Onward::Below }), [(3, 1), (2, 1)]);
        assert_eq!(met(|_| Onward::Stop), [(3, 1)]);
    }
}
