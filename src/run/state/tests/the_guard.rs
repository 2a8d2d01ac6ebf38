//! A guard that is silent, dead or busy with what cannot be killed.

use super::*;

#[test]
fn a_guard_that_is_silent_after_the_deadline_is_replaced() {
    let mut run = running();
    run.on(Event::Tick, at(UNTIL_TERM));
    let late = at(UNTIL_DEADLINE + GUARD_SLACK);
    assert_eq!(run.wake_at(), Some(late));
    assert_eq!(run.on(Event::Tick, at(UNTIL_DEADLINE)), []);
    assert_eq!(done(&run.on(Event::Tick, late)), [Action::TakeOver]);
    assert_eq!(run.wake_at(), None);
    assert_eq!(done(&run.on(Event::TakenOver { all_dead: true }, late)), [Action::Release]);
    assert!(late < at(DELAY), "too late");
}

#[test]
fn a_guard_that_does_not_kill_when_told_to_is_replaced_long_before_the_deadline() {
    let mut run = running();
    run.on(lost(Loss::Removed), at(SECOND));
    assert_eq!(run.wake_at(), Some(at(SECOND) + GUARD_SLACK));
    assert_eq!(done(&run.on(Event::Tick, at(SECOND) + GUARD_SLACK)), [Action::TakeOver]);

    let mut run = ending();
    assert_eq!(run.wake_at(), Some(at(SECOND + GRACE) + GUARD_SLACK));
    run.on(signal(Signal::SIGTERM, Origin::Outside), at(SECOND));
    assert_eq!(done(&run.on(signal(Signal::SIGTERM, Origin::Outside), at(SECOND * 2))), [Action::Kill]);
    assert_eq!(run.wake_at(), Some(at(SECOND * 2) + GUARD_SLACK));
}

#[test]
fn a_guard_that_dies_is_replaced_at_once() {
    for mut run in [spawning(), running(), lingering()] {
        assert_eq!(done(&run.on(Event::GuardSilent, at(SECOND))), [Action::TakeOver]);
        assert_eq!(done(&run.on(Event::TakenOver { all_dead: true }, at(SECOND))), [Action::Release]);
        let actions = run.on(Event::Released(Released::Done), at(SECOND));
        assert_eq!(done(&actions), [Action::Finish(Outcome::GuardDied)]);
    }
    let mut run = ending();
    assert_eq!(done(&run.on(Event::GuardSilent, at(SECOND * 2))), [Action::TakeOver]);
    run.on(Event::TakenOver { all_dead: true }, at(SECOND * 2));
    let actions = run.on(Event::Released(Released::Done), at(SECOND * 2));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Lost(Loss::Invalidated))]);
}

#[test]
fn nothing_is_released_while_somebody_may_live() {
    let mut run = running();
    run.on(Event::GuardSilent, at(SECOND));
    let actions = run.on(Event::TakenOver { all_dead: false }, at(SECOND * 2));
    assert_eq!(done(&actions), [Action::Finish(Outcome::GuardDied)]);
}

#[test]
fn a_command_that_cannot_be_executed_is_no_proof_that_it_is_gone() {
    let not_started = || Event::Guard(Report::NotStarted { errno: 8 });
    let mut run = spawning();
    assert_eq!(done(&run.on(not_started(), at(MOMENT))), []);
    assert_eq!(done(&run.on(gone(at(MOMENT)), at(MOMENT))), [Action::Release]);
    let actions = run.on(Event::Released(Released::Done), at(MOMENT));
    assert_eq!(done(&actions), [Action::Finish(Outcome::NotStarted(8))]);

    // A loss in between stays a loss, and a release that is under way is not begun again.
    let mut run = spawning();
    run.on(lost(Loss::Invalidated), at(MOMENT));
    assert_eq!(done(&run.on(not_started(), at(MOMENT))), []);
    assert_eq!(done(&run.on(gone(at(MOMENT)), at(MOMENT))), [Action::Release]);
    assert_eq!(done(&releasing().on(not_started(), at(SECOND))), []);
}

#[test]
fn on_a_normal_end_the_lock_is_held_while_somebody_lives_who_cannot_be_killed() {
    let mut run = lingering();
    let actions = run.on(unkillable(), at(SECOND * 7));
    assert!(done(&actions).is_empty() && told(&actions, |note| *note == Note::HoldingOn));
    let actions = run.on(Event::Lock(Notice::Confirmed(at(SECOND * 20))), at(SECOND * 20));
    assert_eq!(done(&actions), [Action::Extend(at(SECOND * 20 + UNTIL_DEADLINE))]);
    let actions = run.on(signal(Signal::SIGINT, Origin::Terminal), at(SECOND * 30));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Exited(3))]);

    let mut run = lingering();
    run.on(unkillable(), at(SECOND * 7));
    assert_eq!(done(&run.on(gone(at(SECOND * 8)), at(SECOND * 8))), [Action::Release]);
}

#[test]
fn after_a_loss_nobody_who_cannot_be_killed_keeps_us_for_longer_than_a_second() {
    let late = at(UNTIL_DEADLINE + UNKILLABLE_SLACK);
    let mut run = running();
    run.on(Event::Tick, at(UNTIL_TERM));
    run.on(unkillable(), at(UNTIL_TERM + SECOND));
    assert_eq!(run.wake_at(), Some(late));
    assert_eq!(run.on(Event::Tick, late - MOMENT), []);
    assert_eq!(done(&run.on(Event::Tick, late)), [Action::Finish(Outcome::Lost(Loss::Unconfirmed))]);

    // Told once only, so what was told before the loss holds after it.
    let mut run = lingering();
    run.on(unkillable(), at(SECOND * 7));
    run.on(Event::Tick, at(UNTIL_TERM));
    assert_eq!(run.wake_at(), Some(late));
}
