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

/// What is to be done about it, beside what [`Schedule::killing_since`] says.
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
                if kill_at <= now {
                    self.phase = Phase::Killing { since: now };
                }
                Orders::default()
            }
            _ => Orders::default(),
        }
    }

    /// The end begins, or comes nearer.
    fn end(&mut self, cause: Cause, kill_at: Moment, now: Moment) -> Orders {
        // By the deadline as it is now: what has begun to end is not given more time.
        let kill_at = self.deadline.map_or(kill_at, |deadline| deadline.min(kill_at));
        let (kill_at, first) = match self.phase {
            Phase::Running | Phase::Lingering { .. } => (kill_at, true),
            Phase::Ending { kill_at: already } => (kill_at.min(already), false),
            Phase::Waiting | Phase::Killing { .. } | Phase::Over => return Orders::default(),
        };
        if first {
            self.lingered = matches!(self.phase, Phase::Lingering { .. });
        }
        let at_once = kill_at <= now || self.grace.is_zero();
        self.phase = if at_once { Phase::Killing { since: now } } else { Phase::Ending { kill_at } };
        Orders { announce: first.then_some(cause), first_signal: first && !at_once }
    }

    fn over(&mut self) -> Orders {
        self.phase = Phase::Over;
        Orders::default()
    }

    /// The next moment at which time alone changes something.
    pub(super) fn wake(&self) -> Option<Moment> {
        let point_of_no_return = self.deadline.map(|deadline| deadline - self.grace);
        match self.phase {
            Phase::Running => point_of_no_return,
            Phase::Lingering { until } => [until, point_of_no_return].into_iter().flatten().min(),
            Phase::Ending { kill_at } => Some(kill_at),
            Phase::Waiting | Phase::Killing { .. } | Phase::Over => None,
        }
    }

    /// Since when every process is to get SIGKILL until none is left.
    pub(super) fn killing_since(&self) -> Option<Moment> {
        match self.phase {
            Phase::Killing { since } => Some(since),
            _ => None,
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

/// How long to wait before the tree is walked again when the last walk met nobody new: a hundredth of the time that the
/// killing has taken so far, from 1 ms up to 100 ms. It adds one per cent to the kill, and a process that cannot be killed
/// costs next to nothing.
pub(super) fn pause(so_far: Duration) -> Duration {
    (so_far / 100).clamp(Duration::from_millis(1), Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(millis))
    }

    fn started(grace: u64, background: Background, deadline: Option<u64>) -> Schedule {
        let mut schedule = Schedule::new(Duration::from_millis(grace), background);
        schedule.on(Event::Start { deadline: deadline.map(at) }, at(0));
        schedule
    }

    const NOTHING: Orders = Orders { announce: None, first_signal: false };

    fn signals(cause: Cause) -> Orders {
        Orders { announce: Some(cause), first_signal: true }
    }

    #[test]
    fn without_a_confirmation_the_signal_comes_a_grace_before_the_deadline() {
        let mut schedule = started(5, Background::Kill, Some(30));
        assert_eq!(schedule.wake(), Some(at(25)));
        assert_eq!(schedule.on(Event::Tick, at(24)), NOTHING);
        assert_eq!(schedule.on(Event::Tick, at(25)), signals(Cause::Deadline));
        // The point of no return: a confirmation that comes now is too late.
        assert_eq!(schedule.on(Event::Extended(at(60)), at(26)), NOTHING);
        assert_eq!(schedule.wake(), Some(at(30)));
        schedule.on(Event::Tick, at(30));
        assert_eq!(schedule.killing_since(), Some(at(30)));
    }

    #[test]
    fn a_guard_that_wakes_after_the_deadline_kills_without_a_signal() {
        let mut schedule = started(5, Background::Kill, Some(30));
        let orders = schedule.on(Event::Tick, at(31));
        assert_eq!(orders, Orders { announce: Some(Cause::Deadline), first_signal: false });
        assert_eq!(schedule.killing_since(), Some(at(31)));
    }

    #[test]
    fn an_end_that_has_begun_is_given_no_more_time() {
        let mut schedule = started(1, Background::Kill, Some(107));
        assert_eq!(schedule.on(Event::EndAsked(Some(at(108))), at(0)), signals(Cause::Asked));
        assert_eq!(schedule.wake(), Some(at(107)));
        schedule.on(Event::Extended(at(108)), at(1));
        assert_eq!(schedule.wake(), Some(at(107)));
    }

    #[test]
    fn the_keepers_death_ends_the_tree_within_a_grace_and_the_deadline() {
        for (deadline, gone_at, kill_at) in [(None, 10, 15), (Some(100), 10, 15), (Some(18), 10, 15), (Some(13), 7, 12)]
        {
            let mut schedule = started(5, Background::Leave, deadline);
            assert_eq!(schedule.on(Event::KeeperGone, at(gone_at)), signals(Cause::KeeperGone));
            assert_eq!(schedule.wake(), Some(at(kill_at)));
        }
        // After the point of no return the deadline comes first.
        let mut schedule = started(5, Background::Leave, Some(13));
        schedule.on(Event::KeeperGone, at(9));
        assert_eq!(schedule.wake(), Some(at(13)));
    }

    #[test]
    fn what_outlives_the_command_gets_a_grace_then_a_signal_then_a_grace() {
        let mut schedule = started(5, Background::Kill, Some(100));
        assert_eq!(schedule.on(Event::CommandEnded, at(10)), NOTHING);
        assert_eq!(schedule.wake(), Some(at(15)));
        assert_eq!(schedule.on(Event::Tick, at(15)), signals(Cause::Background));
        assert!(schedule.names_the_killed());
        assert_eq!(schedule.wake(), Some(at(20)));
        schedule.on(Event::Empty, at(17));
        assert!(schedule.is_over());
    }

    #[test]
    fn wait_waits_and_leave_leaves() {
        let mut schedule = started(5, Background::Wait, None);
        schedule.on(Event::CommandEnded, at(10));
        assert_eq!((schedule.wake(), schedule.is_over()), (None, false));
        let mut schedule = started(5, Background::Leave, Some(100));
        schedule.on(Event::CommandEnded, at(10));
        assert!(schedule.is_over());
    }

    #[test]
    fn before_the_start_only_the_keepers_death_ends_anything() {
        let mut schedule = Schedule::new(Duration::from_secs(5), Background::Kill);
        for event in [Event::Empty, Event::Tick, Event::EndAsked(None), Event::KillAsked, Event::Extended(at(1))] {
            assert_eq!(schedule.on(event, at(5)), NOTHING);
            assert_eq!((schedule.is_over(), schedule.killing_since()), (false, None));
        }
        assert_eq!(schedule.on(Event::KeeperGone, at(6)), NOTHING);
        assert!(schedule.is_over());
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..400_u64).prop_map(|time| Event::Extended(at(time))),
            (0..400_u64).prop_map(|time| Event::EndAsked(Some(at(time)))),
            Just(Event::EndAsked(None)),
            Just(Event::KillAsked),
            Just(Event::KeeperGone),
            Just(Event::CommandEnded),
            Just(Event::Tick),
        ]
    }

    fn background() -> impl Strategy<Value = Background> {
        prop_oneof![Just(Background::Kill), Just(Background::Wait), Just(Background::Leave)]
    }

    proptest! {
        /// Whatever happens, with a guard that wakes when it wanted to: every promise of the table.
        #[test]
        fn all_are_killed_by_the_deadline_after_one_signal_at_most(
            grace in 0..30_u64,
            background in background(),
            first in prop::option::of(31..200_u64),
            events in prop::collection::vec((event(), 0..40_u64), 0..20),
        ) {
            let mut schedule = started(grace, background, first);
            let (mut deadline, mut now) = (first.map(at), at(0));
            let mut signalled: Option<Moment> = None;
            let mut ended = false;
            let mut due: Option<Moment> = None;
            let mut queue = events.into_iter();
            let mut next = queue.next();
            while !schedule.is_over() {
                // The next thing to happen: an event, or the time that the schedule asked for.
                let event_at = next.as_ref().map(|(_, pause)| now + Duration::from_millis(*pause));
                let event = match (schedule.wake(), event_at) {
                    (Some(wake), at) if at.is_none_or(|at| wake <= at) => {
                        now = now.max(wake);
                        Event::Tick
                    }
                    (_, Some(at)) => {
                        now = at;
                        let (event, _) = next.take().unwrap_or((Event::Tick, 0));
                        next = queue.next();
                        event
                    }
                    (_, None) => break,
                };
                let before = (schedule.killing_since(), ended);
                if let (Event::Extended(later), Some(old), false) = (event, deadline, ended) {
                    deadline = Some(old.max(later));
                }
                let orders = schedule.on(event, now);
                // One announcement and one signal, the signal never at the deadline or later.
                prop_assert!(!(ended && orders.announce.is_some()));
                ended |= orders.announce.is_some();
                if orders.first_signal {
                    prop_assert!(signalled.is_none() && orders.announce.is_some());
                    prop_assert!(deadline.is_none_or(|deadline| now < deadline));
                    prop_assert!(schedule.wake().is_some_and(|kill_at| kill_at > now));
                    signalled = Some(now);
                }
                // An end once begun has its time, which only comes nearer.
                if signalled.is_some() && schedule.killing_since().is_none() && !schedule.is_over() {
                    let kill_at = schedule.wake();
                    prop_assert!(kill_at.is_some() && due.is_none_or(|due| kill_at <= Some(due)));
                    due = kill_at;
                }
                // Who is being killed is being killed.
                prop_assert!(before.0.is_none() || schedule.killing_since() == before.0);
                // By the deadline, at the latest; and a grace after the keeper's death.
                if deadline.is_some_and(|deadline| deadline <= now) {
                    prop_assert!(schedule.killing_since().is_some() || schedule.is_over());
                }
                if matches!(event, Event::KeeperGone | Event::EndAsked(None)) && !schedule.is_over() {
                    let kill_at = schedule.wake().or(schedule.killing_since());
                    prop_assert!(kill_at.is_some_and(|kill_at| kill_at <= now + Duration::from_millis(grace)));
                }
                if matches!(event, Event::KillAsked) && !schedule.is_over() {
                    prop_assert!(schedule.killing_since().is_some());
                }
                // With a lease there always is a moment at which the guard acts by itself.
                if deadline.is_some() && schedule.killing_since().is_none() && !schedule.is_over() {
                    prop_assert!(schedule.wake() <= deadline && schedule.wake().is_some());
                }
            }
            schedule.on(Event::Empty, now);
            prop_assert!(schedule.is_over());
        }

        #[test]
        fn a_pause_is_short_and_grows_slowly(millis in 0..100_000_u64) {
            let so_far = Duration::from_millis(millis);
            let pause = pause(so_far);
            prop_assert!(pause >= Duration::from_millis(1) && pause <= Duration::from_millis(100));
            prop_assert!(pause <= Duration::from_millis(1) || pause * 100 <= so_far);
        }
    }
}
