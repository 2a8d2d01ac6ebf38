//! The run's decisions, pure: (state, event, now) gives actions. Nothing in here waits, reads a clock or touches a
//! process, so that every order of events can be tried without sleeping.

use std::time::Duration;

use consul_lock::clock::Moment;
use consul_lock::lock::{Key, Lease, Loss, Notice, Record};
use nix::sys::signal::Signal;

use super::event::{Action, Event, Grant, Origin, Released};
use super::note::Note;
use super::outcome::{Class, Outcome, Refused};
use crate::guard::{Cause, Report, Status};

/// Longest clean-up after a signal.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// How long after the deadline the guard's word is waited for before its work is done for it.
const GUARD_SLACK: Duration = Duration::from_millis(250);

/// How long after the deadline a lost run ends even if something cannot be killed.
const UNKILLABLE_SLACK: Duration = Duration::from_secs(1);

/// A signal that repeats one counts as meant only after this long: a shell and a terminal often send the same twice.
const MEANT_AGAIN: Duration = Duration::from_secs(1);

/// Signals that come closer together than this are one to a clean-up: timeout(1) sends two, to its child and to its group.
const ECHO: Duration = Duration::from_millis(100);

/// A run, from the first word to Consul to the last.
#[derive(Debug)]
pub(crate) struct Run {
    phase: Phase,
    started_at: Moment,
    lease: Option<Lease>,
    /// The sessions of the runs that this one is nested in.
    ancestors: Vec<String>,
    here: Option<Here>,
    trouble: Option<Trouble>,
    /// Interrupts by the handler that knows their origin, and by the other.
    interrupts: [u32; 2],
    /// When an INT or TERM came last.
    last_signal: Option<Moment>,
    /// When a signal came last that was no echo of one before.
    last_heard: Option<Moment>,
}

/// Waiting for a lock on this machine. The thread that waits in flock(2) cannot be called back; it ends with us.
#[derive(Debug)]
pub(crate) struct Here {
    /// When the waiting is over.
    pub(crate) give_up_at: Option<Moment>,
    /// What is said then.
    pub(crate) conflict: Option<Refused>,
}

#[derive(Debug)]
struct Trouble {
    told_urgent: bool,
}

#[derive(Debug)]
enum Phase {
    /// The lock is asked for.
    Waiting,
    /// A signal, or a lock that an ancestor holds, has ended the waiting; the clean-up is under way.
    GivingUp { outcome: Outcome, until: Moment },
    /// The lock is ours, but too little of its lease is left to start anything.
    Confirming,
    /// The guard was told to start the command.
    Spawning,
    /// The command runs, or what it left behind.
    Running { ended: Option<Outcome>, unkillable: bool },
    /// The lock is lost, and the tree is being killed.
    Ending { loss: Loss, noticed: Moment, kill_at: Moment, unkillable: bool },
    /// The guard has failed; the keeper kills what is left.
    TakingOver { outcome: Outcome, noticed: Moment },
    /// The tree is dead; the lock is being given back.
    Releasing { outcome: Outcome, until: Option<Moment>, was_lost: bool },
    /// Nothing more is to be done.
    Finished,
}

impl Run {
    /// A run that starts now, nested in those that hold the `ancestors`.
    pub(crate) fn new(now: Moment, ancestors: Vec<String>, here: Option<Here>) -> Self {
        Self {
            phase: Phase::Waiting,
            started_at: now,
            lease: None,
            ancestors,
            here,
            trouble: None,
            interrupts: [0; 2],
            last_signal: None,
            last_heard: None,
        }
    }

    /// When the run wants a [`Event::Tick`] at the latest.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        let lease = self.lease.as_ref();
        match &self.phase {
            // Who holds it is known a moment later than that it is held; nothing is given up before.
            Phase::Waiting => {
                self.here.as_ref().filter(|here| here.conflict.is_some()).and_then(|here| here.give_up_at)
            }
            Phase::TakingOver { .. } | Phase::Finished => None,
            Phase::GivingUp { until, .. } => Some(*until),
            Phase::Confirming | Phase::Spawning | Phase::Running { .. } => lease.map(Lease::term_at),
            Phase::Ending { unkillable: true, .. } => lease.map(|lease| lease.deadline() + UNKILLABLE_SLACK),
            Phase::Ending { kill_at, .. } => Some(*kill_at + GUARD_SLACK),
            Phase::Releasing { until, .. } => *until,
        }
    }

    /// Takes an event.
    pub(crate) fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Acquired(grant) => self.acquired(grant, now),
            Event::NotAcquired(refused) => self.not_acquired(refused),
            Event::WaitingHere { key, holder } => self.waiting_here(&key, holder, now),
            Event::Lock(notice) => self.noticed(notice, now),
            Event::Guard(report) => self.reported(report, now),
            Event::GuardSilent => self.guard_silent(now),
            Event::TakenOver { all_dead } => self.taken_over(all_dead, now),
            Event::Released(released) => self.released(released),
            Event::Signal { signal, origin } => self.signalled(signal, origin, now),
            Event::Interrupt => self.interrupted(now),
            Event::Tick => self.ticked(now),
        }
    }

    fn acquired(&mut self, grant: Grant, now: Moment) -> Vec<Action> {
        self.lease = grant.lease;
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Waiting => {
                let mut actions = vec![Action::Tell(Note::Acquired { grant, after: now.since(self.started_at) })];
                if let Some(lease) = &self.lease {
                    actions.push(Action::Tell(Note::Plan(lease.terms())));
                }
                self.phase = Phase::Confirming;
                actions.extend(self.start_if_safe(now));
                actions
            }
            // The lock came while we gave it up: nothing was started under it.
            Phase::GivingUp { outcome, until } => {
                self.phase = Phase::Releasing { outcome, until: Some(until), was_lost: false };
                vec![Action::Release]
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn start_if_safe(&mut self, now: Moment) -> Vec<Action> {
        if self.lease.is_some_and(|lease| !lease.may_start(now)) {
            return Vec::new();
        }
        self.phase = Phase::Spawning;
        vec![Action::Start(self.lease.as_ref().map(Lease::deadline))]
    }

    fn not_acquired(&mut self, refused: Refused) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Waiting => vec![Action::Finish(Outcome::NotAcquired(refused))],
            Phase::GivingUp { outcome, .. } => vec![Action::Finish(outcome)],
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn noticed(&mut self, notice: Notice, now: Moment) -> Vec<Action> {
        match notice {
            Notice::Waiting(holder) if self.ancestors.contains(&holder.session.to_string()) => {
                let refused = held_by_ancestor(&holder.session.to_string());
                self.give_up(Outcome::NotAcquired(refused), now)
            }
            Notice::Waiting(holder) => vec![Action::Tell(Note::Waiting(holder))],
            Notice::Delayed(left) => vec![Action::Tell(Note::Delayed(left))],
            Notice::Unqueued(trouble) => vec![Action::Tell(Note::Unqueued(trouble.0))],
            Notice::Retrying(trouble) => vec![Action::Tell(Note::Retrying(trouble.0))],
            Notice::SessionReplaced(id) => vec![Action::Tell(Note::SessionReplaced(id.to_string()))],
            Notice::RenewalFailing(trouble) => vec![Action::Tell(Note::RenewalFailing(trouble.0))],
            Notice::Confirmed(sent) => self.confirmed(sent, now),
            Notice::Unconfirmed(trouble) => self.unconfirmed(trouble.0, now),
            Notice::Lost(loss) => self.lost(loss, now),
        }
    }

    fn waiting_here(&mut self, key: &Key, holder: Option<Record>, now: Moment) -> Vec<Action> {
        if let Some(run) = holder.as_ref().map(|record| format!("local:{}", record.run))
            && self.ancestors.contains(&run)
        {
            return self.give_up(Outcome::NotAcquired(held_by_ancestor(&run)), now);
        }
        if let Some(here) = &mut self.here {
            here.conflict = Some(Refused::held_here(key, holder.as_ref()));
        }
        vec![Action::Tell(Note::WaitingHere(holder))]
    }

    fn confirmed(&mut self, sent: Moment, now: Moment) -> Vec<Action> {
        // What has begun to end is not called back: the command has its signal.
        if !matches!(self.phase, Phase::Confirming | Phase::Spawning | Phase::Running { .. }) {
            return Vec::new();
        }
        let Some(lease) = &mut self.lease else { return Vec::new() };
        let before = lease.confirmed();
        lease.confirm(sent);
        let deadline = lease.deadline();
        let after_trouble = self.trouble.take().map(|_| sent.since(before));
        let mut actions = vec![Action::Tell(Note::Confirmed { after_trouble })];
        if matches!(self.phase, Phase::Confirming) {
            actions.extend(self.start_if_safe(now));
        } else {
            actions.push(Action::Extend(deadline));
        }
        actions
    }

    fn unconfirmed(&mut self, trouble: String, now: Moment) -> Vec<Action> {
        let Some(lease) = &self.lease else { return Vec::new() };
        let (since, left) = (now.since(lease.confirmed()), lease.term_at().since(now));
        let first = self.trouble.is_none();
        let state = self.trouble.get_or_insert(Trouble { told_urgent: false });
        let urgent = left < lease.terms().until_term() / 2 && !std::mem::replace(&mut state.told_urgent, true);
        vec![Action::Tell(Note::Unconfirmed { trouble, since, left, first, urgent })]
    }

    fn lost(&mut self, loss: Loss, now: Moment) -> Vec<Action> {
        let Some(lease) = &self.lease else { return Vec::new() };
        match &self.phase {
            Phase::Confirming => {
                self.phase = Phase::Finished;
                let tell = Note::Lost { loss: loss.clone(), grace: Duration::ZERO };
                self.release(Outcome::Lost(loss), now, true, vec![Action::Tell(tell)])
            }
            Phase::Spawning | Phase::Running { .. } => {
                let grace = lease.terms().grace();
                let kill_at = if loss.is_past_the_delay() { now } else { lease.deadline().min(now + grace).max(now) };
                let tell = Note::Lost { loss: loss.clone(), grace: kill_at.since(now) };
                let unkillable = matches!(self.phase, Phase::Running { unkillable: true, .. });
                self.phase = Phase::Ending { loss, noticed: now, kill_at, unkillable };
                let act = if kill_at <= now { Action::Kill } else { Action::End(Some(kill_at)) };
                vec![act, Action::Tell(tell)]
            }
            _ => Vec::new(),
        }
    }

    fn reported(&mut self, report: Report, now: Moment) -> Vec<Action> {
        match report {
            Report::Started { pid } => {
                if matches!(self.phase, Phase::Spawning) {
                    self.phase = Phase::Running { ended: None, unkillable: false };
                }
                vec![Action::Tell(Note::Started(pid))]
            }
            Report::NotStarted { errno } => {
                // The child that could not become the command is still to be reaped; the guard says when it is.
                if matches!(self.phase, Phase::Spawning) {
                    self.phase = Phase::Running { ended: Some(Outcome::NotStarted(errno)), unkillable: false };
                }
                Vec::new()
            }
            Report::Exited { status, left } => self.exited(status, left),
            Report::Ending { cause: Cause::Deadline } => self.lost(Loss::Unconfirmed, now),
            Report::Ending { .. } => Vec::new(),
            Report::Left { pid, name } => vec![Action::Tell(Note::KilledLeftBehind { pid, name })],
            Report::Unkillable { pid, user, name } => self.unkillable(Note::Unkillable { pid, user, name }),
            Report::Gone { at } => self.gone(at, now),
        }
    }

    fn exited(&mut self, status: Status, left: usize) -> Vec<Action> {
        let (code, signal) = match status {
            Status::Code(code) => (Some(code), None),
            Status::Signal(number) => (None, Signal::try_from(number).ok()),
        };
        let outcome = match (status, signal) {
            (_, Some(signal)) => Outcome::Killed(signal),
            (Status::Code(code), None) => Outcome::Exited(code),
            // A real-time signal, for which there is no name.
            (Status::Signal(number), None) => Outcome::Exited(128 + number),
        };
        if let Phase::Running { ended, .. } = &mut self.phase {
            *ended = Some(outcome);
        } else if matches!(self.phase, Phase::Spawning) {
            self.phase = Phase::Running { ended: Some(outcome), unkillable: false };
        }
        vec![Action::Tell(Note::Exited { code, signal, left })]
    }

    fn unkillable(&mut self, note: Note) -> Vec<Action> {
        match &mut self.phase {
            Phase::Running { unkillable, .. } if !*unkillable => {
                *unkillable = true;
                vec![Action::Tell(note), Action::Tell(Note::HoldingOn)]
            }
            Phase::Ending { unkillable, .. } => {
                *unkillable = true;
                vec![Action::Tell(note)]
            }
            _ => vec![Action::Tell(note)],
        }
    }

    /// The tree is dead, and was so at `at`; a keeper that was stopped hears it late.
    fn gone(&mut self, at: Moment, now: Moment) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Running { ended: Some(outcome), .. } => self.release(outcome, now, false, Vec::new()),
            Phase::Running { ended: None, .. } | Phase::Spawning => {
                self.release(Outcome::GuardDied, now, false, Vec::new())
            }
            Phase::Ending { loss, noticed, .. } => {
                let dead = self.dead(&loss, noticed, at);
                self.release(Outcome::Lost(loss), now, true, vec![dead])
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn dead(&self, loss: &Loss, noticed: Moment, at: Moment) -> Action {
        // Nothing is left of a delay that somebody is past.
        let lease = self.lease.filter(|_| !loss.is_past_the_delay());
        let left = lease.map(|lease| lease.safe_until().since(at)).filter(|left| !left.is_zero());
        Action::Tell(Note::Dead { after: at.since(noticed), left })
    }

    fn guard_silent(&mut self, now: Moment) -> Vec<Action> {
        let (outcome, noticed) = match &self.phase {
            Phase::Spawning | Phase::Running { .. } => (Outcome::GuardDied, now),
            Phase::Ending { loss, noticed, .. } => (Outcome::Lost(loss.clone()), *noticed),
            Phase::Waiting => return self.give_up(Outcome::GuardDied, now),
            Phase::Confirming => return self.release(Outcome::GuardDied, now, false, Vec::new()),
            Phase::GivingUp { .. } | Phase::TakingOver { .. } | Phase::Releasing { .. } | Phase::Finished => {
                return Vec::new();
            }
        };
        self.phase = Phase::TakingOver { outcome, noticed };
        vec![Action::Tell(Note::TakingOver), Action::TakeOver]
    }

    fn taken_over(&mut self, all_dead: bool, now: Moment) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::TakingOver { outcome, noticed } => {
                let first = match &outcome {
                    Outcome::Lost(loss) => vec![self.dead(loss, noticed, now)],
                    _ => Vec::new(),
                };
                let lost = !first.is_empty();
                if !all_dead {
                    return vec![Action::Finish(outcome)];
                }
                self.release(outcome, now, lost, first)
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    /// Gives the lock back: quickly after a signal, else for as long as is allowed.
    fn release(&mut self, outcome: Outcome, now: Moment, was_lost: bool, first: Vec<Action>) -> Vec<Action> {
        let hurried = match &outcome {
            Outcome::Killed(signal) => ends_us(*signal),
            Outcome::Interrupted(_) => true,
            _ => false,
        };
        self.phase = Phase::Releasing { outcome, until: hurried.then(|| now + CLEAN_UP), was_lost };
        first.into_iter().chain([Action::Release]).collect()
    }

    fn released(&mut self, released: Released) -> Vec<Action> {
        let Phase::Releasing { outcome, was_lost, .. } = std::mem::replace(&mut self.phase, Phase::Finished) else {
            return Vec::new();
        };
        let note = match released {
            Released::Done => Some(Note::Released),
            Released::AlreadyGone => (!was_lost).then_some(Note::GoneBeforeRelease),
            Released::Unanswered(trouble) => Some(Note::ReleaseUnanswered(trouble)),
        };
        note.map(Action::Tell).into_iter().chain([Action::Finish(outcome)]).collect()
    }

    fn give_up(&mut self, outcome: Outcome, now: Moment) -> Vec<Action> {
        if self.here.is_some() {
            self.phase = Phase::Finished;
            return vec![Action::Finish(outcome)];
        }
        self.phase = Phase::GivingUp { outcome, until: now + CLEAN_UP };
        vec![Action::StopWaiting]
    }

    fn interrupted(&mut self, now: Moment) -> Vec<Action> {
        let another = self.is_another(Signal::SIGINT, 1, now);
        match self.phase {
            Phase::Waiting => self.end_waiting(Signal::SIGINT, now),
            _ if another && self.cleans_up_after_a_signal() => self.cut_short(),
            _ => Vec::new(),
        }
    }

    fn signalled(&mut self, signal: Signal, origin: Origin, now: Moment) -> Vec<Action> {
        let another = self.is_another(signal, 0, now);
        // A clean-up that signals its whole process group reaches us, too, and means its own children.
        if origin == Origin::Tree {
            return Vec::new();
        }
        let meant = self.is_meant_again(signal, now);
        if another && ends_us(signal) && self.cleans_up_after_a_signal() {
            return self.cut_short();
        }
        match &mut self.phase {
            Phase::Waiting if signal != Signal::SIGWINCH => self.end_waiting(signal, now),
            Phase::Confirming if signal != Signal::SIGWINCH => {
                self.release(Outcome::Interrupted(signal), now, false, Vec::new())
            }
            // What the terminal sent at this moment may have come before the command was born.
            Phase::Spawning => forward(signal),
            Phase::Running { ended: None, .. } if origin == Origin::Outside => forward(signal),
            Phase::Running { ended: Some(outcome), unkillable: true } if ends_us(signal) => {
                let outcome = outcome.clone();
                self.phase = Phase::Finished;
                vec![Action::Finish(outcome)]
            }
            Phase::Running { ended: Some(_), .. } if meant => kill(signal),
            // The command cannot take it any more, and what it left behind would never get it.
            Phase::Running { ended: Some(_), .. } if origin == Origin::Outside && ends_us(signal) => {
                vec![Action::End(None), Action::Tell(Note::Hurried(signal))]
            }
            Phase::Ending { kill_at, .. } if meant => {
                *kill_at = now.min(*kill_at);
                kill(signal)
            }
            Phase::Releasing { until, .. } if ends_us(signal) => {
                let soon = if meant { now } else { now + CLEAN_UP };
                *until = Some(until.map_or(soon, |until| until.min(soon)));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Whether this is one signal more, and not one heard before: an interrupt comes by both handlers.
    fn is_another(&mut self, signal: Signal, handler: usize, now: Moment) -> bool {
        if signal == Signal::SIGINT {
            let heard = self.interrupts[0].max(self.interrupts[1]);
            self.interrupts[handler] += 1;
            if self.interrupts[handler] <= heard {
                return false;
            }
        }
        self.last_heard.replace(now).is_none_or(|last| now.since(last) >= ECHO)
    }

    /// Whether an INT or TERM repeats one that came before.
    fn is_meant_again(&mut self, signal: Signal, now: Moment) -> bool {
        matches!(signal, Signal::SIGINT | Signal::SIGTERM)
            && self.last_signal.replace(now).is_some_and(|last| now.since(last) >= MEANT_AGAIN)
    }

    fn cleans_up_after_a_signal(&self) -> bool {
        let (Phase::GivingUp { outcome, .. } | Phase::Releasing { outcome, .. }) = &self.phase else { return false };
        matches!(outcome, Outcome::Interrupted(_))
    }

    fn end_waiting(&mut self, signal: Signal, now: Moment) -> Vec<Action> {
        let mut actions = vec![Action::Tell(Note::Hurried(signal))];
        actions.extend(self.give_up(Outcome::Interrupted(signal), now));
        actions
    }

    /// Ends a clean-up that takes too long; what is left ends by the session's TTL.
    fn cut_short(&mut self) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::GivingUp { outcome, .. } => vec![Action::Finish(outcome)],
            Phase::Releasing { outcome, .. } => {
                let note = Note::ReleaseUnanswered("no answer in time".to_owned());
                vec![Action::Tell(note), Action::Finish(outcome)]
            }
            other => {
                self.phase = other;
                Vec::new()
            }
        }
    }

    fn ticked(&mut self, now: Moment) -> Vec<Action> {
        if self.wake_at().is_none_or(|moment| now < moment) {
            return Vec::new();
        }
        match &self.phase {
            Phase::GivingUp { .. } => self.cut_short(),
            Phase::Confirming | Phase::Spawning | Phase::Running { .. } => self.lost(Loss::Unconfirmed, now),
            Phase::Ending { loss, unkillable: true, .. } => {
                let outcome = Outcome::Lost(loss.clone());
                self.phase = Phase::Finished;
                vec![Action::Finish(outcome)]
            }
            Phase::Ending { loss, noticed, .. } => {
                let (outcome, noticed) = (Outcome::Lost(loss.clone()), *noticed);
                self.phase = Phase::TakingOver { outcome, noticed };
                vec![Action::Tell(Note::TakingOver), Action::TakeOver]
            }
            Phase::Releasing { .. } => self.cut_short(),
            Phase::Waiting => match self.here.as_mut().and_then(|here| here.conflict.take()) {
                Some(conflict) => self.give_up(Outcome::NotAcquired(conflict), now),
                None => Vec::new(),
            },
            Phase::TakingOver { .. } | Phase::Finished => Vec::new(),
        }
    }
}

fn forward(signal: Signal) -> Vec<Action> {
    vec![Action::Forward(signal), Action::Tell(Note::Forwarded(signal))]
}

fn kill(signal: Signal) -> Vec<Action> {
    vec![Action::Kill, Action::Tell(Note::Hurried(signal))]
}

fn held_by_ancestor(session: &str) -> Refused {
    let message = format!(
        "the run that started this one holds the same lock (session {session}): it waits for us, and we would wait for it \
         for ever; use another key, or leave the inner run out"
    );
    Refused { class: Class::Usage, message }
}

/// Signals that end a program by a person's will; consul-lock then dies of the same one itself.
pub(crate) fn ends_us(signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGPIPE)
}

#[cfg(test)]
mod tests;
