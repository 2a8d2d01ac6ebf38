//! The run command: the one event loop in which lock, guard and signals meet. What happens comes into one [inbox](inbox);
//! the [state](state) decides; what it decides is done here, at once and in order.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context as _;
use consul_lock::clock::Moment;
use consul_lock::lock::{Keeper, Stop};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

mod backend;
mod event;
mod here;
mod inbox;
mod note;
mod outcome;
mod signals;
mod state;

pub(crate) use backend::LockPlan;
pub(crate) use event::Grant;
pub(crate) use here::Wanted;
pub(crate) use note::Note;
pub(crate) use outcome::{Class, Outcome, Refused};
pub(crate) use state::ends_us;

use crate::guard::{self, Background, Guard, Inherited, LastWords, release_descriptors};
use backend::{Held, Releaser};
use event::{Action, Event};
use inbox::{Inbox, Outlet};
use signals::Signals;
use state::Run;

/// A command that ends sooner than this has needed no confirmation but the lock's own, no thread that asks for one, and
/// nobody to let go of what it reads and writes.
const FIRST_KEEP: Duration = Duration::from_millis(50);

/// How long the loop sleeps where nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Longest time that the keeper may take to kill what a guard has left.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// Everything that a run needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The lock.
    pub(crate) lock: LockPlan,
    /// The file to execute.
    pub(crate) program: PathBuf,
    /// The command and its arguments, as typed.
    pub(crate) command: Vec<OsString>,
    /// The first signal on a loss.
    pub(crate) kill_signal: Signal,
    /// Time between that and SIGKILL.
    pub(crate) grace: Duration,
    /// What becomes of descendants that outlive the command.
    pub(crate) background: Background,
    /// What we were started with.
    pub(crate) inherited: Inherited,
    /// What the guard says if the keeper cannot any more.
    pub(crate) last_words: LastWords,
    /// The sessions of the runs that this one is nested in, outermost first.
    pub(crate) chain: Vec<String>,
    /// Why the promise is not kept, told by every run of which that is true.
    pub(crate) no_guarantee: Vec<&'static str>,
}

/// What comes into the loop.
#[derive(Debug)]
enum Input {
    /// The lock, held.
    Acquired(Held),
    /// Anything else.
    Event(Event),
}

/// Runs the command under the lock. The guard is forked first of all: from here on there may be threads, and `report` is
/// told what happens.
///
/// # Errors
/// A fault of the machine: no process, no thread, no handler to be had.
pub(crate) fn run(plan: Plan, mut report: impl FnMut(Note)) -> anyhow::Result<Outcome> {
    let guard_plan = guard::Plan {
        program: plan.program,
        argv: plan.command,
        grace: plan.grace,
        first_signal: plan.kill_signal,
        background: plan.background,
        inherited: plan.inherited.clone(),
        last_words: plan.last_words,
    };
    // Nothing is lost meanwhile, and an interrupt that found the guard without its mask would kill it.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).context("cannot block signals")?;
    let guard = guard::fork(guard_plan).context("cannot fork the guard")?;
    let listener = guard.listen().context("cannot listen to the guard")?;
    let (outlet, receiver, rung) = inbox::open().context("cannot make a pipe")?;
    let now = Moment::now();
    let state = Run::new(now, plan.chain.clone(), plan.lock.here(now));
    let stop = Stop::new();
    // Consul first: the handlers are installed while it works. Whatever it answers is heard after the signals that came.
    let releaser = plan.lock.acquire(stop.clone(), outlet.clone()).context("cannot start a thread")?;
    let signals = match Signals::handle(&plan.inherited, &mask, guard.pid(), &outlet, rung) {
        Ok(signals) => signals,
        Err(error) => {
            stop.throw();
            give_up(&releaser, &receiver);
            return Err(error.context("cannot handle signals"));
        }
    };
    let inbox = Inbox::new(receiver, signals, listener);
    plan.no_guarantee.into_iter().for_each(|why| report(Note::NoGuarantee(why)));
    let outcome = Loop {
        guard: Some(guard),
        outlet,
        stop,
        releaser,
        held: None,
        keep_at: None,
        let_go_at: None,
        keeper: None,
        chain: plan.chain,
        report,
    }
    .run(state, inbox);
    Ok(outcome)
}

/// Has the lock given back, should it be had by now.
fn give_up(releaser: &Releaser, receiver: &Receiver<Input>) {
    while let Ok(input) = receiver.recv_timeout(state::CLEAN_UP) {
        match input {
            Input::Acquired(held) => releaser.release(held, Stop::new()),
            Input::Event(Event::NotAcquired(_) | Event::Released(_)) => return,
            Input::Event(_) => {}
        }
    }
}

struct Loop<R> {
    /// Until it is reaped.
    guard: Option<Guard>,
    outlet: Outlet,
    stop: Stop,
    releaser: Releaser,
    held: Option<Held>,
    /// When to begin to hold on to the lock.
    keep_at: Option<Moment>,
    /// When to let go of what the command was given.
    let_go_at: Option<Moment>,
    keeper: Option<Keeper>,
    chain: Vec<String>,
    report: R,
}

impl<R: FnMut(Note)> Loop<R> {
    fn run(mut self, mut state: Run, mut inbox: Inbox) -> Outcome {
        loop {
            if self.keep_at.is_some_and(|moment| moment <= Moment::now()) {
                self.keep();
            }
            if self.let_go_at.is_some_and(|moment| moment <= Moment::now()) {
                self.let_go_at = None;
                release_descriptors();
            }
            let wake_at = [state.wake_at(), self.keep_at, self.let_go_at].into_iter().flatten().min();
            let event = match inbox.next(wake_at.unwrap_or_else(|| Moment::now() + IDLE)) {
                Input::Event(event) => event,
                Input::Acquired(held) => {
                    let grant = held.grant();
                    self.held = Some(held);
                    Event::Acquired(grant)
                }
            };
            let acquired = matches!(event, Event::Acquired(_));
            for action in state.on(event, Moment::now()) {
                if let Some(outcome) = self.act(action) {
                    return outcome;
                }
            }
            if acquired {
                self.keep_at = Some(Moment::now() + FIRST_KEEP);
            }
        }
    }

    /// Does one thing; gives the outcome when that was the last.
    fn act(&mut self, action: Action) -> Option<Outcome> {
        match action {
            Action::StopWaiting => self.stop.throw(),
            Action::Prepare => self.tell_guard(Guard::prepare),
            Action::Start(deadline) => self.start(deadline),
            Action::Extend(deadline) => self.tell_guard(|guard| guard.extend(deadline)),
            Action::End(kill_at) => self.tell_guard(|guard| guard.end(kill_at)),
            Action::Forward(signal) => self.tell_guard(|guard| guard.signal(signal)),
            Action::Kill => self.tell_guard(Guard::kill),
            Action::TakeOver => self.take_over(),
            Action::Release => self.release(),
            Action::Tell(note) => {
                // The command runs: what it reads and writes is its own alone.
                if matches!(note, Note::Started(_)) {
                    self.let_go_at = Some(Moment::now() + FIRST_KEEP);
                }
                (self.report)(note);
            }
            Action::Finish(outcome) => {
                if let Some(guard) = self.guard.take() {
                    guard.reap();
                }
                return Some(outcome);
            }
        }
        None
    }

    fn tell_guard(&self, word: impl FnOnce(&Guard)) {
        if let Some(guard) = &self.guard {
            word(guard);
        }
    }

    fn keep(&mut self) {
        self.keep_at = None;
        let Some(held) = &self.held else { return };
        match held.keep(&self.outlet) {
            Ok(keeper) => self.keeper = keeper,
            // Unconfirmed, the command is ended in time by the guard.
            Err(error) => (self.report)(Note::RenewalFailing(format!("cannot start a thread: {error}"))),
        }
    }

    fn start(&mut self, deadline: Option<Moment>) {
        let (Some(held), Some(guard)) = (&self.held, &self.guard) else { return };
        let started = guard.start(&held.environment(&self.chain), deadline, &held.descriptors());
        if started.is_err() {
            // A guard that cannot be told is a guard that is gone; its line says so, too.
            self.outlet.send(Input::Event(Event::GuardSilent));
        }
    }

    /// Blocks: there is nothing left to decide but when to give up.
    fn take_over(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        let tell = |report| self.outlet.send(Input::Event(Event::Guard(report)));
        let all_dead = guard.take_over(Some(Moment::now() + TAKE_OVER), tell);
        self.outlet.send(Input::Event(Event::TakenOver { all_dead }));
    }

    fn release(&mut self) {
        self.keep_at = None;
        if let Some(keeper) = self.keeper.take() {
            keeper.stop();
        }
        let stop = Stop::new();
        self.stop = stop.clone();
        match self.held.take() {
            Some(held) => {
                let is_awaited = held.is_awaited();
                self.releaser.release(held, stop);
                // Its end takes a processor for a while: now, while Consul is asked, unless somebody waits for that.
                if !is_awaited {
                    self.tell_guard(Guard::dismiss);
                }
            }
            None => self.outlet.send(Input::Event(Event::Released(event::Released::Done))),
        }
    }
}
