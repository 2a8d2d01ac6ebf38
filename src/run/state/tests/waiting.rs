//! Waiting, giving up, and the moment at which the command may start.

use super::*;

#[test]
fn the_command_is_started_at_once_under_a_fresh_lease_and_after_a_confirmation_under_an_old_one() {
    spawning();
    let mut run = confirming();
    let still_old = start() - Duration::from_secs(12);
    assert_eq!(done(&run.on(Event::Lock(Notice::Confirmed(still_old)), start())), []);
    let actions = run.on(Event::Lock(Notice::Confirmed(start())), at(MOMENT));
    assert_eq!(done(&actions), [Action::Start(Some(at(UNTIL_DEADLINE)))]);
    let mut here = waiting_here(None);
    assert_eq!(done(&here.on(Event::Acquired(grant_here()), start())), [Action::Start(None)]);
}

#[test]
fn a_lease_that_nobody_confirms_starts_nothing_and_is_given_back() {
    let mut run = confirming();
    let over = start() - Duration::from_secs(15) + UNTIL_TERM;
    assert_eq!(run.wake_at(), Some(over));
    assert_eq!(done(&run.on(Event::Tick, over)), [Action::Release]);
    let actions = run.on(Event::Released(Released::Done), over);
    assert_eq!(done(&actions), [Action::Finish(Outcome::Lost(Loss::Unconfirmed))]);
}

#[test]
fn a_signal_ends_the_waiting_and_is_what_the_run_ends_with() {
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1] {
        for origin in [Origin::Terminal, Origin::Outside] {
            let mut run = waiting();
            assert_eq!(done(&run.on(signal(which, origin), start())), [Action::StopWaiting]);
            assert_eq!(run.wake_at(), Some(at(CLEAN_UP)));
            let actions = run.on(Event::NotAcquired(refused()), at(MOMENT));
            assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(which))]);
        }
    }
}

#[test]
fn a_window_that_changes_its_size_ends_no_waiting() {
    let mut run = waiting();
    assert_eq!(run.on(signal(Signal::SIGWINCH, Origin::Terminal), start()), []);
    let mut run = confirming();
    assert_eq!(run.on(signal(Signal::SIGWINCH, Origin::Terminal), start()), []);
}

#[test]
fn a_lock_that_comes_while_it_is_given_up_is_given_back_and_nothing_started() {
    let mut run = giving_up();
    assert_eq!(done(&run.on(Event::Acquired(grant(start())), at(SECOND))), [Action::Release]);
    assert_eq!(run.wake_at(), Some(at(CLEAN_UP)));
    let actions = run.on(Event::Released(Released::Done), at(SECOND));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(Signal::SIGTERM))]);
}

#[test]
fn a_clean_up_ends_after_two_seconds() {
    let mut run = giving_up();
    assert_eq!(run.on(Event::Tick, at(CLEAN_UP - MOMENT)), []);
    let actions = run.on(Event::Tick, at(CLEAN_UP));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(Signal::SIGTERM))]);
}

#[test]
fn a_second_interrupt_ends_the_clean_up() {
    let interrupt = || signal(Signal::SIGINT, Origin::Terminal);
    let mut run = waiting();
    assert_eq!(done(&run.on(interrupt(), start())), [Action::StopWaiting]);
    let actions = run.on(interrupt(), at(Duration::from_millis(300)));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(Signal::SIGINT))]);
}

#[test]
fn a_second_signal_of_another_kind_ends_the_clean_up_too() {
    for second in [signal(Signal::SIGINT, Origin::Terminal), signal(Signal::SIGTERM, Origin::Outside)] {
        let mut run = giving_up();
        let actions = run.on(second, at(Duration::from_millis(300)));
        assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(Signal::SIGTERM))]);
    }
}

#[test]
fn the_pair_that_timeout_sends_is_one_signal() {
    // timeout(1) signals its child, then the group that the child is in.
    let mut run = giving_up();
    assert_eq!(run.on(signal(Signal::SIGTERM, Origin::Outside), at(MOMENT)), []);
    assert_eq!(done(&run.on(Event::NotAcquired(refused()), at(MOMENT))).len(), 1);
}

#[test]
fn waiting_behind_the_run_that_started_us_is_an_error() {
    let mut run = Run::new(start(), vec![SESSION.to_owned()], None);
    assert_eq!(done(&run.on(held_by(holder()), start())), [Action::StopWaiting]);
    let actions = run.on(Event::NotAcquired(refused()), at(MOMENT));
    assert!(matches!(&actions[..], [Action::Finish(Outcome::NotAcquired(why))] if why.class == Class::Usage));

    let mut run = Run::new(start(), Vec::new(), None);
    let actions = run.on(held_by(holder()), start());
    assert!(done(&actions).is_empty() && told(&actions, |note| matches!(note, Note::Waiting { .. })));
}

#[test]
fn an_interrupt_is_what_the_run_ends_with_whoever_turns_out_to_hold_the_lock_meanwhile() {
    let mut run = Run::new(start(), vec![SESSION.to_owned()], None);
    run.on(signal(Signal::SIGINT, Origin::Terminal), start());
    assert_eq!(done(&run.on(held_by(holder()), at(MOMENT))), []);
    assert_eq!(run.wake_at(), Some(at(CLEAN_UP)));
    let actions = run.on(Event::NotAcquired(refused()), at(MOMENT));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(Signal::SIGINT))]);
}

#[test]
fn on_this_machine_the_waiting_ends_in_time_but_not_before_the_holder_is_known() {
    let key: Key = "k".parse().expect("a key");
    let mut run = waiting_here(Some(SECOND));
    assert_eq!(run.wake_at(), None);
    assert_eq!(run.on(Event::Tick, at(SECOND * 2)), []);
    let refused = Refused::new(Class::Conflict, format!("{key} is held"));
    run.on(Event::WaitingHere { key, holder: None, refused }, at(SECOND * 2));
    assert_eq!(run.wake_at(), Some(at(SECOND)));
    let actions = run.on(Event::Tick, at(SECOND * 2));
    assert!(matches!(&actions[..], [Action::Finish(Outcome::NotAcquired(why))] if why.class == Class::Conflict));
}

#[test]
fn a_guard_that_dies_before_the_start_starts_nothing() {
    let mut run = waiting();
    assert_eq!(done(&run.on(Event::GuardSilent, start())), [Action::StopWaiting]);
    assert_eq!(done(&run.on(Event::Acquired(grant(start())), start())), [Action::Release]);
    let mut run = confirming();
    assert_eq!(done(&run.on(Event::GuardSilent, start())), [Action::Release]);
    let actions = run.on(Event::Released(Released::Done), start());
    assert_eq!(done(&actions), [Action::Finish(Outcome::GuardDied)]);
}
