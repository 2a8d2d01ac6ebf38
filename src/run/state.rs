//! The run's decisions, pure: (state, event, now) gives actions. Nothing in here waits, reads a clock or touches a
//! process, so that every order of events can be tried without sleeping. Who speaks decides the file: the lock, the tree
//! (by the guard), or a person (by a signal).

mod lock;
mod signals;
mod tree;

use std::time::Duration;

use consul_lock::clock::Moment;
use consul_lock::lock::{Key, Lease, Loss, Notice, Record};
use nix::sys::signal::Signal;

use super::event::{Action, Event, Grant, Origin, Released};
use super::note::Note;
use super::outcome::{Class, Outcome, Refused};
use crate::guard::{Cause, Report, Status};

/// Longest clean-up after a signal.
pub(super) const CLEAN_UP: Duration = Duration::from_secs(2);

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
            Event::WaitingHere { key, holder, refused } => self.waiting_here(key, holder, refused, now),
            Event::OtherLimitHere { key, holder, ours } => {
                vec![Action::Tell(Note::OtherLimitHere { key, holder, ours })]
            }
            Event::Lock(notice) => self.noticed(notice, now),
            Event::Guard(report) => self.reported(report, now),
            Event::GuardSilent => self.guard_silent(now),
            Event::TakenOver { all_dead } => self.taken_over(all_dead, now),
            Event::Released(released) => self.released(released),
            Event::Signal { signal, origin } => self.signalled(signal, origin, now),
            Event::Tick => self.ticked(now),
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
            Phase::Confirming | Phase::Spawning | Phase::Running { .. } => self.lost(Loss::Unconfirmed, None, now),
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

/// Signals that end a program by a person's will; consul-lock then dies of the same one itself.
pub(crate) fn ends_us(signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGPIPE)
}

#[cfg(test)]
mod tests;
