//! What becomes of a signal in every phase.

use super::*;

const FORWARDED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

#[test]
fn what_a_process_sent_is_forwarded_once_and_what_the_job_has_already_is_not() {
    for which in FORWARDED {
        let mut run = running();
        assert_eq!(done(&run.on(signal(which, Origin::Outside), at(SECOND))), [Action::Forward(which)]);
        assert_eq!(run.on(signal(which, Origin::Terminal), at(SECOND)), []);
        assert_eq!(run.on(signal(which, Origin::Tree), at(SECOND)), []);
    }
}

#[test]
fn forwarding_starts_no_grace_however_often() {
    let mut run = running();
    for second in 1..10 {
        let actions = run.on(signal(Signal::SIGTERM, Origin::Outside), at(SECOND * second));
        assert_eq!(done(&actions), [Action::Forward(Signal::SIGTERM)]);
        assert_eq!(run.wake_at(), Some(at(UNTIL_TERM)));
    }
}

#[test]
fn at_the_spawn_a_signal_is_forwarded_but_the_terminals_is_left_to_the_guard_which_got_it_too() {
    for which in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        let mut run = spawning();
        assert_eq!(done(&run.on(signal(which, Origin::Outside), at(MOMENT))), [Action::Forward(which)]);
        assert_eq!(done(&run.on(signal(which, Origin::Terminal), at(MOMENT))), []);
        assert_eq!(done(&run.on(signal(which, Origin::Tree), at(MOMENT))), []);
    }
}

#[test]
fn before_the_spawn_a_signal_gives_the_lock_back_within_the_clean_ups_time() {
    for which in FORWARDED.into_iter().filter(|which| *which != Signal::SIGWINCH) {
        let mut run = confirming();
        assert_eq!(done(&run.on(signal(which, Origin::Terminal), start())), [Action::Release]);
        assert_eq!(run.wake_at(), Some(at(CLEAN_UP)));
        let actions = run.on(Event::Released(Released::Done), start());
        assert_eq!(done(&actions), [Action::Finish(Outcome::Interrupted(which))]);
    }
}

#[test]
fn while_the_command_is_ended_only_a_further_signal_a_second_later_kills() {
    for which in [Signal::SIGINT, Signal::SIGTERM] {
        for origin in [Origin::Terminal, Origin::Outside] {
            let mut run = ending();
            assert_eq!(run.on(signal(which, origin), at(SECOND * 2)), []);
            assert_eq!(run.on(signal(which, origin), at(SECOND * 2 + MOMENT)), []);
            assert_eq!(done(&run.on(signal(which, origin), at(SECOND * 3 + MOMENT))), [Action::Kill]);
        }
    }
    let mut run = ending();
    for second in 2..5 {
        assert_eq!(run.on(signal(Signal::SIGHUP, Origin::Outside), at(SECOND * second)), []);
    }
}

#[test]
fn a_clean_up_that_signals_its_whole_group_does_not_cut_its_own_time() {
    let mut run = ending();
    for second in 2..5 {
        assert_eq!(run.on(signal(Signal::SIGTERM, Origin::Tree), at(SECOND * second)), []);
    }
    assert_eq!(run.on(signal(Signal::SIGTERM, Origin::Outside), at(SECOND * 5)), []);
}

#[test]
fn what_the_command_left_behind_is_ended_by_a_signal_from_outside_and_killed_by_a_further_one() {
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut run = lingering();
        assert_eq!(done(&run.on(signal(which, Origin::Outside), at(SECOND * 2))), [Action::End(None)]);
    }
    let mut run = lingering();
    assert_eq!(done(&run.on(signal(Signal::SIGINT, Origin::Terminal), at(SECOND * 2))), []);
    assert_eq!(done(&run.on(signal(Signal::SIGINT, Origin::Terminal), at(SECOND * 3))), [Action::Kill]);
    let mut run = lingering();
    assert_eq!(run.on(signal(Signal::SIGUSR1, Origin::Outside), at(SECOND * 2)), []);
}

#[test]
fn a_signal_shortens_a_release_and_a_further_one_ends_it() {
    let mut run = releasing();
    assert_eq!(run.wake_at(), None);
    run.on(signal(Signal::SIGTERM, Origin::Outside), at(SECOND * 2));
    assert_eq!(run.wake_at(), Some(at(SECOND * 2 + CLEAN_UP)));
    run.on(signal(Signal::SIGTERM, Origin::Outside), at(SECOND * 3));
    let actions = run.on(Event::Tick, at(SECOND * 3));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Exited(3))]);
    assert!(told(&actions, |note| matches!(note, Note::ReleaseUnanswered(_))));
}

#[test]
fn a_command_that_died_of_a_signal_is_not_followed_by_a_long_release() {
    let mut run = running();
    run.on(Event::Guard(Report::Exited { status: Status::Signal(15), left: 0 }), at(SECOND));
    run.on(gone(at(SECOND)), at(SECOND));
    assert_eq!(run.wake_at(), Some(at(SECOND) + CLEAN_UP));
    let actions = run.on(Event::Released(Released::Done), at(SECOND));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Killed(Signal::SIGTERM))]);
}

#[test]
fn a_death_by_a_realtime_signal_is_told_by_its_number() {
    let mut run = running();
    run.on(Event::Guard(Report::Exited { status: Status::Signal(40), left: 0 }), at(SECOND));
    run.on(gone(at(SECOND)), at(SECOND));
    let actions = run.on(Event::Released(Released::Done), at(SECOND));
    assert_eq!(done(&actions), [Action::Finish(Outcome::Exited(168))]);
}
