//! The promise itself: however the contact with Consul is lost, the command is dead before anybody else could hold the
//! lock, SIGTERM has come before, and neither came much too early. Each fault is set while a command runs that ignores
//! SIGTERM and writes down when it lives.

mod support;

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::agent::{Agent, Options};
use support::hold::{diary, endless, full_pipe, hold, now};
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::{consul_lock_at, eventually, unique_key};

/// SIGTERM at 5.5 s after the last confirmation, SIGKILL at 7.5 s, and at 8 s somebody else may have the lock.
/// Nobody waits long for the release that nobody answers.
const LEASE: [&str; 6] = ["--lock-delay", "8s", "-k", "2", "--retry-for", "1s"];
const DELAY: f64 = 8.0;
const TERM: f64 = 5.5;
const GRACE: f64 = 2.0;
/// The longest time between two confirmations of such a lease, (8 - 2 - 0.5) / 4, and something for a busy machine.
const AGE: f64 = 1.4 + 1.5;

const BOUND: Duration = Duration::from_secs(60);

/// When the last request came that can have confirmed the lock, at the latest: those with the fault cannot.
fn last_confirmed(proxy: &Proxy, fault: &Fault) -> f64 {
    let requests = proxy.requests();
    let mut confirming = requests.iter().filter(|seen| seen.target.starts_with("/v1/txn") && seen.fault != *fault);
    now() - confirming.next_back().expect("it was acquired").at.elapsed().as_secs_f64()
}

/// Waits for the end and checks the promise: dead before anybody else could hold the lock, by the last confirmation, and
/// by the moment at which contact was lost neither much too early nor without the whole grace.
#[track_caller]
fn expect_dead_in_time(run: &mut Running, confirmed_at: f64, lost_at: f64) -> Ended {
    let end = run.wait(BOUND);
    run.expect_no_survivors(Duration::from_secs(5));
    assert_eq!(end.code(), Some(76), "{}", end.stderr);
    let (term, alive) = (end.term_at().expect("SIGTERM came first") - lost_at, end.last_alive() - lost_at);
    println!("SIGTERM after {term:.2} s, last alive after {alive:.2} s");
    let since = end.last_alive() - confirmed_at;
    assert!(since < DELAY, "alive {since} s after the last confirmation");
    assert!(term < DELAY - GRACE, "SIGTERM {term} s after the loss of contact leaves too little of the grace");
    assert!(term > TERM - AGE, "SIGTERM came {term} s after the loss of contact, which is needlessly soon");
    assert!(alive > term + GRACE - 0.7, "the grace was cut to {} s", alive - term);
    end
}

/// A run behind a proxy that has had its first confirmations when the fault is set.
#[track_caller]
fn expect_dead_in_time_with(fault: Fault) -> Ended {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("deadline");
    let mut run = hold(&proxy.addr(), &LEASE, &key, &endless(false));
    until_confirmed_and_watched_twice(&proxy);
    proxy.set(fault.clone());
    let end = expect_dead_in_time(&mut run, last_confirmed(&proxy, &fault), now());
    assert!(end.stderr.contains(&format!("lost {key}: nothing has confirmed it for as long as it is safe")), "{end:?}");
    end
}

/// The first watch is answered after five seconds; from then on there is an old answer to each kind of request.
fn until_confirmed_and_watched_twice(proxy: &Proxy) {
    let count = |prefix: &str| proxy.requests().iter().filter(|seen| seen.target.starts_with(prefix)).count();
    eventually("confirmed and watched", BOUND, || {
        (count("/v1/txn?consistent") >= 2 && count("/v1/kv/") >= 3).then_some(())
    });
}

#[test]
fn the_connection_is_half_open() {
    expect_dead_in_time_with(Fault::Drop);
}

#[test]
fn the_port_is_closed() {
    expect_dead_in_time_with(Fault::Refuse);
}

#[test]
fn every_connection_is_reset() {
    expect_dead_in_time_with(Fault::Reset);
}

#[test]
fn every_connection_is_closed_without_an_answer() {
    expect_dead_in_time_with(Fault::CloseUnanswered);
}

#[test]
fn every_answer_comes_later_than_it_is_waited_for() {
    expect_dead_in_time_with(Fault::Delay(Duration::from_secs(3)));
}

#[test]
fn the_last_answer_is_late_and_counts_from_when_it_was_asked_for() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let mut run = hold(&proxy.addr(), &LEASE, &unique_key("late"), &endless(false));
    let late = Fault::DelayReply(Duration::from_secs(1));
    proxy.set(late.clone());
    eventually("a confirmation under way", BOUND, || {
        proxy.requests().iter().any(|seen| seen.target.starts_with("/v1/txn") && seen.fault == late).then_some(())
    });
    // By a rule, which leaves alone what is under way.
    proxy.rules(vec![Rule::new(Fault::Drop)]);
    let confirmed_at = last_confirmed(&proxy, &Fault::Drop);
    let end = expect_dead_in_time(&mut run, confirmed_at, now());
    // It has counted; the one before it came a quarter of this time earlier.
    let term = end.term_at().expect("SIGTERM came first") - confirmed_at;
    assert!(term > TERM - 0.5, "SIGTERM {term} s after the last confirmation");
}

#[test]
fn every_answer_comes_after_minutes() {
    expect_dead_in_time_with(Fault::DelayReply(Duration::from_secs(300)));
}

#[test]
fn every_answer_is_a_500() {
    let end = expect_dead_in_time_with(Fault::Status(500, "No cluster leader".into()));
    assert!(end.stderr.contains("No cluster leader"), "{end:?}");
}

#[test]
fn every_answer_is_a_403() {
    expect_dead_in_time_with(Fault::Status(403, "Permission denied".into()));
}

#[test]
fn every_answer_is_a_200_without_sense() {
    expect_dead_in_time_with(Fault::Malformed);
}

#[test]
fn every_answer_is_longer_than_anything_of_consuls() {
    expect_dead_in_time_with(Fault::Huge(6 << 20));
}

#[test]
fn every_answer_breaks_off() {
    expect_dead_in_time_with(Fault::Truncate);
}

#[test]
fn every_answer_is_an_old_one_that_shows_the_lock_held() {
    let end = expect_dead_in_time_with(Fault::Stale);
    assert!(end.stderr.contains("repeat old answers"), "{end:?}");
}

#[test]
fn old_answers_keep_nobody_else_out_and_do_not_keep_the_command_alive() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("stale");
    let mut run = hold(&proxy.addr(), &LEASE, &key, &endless(false));
    until_confirmed_and_watched_twice(&proxy);
    proxy.set(Fault::Stale);
    // The watch that was asked for before would be answered by Consul itself.
    proxy.reset_connections();
    let lost_at = now();
    agent.destroy_session(&agent.holder(&key).expect("held"));
    let mut next = hold(&agent.http_addr(), &LEASE, &key, &diary(Duration::from_millis(200), true));
    let end = expect_dead_in_time(&mut run, last_confirmed(&proxy, &Fault::Stale), lost_at);
    let next = next.wait(BOUND);
    assert_eq!(next.code(), Some(0), "{next:?}");
    let started = support::hold::last(&next.stdout, "started").expect("started");
    assert!(started > end.last_alive(), "two at work: {started} {}", end.last_alive());
}

#[test]
fn the_agent_is_stopped() {
    let agent = Agent::plain();
    let mut run = hold(&agent.http_addr(), &LEASE, &unique_key("stopped"), &endless(false));
    agent.stop();
    let lost_at = now();
    expect_dead_in_time(&mut run, lost_at, lost_at);
}

#[test]
fn the_agent_is_killed() {
    let agent = Agent::start(Options { durable: true, ..Options::default() });
    let mut run = hold(&agent.http_addr(), &LEASE, &unique_key("killed"), &endless(false));
    agent.kill9();
    let lost_at = now();
    expect_dead_in_time(&mut run, lost_at, lost_at);
}

#[test]
fn the_connection_is_half_open_and_nobody_reads_the_messages() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("deaf");
    let (reader, writer) = full_pipe();
    let script = format!("exec 2>/dev/null; {}", endless(false));
    let command = &mut consul_lock_at(&proxy.addr());
    let command = command.arg("run").args(LEASE).args(["-vv", &key, "-c", &script]);
    let mut run = Running::start_with_stderr(command, writer);
    run.expect_stdout("started", BOUND);
    until_confirmed_and_watched_twice(&proxy);
    proxy.set(Fault::Drop);
    expect_dead_in_time(&mut run, last_confirmed(&proxy, &Fault::Drop), now());
    drop(reader);
}

/// A lock is lost by doubt, nobody takes it back, and these signals come one after another: the last one ends the run.
#[track_caller]
fn expect_gone_after(agent: &Agent, signals: &[Signal]) {
    let mut proxy = Proxy::start(&agent.http_addr());
    let flags = ["--lock-delay", "3s", "-k", "0", "--retry-for", "300s"];
    let mut run = hold(&proxy.addr(), &flags, &unique_key("given-back"), &endless(false));
    proxy.set(Fault::Refuse);
    run.expect_stderr("was dead", BOUND);
    for (number, signal) in signals.iter().enumerate() {
        if number > 0 {
            // Less than a second after the first it would count as the same.
            thread::sleep(Duration::from_millis(1100));
        }
        assert_eq!(run.try_wait(), None, "{}", run.stderr());
        run.signal(*signal);
    }
    let end = run.wait(BOUND);
    assert_eq!((end.code(), end.signal()), (Some(76), None), "{end:?}");
    assert!(end.stderr.contains("may not be released (no answer in time)"), "{end:?}");
}

#[test]
fn a_lost_lock_that_cannot_be_given_back_keeps_nobody_who_wants_to_go() {
    let agent = Agent::plain();
    thread::scope(|scope| {
        scope.spawn(|| expect_gone_after(&agent, &[Signal::SIGTERM]));
        expect_gone_after(&agent, &[Signal::SIGINT, Signal::SIGTERM]);
    });
}

#[test]
fn contact_is_lost_just_after_the_start_of_the_command() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let mut run = hold(&proxy.addr(), &LEASE, &unique_key("early"), &endless(false));
    proxy.set(Fault::Drop);
    expect_dead_in_time(&mut run, last_confirmed(&proxy, &Fault::Drop), now());
}
