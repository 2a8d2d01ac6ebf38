//! When what is done to the tree: a pure function of phase, event and time. It never sleeps and touches no process, so that
//! every promise about time can be tested by trying all of them.
//!
//! ```text
//! Waiting ── start ── Running ──────────── loss ─┐
//!                        │ the command ends      │
//!                     Lingering ── grace, loss ──┤
//!                                             Ending ── grace, deadline ── Killing
//!     from each of these to Over once no process is left
//! ```

use std::time::Duration;

use consul_lock::clock::Moment;
use serde::{Deserialize, Serialize};

/// What becomes of the processes that outlive the command: `--background`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Background {
    /// They have the grace to end by themselves, then they are ended.
    Kill,
    /// Their end is awaited, as flock(1) does.
    Wait,
    /// They are left alone, and the lock is released at once.
    Leave,
}

/// Why the tree is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// No confirmation came in time.
    Deadline,
    /// The keeper is dead.
    KeeperGone,
    /// The keeper asked for it.
    Asked,
    /// Processes that outlived the command have had their time.
    Background,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// The command is to be started; no deadline means no lease.
    Start { deadline: Option<Moment> },
    /// A confirmation came: a later deadline.
    Extended(Moment),
    /// The lock is lost: first signal now, SIGKILL then, or when the grace is over.
    EndAsked(Option<Moment>),
    /// SIGKILL now.
    KillAsked,
    /// The keeper's end of the socket is closed.
    KeeperGone,
    /// The command has ended, and descendants of it have not.
    CommandEnded,
    /// ECHILD: no descendant is left.
    Empty,
    /// Time has passed.
    Tick,
}

/// What is to be done about it, beside what [`Schedule::is_killing`] says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// Tell the keeper that the end has begun.
    pub(super) announce: Option<Cause>,
    /// Send the first signal to every process that exists now.
    pub(super) first_signal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Lingering { until: Option<Moment> },
    Ending { kill_at: Moment },
    Killing { since: Moment },
    Over,
}

/// The guard's state, as far as time goes.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    phase: Phase,
    grace: Duration,
    background: Background,
    deadline: Option<Moment>,
    lingered: bool,
}

impl Schedule {
    pub(super) fn new(grace: Duration, background: Background) -> Self {
        Self { phase: Phase::Waiting, grace, background, deadline: None, lingered: false }
    }

    /// Takes an event in. `now` never goes back.
    pub(super) fn on(&mut self, event: Event, now: Moment) -> Orders {
        match (event, self.phase) {
            (Event::Start { deadline }, Phase::Waiting) => {
                self.deadline = deadline;
                // A guard that was stopped between the keeper's word and here must not start what it would have to kill.
                let late = deadline.is_some_and(|deadline| deadline - self.grace <= now);
                self.phase = if late { Phase::Over } else { Phase::Running };
                Orders { announce: late.then_some(Cause::Deadline), first_signal: false }
            }
            (Event::Extended(later), _) => {
                // Each confirmation proves its own deadline, so an earlier one takes nothing back.
                self.deadline = self.deadline.map(|deadline| deadline.max(later));
                Orders::default()
            }
            // Before the start there are no children either, and nobody to wait for.
            (Event::KeeperGone, Phase::Waiting) => self.over(),
            (Event::Empty, phase) if phase != Phase::Waiting => self.over(),
            (Event::EndAsked(kill_at), _) => self.end(Cause::Asked, kill_at.unwrap_or(now + self.grace), now),
            (Event::KillAsked, _) => self.end(Cause::Asked, now, now),
            (Event::KeeperGone, _) => self.end(Cause::KeeperGone, now + self.grace, now),
            (Event::CommandEnded, Phase::Running) => {
                self.phase = match self.background {
                    Background::Kill => Phase::Lingering { until: Some(now + self.grace) },
                    Background::Wait => Phase::Lingering { until: None },
                    Background::Leave => Phase::Over,
                };
                self.tick(now)
            }
            (Event::Tick, _) => self.tick(now),
            (Event::Start { .. } | Event::CommandEnded | Event::Empty, _) => Orders::default(),
        }
    }

    fn tick(&mut self, now: Moment) -> Orders {
        match (self.phase, self.deadline) {
            (Phase::Running | Phase::Lingering { .. }, Some(deadline)) if deadline - self.grace <= now => {
                self.end(Cause::Deadline, deadline, now)
            }
            (Phase::Lingering { until: Some(until) }, _) if until <= now => {
                self.end(Cause::Background, now + self.grace, now)
            }
            (Phase::Ending { kill_at }, _) => {
                if self.capped(kill_at) <= now {
                    self.phase = Phase::Killing { since: now };
                }
                Orders::default()
            }
            _ => Orders::default(),
        }
    }

    /// The end begins, or comes nearer.
    fn end(&mut self, cause: Cause, kill_at: Moment, now: Moment) -> Orders {
        let (kill_at, first) = match self.phase {
            Phase::Running | Phase::Lingering { .. } => (kill_at, true),
            Phase::Ending { kill_at: already } => (kill_at.min(already), false),
            Phase::Waiting | Phase::Killing { .. } | Phase::Over => return Orders::default(),
        };
        if first {
            self.lingered = matches!(self.phase, Phase::Lingering { .. });
        }
        let at_once = self.capped(kill_at) <= now || self.grace.is_zero();
        self.phase = if at_once { Phase::Killing { since: now } } else { Phase::Ending { kill_at } };
        Orders { announce: first.then_some(cause), first_signal: first && !at_once }
    }

    fn over(&mut self) -> Orders {
        self.phase = Phase::Over;
        Orders::default()
    }

    fn capped(&self, kill_at: Moment) -> Moment {
        self.deadline.map_or(kill_at, |deadline| deadline.min(kill_at))
    }

    /// The next moment at which time alone changes something.
    pub(super) fn wake(&self) -> Option<Moment> {
        let point_of_no_return = self.deadline.map(|deadline| deadline - self.grace);
        match self.phase {
            Phase::Running => point_of_no_return,
            Phase::Lingering { until } => [until, point_of_no_return].into_iter().flatten().min(),
            Phase::Ending { kill_at } => Some(self.capped(kill_at)),
            Phase::Waiting | Phase::Killing { .. } | Phase::Over => None,
        }
    }

    /// Whether every process is to get SIGKILL until none is left.
    pub(super) fn is_killing(&self) -> bool {
        matches!(self.phase, Phase::Killing { .. })
    }

    /// How long to wait before the tree is walked again, when the last walk met nobody new.
    pub(super) fn pause(&self, now: Moment) -> Duration {
        match self.phase {
            Phase::Killing { since } => pause(now.since(since)),
            _ => Duration::MAX,
        }
    }

    /// Whether the guard's work is done.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the command had ended before the end of the others began: those are to be named.
    pub(super) fn names_the_killed(&self) -> bool {
        self.lingered
    }
}

/// A hundredth of the time that the killing has taken so far, from 1 ms up to 100 ms: it adds one per cent to the kill, and
/// a process that cannot be killed costs next to nothing.
pub(super) fn pause(so_far: Duration) -> Duration {
    (so_far / 100).clamp(Duration::from_millis(1), Duration::from_millis(100))
}
