//! Confirmations, losses, and what is said of them.

use super::*;

#[test]
fn a_confirmation_gives_a_later_deadline_until_the_end_has_begun() {
    let sent = at(SECOND);
    for mut run in [spawning(), running(), lingering()] {
        let actions = run.on(Event::Lock(Notice::Confirmed(sent)), sent + MOMENT);
        assert_eq!(done(&actions), [Action::Extend(sent + UNTIL_DEADLINE)]);
        assert_eq!(run.wake_at(), Some(sent + UNTIL_TERM));
    }
    for mut run in [ending(), releasing()] {
        let wake_at = run.wake_at();
        assert_eq!(done(&run.on(Event::Lock(Notice::Confirmed(sent)), sent + MOMENT)), []);
        assert_eq!(run.wake_at(), wake_at);
    }
}

#[test]
fn an_unconfirmed_lock_counts_as_lost_at_the_point_of_no_return() {
    let mut run = running();
    run.on(Event::Lock(Notice::Unconfirmed(Trouble("no answer".to_owned()))), at(UNTIL_TERM - MOMENT));
    assert_eq!(run.on(Event::Tick, at(UNTIL_TERM - MOMENT)), []);
    let actions = run.on(Event::Tick, at(UNTIL_TERM));
    assert_eq!(done(&actions), [Action::End(Some(at(UNTIL_DEADLINE)))]);
    run.on(gone(at(UNTIL_TERM + SECOND)), at(UNTIL_TERM + SECOND));
    let actions = run.on(Event::Released(Released::AlreadyGone), at(UNTIL_TERM + SECOND));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Lost(Loss::Unconfirmed))]);
}

#[test]
fn a_definite_loss_leaves_the_grace_but_never_more_than_the_deadline() {
    let now = at(UNTIL_TERM + SECOND);
    let mut run = running();
    // Late, but the tick has not come yet.
    let actions = run.on(lost(Loss::Deleted), now);
    assert_eq!(done(&actions), [Action::End(Some(at(UNTIL_DEADLINE)))]);
    let mut run = running();
    let actions = run.on(lost(Loss::Deleted), at(UNTIL_DEADLINE));
    assert_eq!(done(&actions), [Action::Kill]);
    ending();
}

#[test]
fn there_is_no_grace_when_somebody_is_past_the_delay() {
    for loss in [Loss::Removed, Loss::Taken(holder())] {
        let mut run = running();
        let actions = run.on(lost(loss), at(SECOND));
        assert_eq!(done(&actions), [Action::Kill]);
    }
}

#[test]
fn the_guards_own_alarm_is_a_loss() {
    let mut run = running();
    let actions = run.on(Event::Guard(Report::Ending { cause: Cause::Deadline }), at(UNTIL_TERM));
    assert_eq!(done(&actions), [Action::End(Some(at(UNTIL_DEADLINE)))]);
    for cause in [Cause::Asked, Cause::Background, Cause::KeeperGone] {
        assert_eq!(running().on(Event::Guard(Report::Ending { cause }), at(SECOND)), []);
    }
}

#[test]
fn only_the_first_loss_is_told() {
    let mut run = ending();
    assert_eq!(run.on(lost(Loss::Removed), at(SECOND * 2)), []);
    let dead = at(SECOND * 3);
    let actions = run.on(gone(dead), dead);
    assert_eq!(done(&actions), [Action::Release]);
    assert!(told(&actions, |note| *note == Note::Dead { after: SECOND * 2, left: Some(DELAY - SECOND * 3) }));
}

#[test]
fn what_a_stopped_keeper_says_on_its_return_is_when_the_tree_died_and_not_when_it_looked() {
    // Stopped for an hour; the guard has done its work in time, and its reports wait.
    let (hour, dead) = (at(Duration::from_secs(3600)), at(UNTIL_TERM + SECOND));
    let mut run = running();
    assert_eq!(done(&run.on(Event::Tick, hour)), [Action::Kill]);
    // The guard's word comes a moment later: nobody takes over from it at once.
    assert_eq!(run.on(Event::Tick, hour), []);
    assert_eq!(run.wake_at(), Some(hour + GUARD_SLACK));
    run.on(Event::Guard(Report::Ending { cause: Cause::Deadline }), hour);
    let actions = run.on(gone(dead), hour);
    assert_eq!(done(&actions), [Action::Release]);
    let left = DELAY - UNTIL_TERM - SECOND;
    assert!(told(&actions, |note| *note == Note::Dead { after: Duration::ZERO, left: Some(left) }));
}
