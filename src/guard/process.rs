//! The guard itself: a process with one thread, no handler and no lock, which starts the command, listens to the keeper and
//! the clock, and does what the schedule says. Nothing in here may block: a guard that waits is no guard.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::time::Duration;

use consul_lock::clock::Moment;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use super::command::{self, Environment, Unborn};
use super::inherited::release_descriptors;
use super::protocol::{Inbox, Outbox, Report, Request, Status};
use super::schedule::{Background, Event, Orders, Schedule, pause};
use super::signals::Signals;
use super::timer::Timer;
use super::tree::Tree;
use super::{LastWords, Plan};
use crate::sys::{self, Reaped};

/// Exit codes of the guard; only a debugger reads them.
const DONE: i32 = 0;
pub(super) const FAULT: i32 = 70;

/// How often those are looked for of whose death nobody tells (only where there are no subreapers).
const STRAYS: Duration = Duration::from_millis(10);

/// The forked process's whole life.
pub(super) fn run(plan: Plan, keeper: UnixStream) -> ! {
    let code = match catch_unwind(AssertUnwindSafe(|| Guard::new(plan, keeper)?.serve())) {
        Ok(Ok(())) => DONE,
        // Without an ear or a clock nothing was started; or poll(2) itself fails, and then it is the same as a panic.
        Ok(Err(_)) | Err(_) => {
            Tree::new(Vec::new()).kill_until_gone(None, &mut |_| ());
            FAULT
        }
    };
    sys::exit(code)
}

struct Guard {
    plan: Plan,
    /// None once its end is closed.
    keeper: Option<UnixStream>,
    inbox: Inbox,
    outbox: Outbox,
    signals: Signals,
    timer: Timer,
    schedule: Schedule,
    tree: Tree,
    /// What is to be the command, until the start.
    expected: Expected,
    /// The command, until it is reaped.
    command: Option<Pid>,
    /// Says whether the execve(2) worked: closed by it, or carries its errno.
    execution: Option<UnixStream>,
    was_started: bool,
    /// What the terminal sent to the job before the command's process was born into it. The keeper, which got the same, takes
    /// it for the command's business once it has sent the word to start.
    missed: Vec<Signal>,
    /// What the lock is, where it is one of this machine.
    locks: Vec<OwnedFd>,
    /// When the next walk of a kill is due.
    sweep_at: Option<Moment>,
}

/// Who waits for the start.
enum Expected {
    /// Nobody yet.
    Nobody,
    /// A process.
    Alive(Unborn),
    /// One that was killed meanwhile.
    Dead(Pid, ExitStatus),
    /// Nobody: there was no process to be had.
    Failed(io::Error),
}

impl Guard {
    fn new(plan: Plan, keeper: UnixStream) -> io::Result<Self> {
        let signals = Signals::block_all()?;
        sys::set_name(c"lock-guard");
        sys::become_subreaper()?;
        Ok(Self {
            schedule: Schedule::new(plan.grace, plan.background),
            plan,
            keeper: Some(keeper),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            signals,
            timer: Timer::new()?,
            tree: Tree::new(Vec::new()),
            expected: Expected::Nobody,
            command: None,
            execution: None,
            was_started: false,
            missed: Vec::new(),
            locks: Vec::new(),
            sweep_at: None,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        self.warm_up();
        while !self.schedule.is_over() {
            self.wait()?;
            let from_terminal = self.signals.drain();
            self.missed.extend(from_terminal);
            self.listen();
            self.happened(Event::Tick);
            self.reap();
            self.sweep();
            if !self.schedule.is_over() {
                self.flush();
            }
        }
        self.part()
    }

    /// Touches what the start and the end will need, while the keeper is still after the lock: after a fork without exec every
    /// page costs a fault at first use.
    fn warm_up(&mut self) {
        command::warm_up();
        let _ = (sys::reap(), self.timer.set(Some(Moment::now())));
        let mut outbox = Outbox::default();
        outbox.push(&Report::Exited { status: Status::Code(0), left: 0 });
        outbox.push(&Report::Gone { at: Moment::now() });
    }

    /// When all are to be killed: walks through them, again at once while that meets somebody new, else after a pause, which
    /// leaves the processor to those who are dying.
    fn sweep(&mut self) {
        let now = Moment::now();
        let Some(since) = self.schedule.killing_since().filter(|_| self.sweep_at.is_none_or(|at| at <= now)) else {
            return;
        };
        let names = self.schedule.names_the_killed();
        let Self { tree, outbox, .. } = self;
        let met_new = tree.sweep(now, names, &mut |report| outbox.push(&report));
        let done = Moment::now();
        let pause = if met_new { Duration::ZERO } else { pause(done.since(since)).max(done.since(now)) };
        self.sweep_at = Some(done + pause);
    }

    /// Sleeps until something happens or is due.
    fn wait(&mut self) -> io::Result<()> {
        let has_strays = self.was_started && self.command.is_none() && self.tree.has_strays();
        let look_again = has_strays.then(|| Moment::now() + STRAYS);
        self.timer.set([self.schedule.wake(), self.sweep_at, look_again].into_iter().flatten().min())?;
        let to_keeper = if self.outbox.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.timer.descriptor().map(|timer| PollFd::new(timer, PollFlags::POLLIN)));
        polled.extend(self.keeper.as_ref().map(|keeper| PollFd::new(keeper.as_fd(), to_keeper)));
        let execution = self.execution.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let has_execution = execution.is_some();
        polled.extend(execution);
        match poll(&mut polled, self.timer.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let executed = has_execution && polled.last().is_some_and(|last| last.any() == Some(true));
        drop(polled);
        if executed {
            self.learn_execution();
        }
        Ok(())
    }

    /// Tells the schedule, and does what it answers.
    fn happened(&mut self, event: Event) {
        let Orders { announce, first_signal } = self.schedule.on(event, Moment::now());
        if let Some(cause) = announce {
            // At once, so that the keeper knows that the guard is at work.
            self.outbox.push(&Report::Ending { cause });
            self.flush();
        }
        if first_signal {
            let (until, names) = (self.schedule.wake(), self.schedule.names_the_killed());
            let Self { tree, outbox, plan, .. } = self;
            tree.signal(plan.first_signal, until, names, &mut |report| outbox.push(&report));
        }
    }

    /// Reads what the keeper says, to its end.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(keeper) = &self.keeper {
            match sys::receive(keeper, &mut buffer) {
                Ok((0, _)) => self.lose_keeper(),
                Ok((length, descriptors)) => {
                    self.locks.extend(descriptors);
                    for request in self.inbox.take(&buffer[..length]) {
                        self.obey(request);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.lose_keeper(),
            }
        }
    }

    fn lose_keeper(&mut self) {
        self.keeper = None;
        self.happened(Event::KeeperGone);
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Prepare => self.prepare(),
            Request::Start { env, deadline } => {
                if !self.was_started {
                    self.happened(Event::Start { deadline });
                    if !self.schedule.is_over() {
                        self.start(&env);
                    }
                }
            }
            Request::Extend { deadline } => self.happened(Event::Extended(deadline)),
            Request::End { kill_at } => self.happened(Event::EndAsked(kill_at)),
            Request::Kill => self.happened(Event::KillAsked),
            Request::Signal { number } => {
                // The pid is the command's own until we reap it.
                if let (Some(command), Ok(signal)) = (self.command, Signal::try_from(number)) {
                    let _ = kill(command, signal);
                }
            }
        }
    }

    /// Has the command's process made, once.
    fn prepare(&mut self) {
        if self.was_started || !matches!(self.expected, Expected::Nobody) {
            return;
        }
        self.expected = Unborn::fork(&self.plan, self.keeper.as_ref()).map_or_else(Expected::Failed, Expected::Alive);
        // It has the shell's session and group; from here on the guard has them no more.
        let _ = setsid();
        // Now the terminal's signals come no more, and what has come is what that process may not have got.
        let last = self.signals.drain();
        let missed = std::mem::take(&mut self.missed);
        if let Expected::Alive(unborn) = &self.expected {
            for signal in missed.into_iter().chain(last) {
                let _ = kill(unborn.pid(), signal);
            }
        }
    }

    fn start(&mut self, env: &Environment) {
        self.prepare();
        self.was_started = true;
        let error = match std::mem::replace(&mut self.expected, Expected::Nobody) {
            Expected::Alive(unborn) => {
                let pid = unborn.pid();
                self.command = Some(pid);
                self.tree.set_command(pid);
                let locks = if self.plan.background == Background::Leave { &[][..] } else { &self.locks };
                match unborn.execute(env, locks) {
                    Ok(execution) => {
                        self.execution = Some(execution);
                        // It has its copies of what was inherited. Only now: nobody waits for this.
                        release_descriptors();
                        return;
                    }
                    // It sees the socket close, and ends.
                    Err(error) => {
                        self.command = None;
                        error
                    }
                }
            }
            // Whoever killed it killed the command.
            Expected::Dead(pid, status) => {
                self.outbox.push(&Report::Started { pid: pid.as_raw() });
                self.outbox.push(&Report::Exited { status: how(status), left: 0 });
                return;
            }
            Expected::Failed(error) => error,
            Expected::Nobody => return,
        };
        self.outbox.push(&Report::NotStarted { errno: command::errno(&error) });
    }

    /// Reads whether the command was executed; it is known by now, so the read does not block.
    fn learn_execution(&mut self) {
        let Some(mut pipe) = self.execution.take() else { return };
        let mut errno = [0; 4];
        let report = match (pipe.read_exact(&mut errno), self.command) {
            (Ok(()), _) => {
                self.command = None;
                Report::NotStarted { errno: i32::from_ne_bytes(errno) }
            }
            (Err(_), Some(command)) => Report::Started { pid: command.as_raw() },
            (Err(_), None) => return,
        };
        self.outbox.push(&report);
    }

    /// Reaps who is dead, and learns whether anybody is left.
    fn reap(&mut self) {
        let mut ended = None;
        let left = loop {
            match sys::reap() {
                Reaped::Child(pid, status) => {
                    if self.command.is_some_and(|command| command.as_raw() == pid) {
                        self.learn_execution();
                        ended = self.command.take().map(|_| status);
                    }
                    if let Expected::Alive(unborn) = &self.expected
                        && unborn.pid().as_raw() == pid
                    {
                        self.expected = Expected::Dead(unborn.pid(), status);
                    }
                    self.tree.forget(pid);
                }
                Reaped::AllAlive => break true,
                Reaped::NoChild => break self.tree.has_strays(),
            }
        };
        if let Some(status) = ended {
            let left = if left { self.tree.count().max(1) } else { 0 };
            self.outbox.push(&Report::Exited { status: how(status), left });
        }
        if !left {
            self.happened(Event::Empty);
        } else if ended.is_some() {
            self.happened(Event::CommandEnded);
        }
    }

    /// Gives the keeper what it takes; loses it if its end is closed.
    fn flush(&mut self) {
        if let Some(keeper) = &self.keeper
            && self.outbox.flush(keeper).is_err()
        {
            self.lose_keeper();
        }
    }

    /// The tree is dead, or was never born: says so, to the keeper or, if that is gone, to whoever reads descriptor 2.
    fn part(mut self) -> io::Result<()> {
        if let Expected::Alive(unborn) = &self.expected {
            unborn.kill();
        }
        self.outbox.push(&Report::Gone { at: Moment::now() });
        loop {
            self.flush();
            let Some(keeper) = self.keeper.as_ref().filter(|_| !self.outbox.is_empty()) else { break };
            // A keeper that is stopped may take its time: there is nothing left to guard.
            match poll(&mut [PollFd::new(keeper.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match &self.keeper {
            None if self.was_started => last_words(&self.plan.last_words),
            None => {}
            // The keeper has a lock to give back now, and the end of a process takes a processor for a while. A lock of this
            // machine is the keeper's alone from here on.
            Some(keeper) => {
                self.locks.clear();
                let _ = poll(&mut [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)], AFTER_KEEPER);
            }
        }
        Ok(())
    }
}

fn how(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Code(code),
        (None, signal) => Status::Signal(signal.unwrap_or_default()),
    }
}

/// How long the guard's own end lets the keeper go first, in milliseconds.
const AFTER_KEEPER: u16 = 1;

/// How long the last words may wait for descriptor 2, in milliseconds: a terminal takes nothing while somebody else writes.
const LAST_WORDS: u16 = 1000;

/// One line on descriptor 2, if it can be written soon: all are dead, and nobody waits for us.
fn last_words(words: &LastWords) {
    let error = io::stderr();
    let mut polled = [PollFd::new(error.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut polled, LAST_WORDS).is_ok_and(|ready| ready > 0)
        && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT));
    if ready {
        let line = (words.make)(&words.about) + "\n";
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
