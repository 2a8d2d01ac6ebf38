//! Every order of events: a small world that keeps to what can happen (the guard reports nothing before it was told to
//! start, a release is answered once) and checks after each event what must always hold.

use proptest::prelude::*;

use super::*;

/// What may happen next; what cannot happen in the state that the world is in is left out.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Asking,
    Acquired { age: u64 },
    NotAcquired,
    Confirmed { age: u64 },
    Unconfirmed,
    Lost(u8),
    Started,
    NotStarted,
    Exited { signal: bool, left: bool },
    Deadline,
    Unkillable,
    Gone,
    GuardSilent,
    TakenOver(bool),
    Released(u8),
    Signal(usize, u8),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0_u64..50, 900_u64..1100, 0_u64..40_000].prop_map(Step::Pass),
        1 => Just(Step::Asking),
        3 => (0_u64..30_000).prop_map(|age| Step::Acquired { age }),
        1 => Just(Step::NotAcquired),
        3 => (0_u64..30_000).prop_map(|age| Step::Confirmed { age }),
        1 => Just(Step::Unconfirmed),
        2 => (0_u8..4).prop_map(Step::Lost),
        3 => Just(Step::Started),
        1 => Just(Step::NotStarted),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(signal, left)| Step::Exited { signal, left }),
        1 => Just(Step::Deadline),
        1 => Just(Step::Unkillable),
        2 => Just(Step::Gone),
        1 => Just(Step::GuardSilent),
        2 => any::<bool>().prop_map(Step::TakenOver),
        2 => (0_u8..3).prop_map(Step::Released),
        4 => (0_usize..SIGNALS.len(), 0_u8..3).prop_map(|(signal, origin)| Step::Signal(signal, origin)),
        3 => Just(Step::Tick),
    ]
}

const SIGNALS: [Signal; 5] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGWINCH];

#[derive(Debug, Default, PartialEq)]
enum Guard {
    #[default]
    Idle,
    /// Told to start.
    Told,
    Started,
    /// The command has ended.
    Ended,
    /// The tree is dead, and the guard has said so or died.
    Over,
}

/// A run, and what is true around it.
struct World {
    run: Run,
    now: Moment,
    acquiring: bool,
    lease: Option<Lease>,
    has_lock: bool,
    guard: Guard,
    guard_heard: bool,
    /// There is no process of the tree, and the run has been told so.
    proven: bool,
    told_to_end: bool,
    deadline: Option<Moment>,
    lost_at: Option<Moment>,
    starts: u32,
    stops: u32,
    releases: u32,
    releasing: bool,
    taking_over: bool,
    finished: Option<Outcome>,
}

impl World {
    fn new(has_here: bool) -> Self {
        let here = has_here.then_some(Here { give_up_at: Some(at(SECOND)), conflict: None });
        Self {
            run: Run::new(start(), Vec::new(), here),
            now: start(),
            acquiring: true,
            lease: None,
            has_lock: false,
            guard: Guard::Idle,
            guard_heard: true,
            proven: true,
            told_to_end: false,
            deadline: None,
            lost_at: None,
            starts: 0,
            stops: 0,
            releases: 0,
            releasing: false,
            taking_over: false,
            finished: None,
        }
    }

    fn after(has_here: bool, steps: &[Step]) -> Self {
        let mut world = Self::new(has_here);
        for step in steps {
            world.take(step);
            world.settle();
        }
        world
    }

    fn take(&mut self, step: &Step) {
        if self.finished.is_some() {
            return;
        }
        if let Step::Pass(ms) = step {
            self.now = self.now + Duration::from_millis(*ms);
            return;
        }
        if let Some(event) = self.event(step) {
            self.feed(event);
        }
    }

    /// The event, if it can happen now.
    fn event(&mut self, step: &Step) -> Option<Event> {
        let ago = |age: &u64| self.now - Duration::from_millis(*age);
        match step {
            Step::Pass(_) => None,
            Step::Acquired { age } if self.acquiring => {
                self.acquiring = false;
                self.has_lock = true;
                let grant = if self.run.here.is_some() { grant_here() } else { grant(ago(age)) };
                self.lease = grant.lease;
                Some(Event::Acquired(grant))
            }
            Step::Asking if self.acquiring => Some(Event::Lock(Notice::Asking)),
            Step::NotAcquired if self.acquiring => {
                self.acquiring = false;
                Some(Event::NotAcquired(refused()))
            }
            Step::Confirmed { age } if self.has_lock => {
                let sent = ago(age);
                if let Some(lease) = &mut self.lease {
                    lease.confirm(sent);
                }
                Some(Event::Lock(Notice::Confirmed(sent)))
            }
            Step::Unconfirmed if self.has_lock => {
                Some(Event::Lock(Notice::Unconfirmed(Trouble("no answer".to_owned()))))
            }
            Step::Lost(kind) if self.lease.is_some() => {
                let loss = match kind {
                    0 => Loss::Invalidated,
                    1 => Loss::Deleted,
                    2 => Loss::Removed,
                    _ => Loss::RetriesSpent(3),
                };
                Some(lost(loss))
            }
            _ if self.guard_heard && self.guard != Guard::Idle => self.report(step),
            _ => self.other(step),
        }
    }

    fn report(&mut self, step: &Step) -> Option<Event> {
        let report = match (step, &self.guard) {
            (Step::Started, Guard::Told) => {
                self.guard = Guard::Started;
                Report::Started { pid: 42 }
            }
            (Step::NotStarted, Guard::Told) => {
                self.guard = Guard::Ended;
                Report::NotStarted { errno: 8 }
            }
            (Step::Exited { signal, left }, Guard::Started) => {
                self.guard = Guard::Ended;
                let status = if *signal { Status::Signal(15) } else { Status::Code(3) };
                Report::Exited { status, left: usize::from(*left) }
            }
            (Step::Deadline, Guard::Told | Guard::Started | Guard::Ended) if self.lease.is_some() => {
                Report::Ending { cause: Cause::Deadline }
            }
            (Step::Unkillable, Guard::Started | Guard::Ended) => {
                Report::Unkillable { pid: 43, user: "root".to_owned(), name: "sudo".to_owned() }
            }
            (Step::Gone, Guard::Ended) => {
                self.guard = Guard::Over;
                self.proven = true;
                Report::Gone { at: self.now }
            }
            _ => return self.other(step),
        };
        Some(Event::Guard(report))
    }

    fn other(&mut self, step: &Step) -> Option<Event> {
        Some(match step {
            Step::GuardSilent if self.guard_heard => {
                self.guard_heard = false;
                Event::GuardSilent
            }
            Step::TakenOver(all_dead) if self.taking_over => {
                self.taking_over = false;
                self.proven |= all_dead;
                Event::TakenOver { all_dead: *all_dead }
            }
            Step::Released(how) if self.releasing => {
                self.releasing = false;
                Event::Released(match how {
                    0 => Released::Done,
                    1 => Released::AlreadyGone,
                    _ => Released::Unanswered("no answer".to_owned()),
                })
            }
            Step::Signal(which, origin) => {
                let origin = match origin {
                    0 => Origin::Terminal,
                    1 if self.starts > 0 => Origin::Tree,
                    _ => Origin::Outside,
                };
                signal(SIGNALS[*which], origin)
            }
            Step::Tick => Event::Tick,
            _ => return None,
        })
    }

    fn feed(&mut self, event: Event) {
        let now = self.now;
        let what = format!("{event:?}");
        for action in self.run.on(event, now) {
            assert!(self.finished.is_none(), "{action:?} after the end, at {what}");
            self.check(action, &what);
        }
    }

    fn check(&mut self, action: Action, event: &str) {
        match action {
            Action::Prepare => {
                assert!(self.acquiring && self.stops == 0, "got ready for nothing, at {event}");
            }
            Action::Start(deadline) => {
                self.starts += 1;
                assert!(self.has_lock, "started without the lock, at {event}");
                assert!(self.stops == 0 && self.releases == 0, "started after the end began, at {event}");
                assert_eq!(self.starts, 1);
                assert_eq!(deadline, self.lease.map(|lease| lease.deadline()));
                assert!(self.lease.is_none_or(|lease| lease.may_start(self.now)), "no room, at {event}");
                self.deadline = deadline;
                self.guard = Guard::Told;
                self.proven = false;
            }
            Action::Extend(deadline) => {
                assert!(self.starts == 1 && self.lost_at.is_none() && !self.taking_over && self.releases == 0);
                assert!(self.deadline.is_some_and(|before| deadline >= before), "a deadline came nearer");
                assert_eq!(Some(deadline), self.lease.map(|lease| lease.deadline()));
                self.deadline = Some(deadline);
            }
            Action::End(kill_at) => {
                assert_eq!(self.starts, 1);
                if let (Some(kill_at), Some(deadline)) = (kill_at, self.deadline) {
                    assert!(kill_at <= deadline && kill_at <= self.now + GRACE, "killed late, at {event}");
                    self.told_to_end = true;
                }
            }
            Action::Kill => {
                assert_eq!(self.starts, 1);
                self.told_to_end = true;
            }
            Action::Forward(which) => {
                assert!(self.starts == 1 && self.releases == 0, "forwarded to nobody, at {event}");
                assert!(event.contains(which.as_str()) && !event.contains("Tree"));
            }
            Action::TakeOver => {
                assert!(!self.taking_over && self.starts == 1);
                self.taking_over = true;
                self.guard_heard = false;
            }
            Action::Release => {
                self.releases += 1;
                assert!(self.has_lock && self.releases == 1, "released twice or nothing, at {event}");
                assert!(self.proven, "released while somebody may live, at {event}");
                self.releasing = true;
            }
            Action::StopWaiting => {
                self.stops += 1;
                assert!(self.stops == 1 && self.starts == 0);
            }
            Action::Tell(Note::Lost { .. }) => {
                assert!(self.lost_at.replace(self.now).is_none(), "told twice of a loss");
            }
            Action::Tell(_) => {}
            Action::Finish(outcome) => {
                if self.lost_at.is_some() {
                    assert!(matches!(outcome, Outcome::Lost(_)), "a loss that ended as {outcome:?}");
                }
                self.finished = Some(outcome);
            }
        }
    }

    /// Ticks when the run wants them; time stands still meanwhile, so a run that always wants one more is caught.
    fn settle(&mut self) {
        for _ in 0..5 {
            if self.finished.is_some() || self.run.wake_at().is_none_or(|moment| moment > self.now) {
                return;
            }
            self.feed(Event::Tick);
        }
        panic!("it spins: at {:?} it still wants to be woken at {:?}", self.now, self.run.wake_at());
    }

    /// Lets everything come to its end, with a guard that obeys or does nothing more.
    fn end(&mut self, guard_obeys: bool) {
        for _ in 0..60 {
            self.settle();
            if self.finished.is_some() {
                return;
            }
            if self.releasing {
                self.take(&Step::Released(0));
            } else if self.taking_over {
                self.take(&Step::TakenOver(true));
            } else if guard_obeys
                && self.guard_heard
                && matches!(self.guard, Guard::Told | Guard::Started | Guard::Ended)
            {
                self.take(&Step::Started);
                self.take(&Step::Exited { signal: false, left: false });
                self.take(&Step::Gone);
            } else if let Some(moment) = self.run.wake_at() {
                self.now = self.now.max(moment);
            } else if self.acquiring {
                self.take(&Step::NotAcquired);
            } else if self.guard_heard {
                // A lock that has no lease is held for as long as the guard says nothing.
                self.take(&Step::GuardSilent);
            } else {
                break;
            }
        }
        assert!(self.finished.is_some(), "no end: {:?}", self.run);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn keeps_every_promise_and_comes_to_one_end(
        here in prop::bool::weighted(0.2), steps in prop::collection::vec(step(), 0..60), guard_obeys in any::<bool>(),
    ) {
        let mut world = World::after(here, &steps);
        world.end(guard_obeys);
        // Whatever comes after the end does nothing.
        for event in [
            signal(Signal::SIGINT, Origin::Outside), gone(world.now), Event::GuardSilent, Event::Tick,
            Event::Released(Released::Done), Event::TakenOver { all_dead: true }, Event::NotAcquired(refused()),
            Event::Acquired(grant(world.now)),
        ] {
            prop_assert_eq!(done(&world.run.on(event, world.now)), []);
        }
        prop_assert_eq!(world.run.wake_at(), None);
    }

    #[test]
    fn never_loses_an_interrupt(
        steps in prop::collection::vec(step(), 0..40), from_terminal in any::<bool>(),
    ) {
        let before_the_end = (0..=steps.len()).rev().map(|many| World::after(false, &steps[..many]));
        let mut world = before_the_end.into_iter().find(|world| world.finished.is_none()).expect("it begins");
        let origin = if from_terminal { Origin::Terminal } else { Origin::Outside };
        let reached_already = from_terminal && world.starts == 1;
        let ends_anyway = world.told_to_end || world.taking_over;
        let actions = world.run.on(signal(Signal::SIGINT, origin), world.now);
        let acted = !done(&actions).is_empty();
        let bounded = world.run.wake_at().is_some_and(|moment| moment <= world.now + CLEAN_UP);
        prop_assert!(acted || bounded || reached_already || ends_anyway, "lost by {:?}", world.run);
    }
}
