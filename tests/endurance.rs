//! The second half of the promise: trouble that does not endanger the lock leaves the command alone. Each command writes
//! down what comes to it; it must reach its own end, and SIGTERM must never have come.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::agent::{Agent, Options};
use support::hold::{diary, full_pipe, hold};
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::{consul_lock_at, unique_key};

/// Short, but with room: confirmed every 1.4 s, SIGTERM 5.5 s after the last time.
const SHORT: [&str; 4] = ["--lock-delay", "8s", "-k", "2"];

const BOUND: Duration = Duration::from_secs(60);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[track_caller]
fn expect_undisturbed(run: &mut Running) -> Ended {
    let end = run.wait(BOUND);
    assert_eq!((end.code(), end.term_at()), (Some(0), None), "{end:?}");
    assert!(end.stdout.ends_with("complete\n"), "{end:?}");
    run.expect_no_survivors(BOUND);
    end
}

/// A run behind a proxy with a fault for ten seconds of its command's life. Whatever arrives meanwhile meets the fault, and
/// enough must: over `connections` of their own at least.
#[track_caller]
fn expect_undisturbed_by(fault: Fault, connections: usize, flags: &[&str]) -> Ended {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("endurance");
    let mut run = hold(&proxy.addr(), flags, &key, &diary(seconds(12), true));
    let session = agent.holder(&key).expect("held");
    proxy.set(fault.clone());
    std::thread::sleep(seconds(10));
    assert_eq!(agent.holder(&key), Some(session));
    proxy.set(Fault::None);
    let requests = proxy.requests();
    let met: HashSet<_> = requests.iter().filter(|seen| seen.fault == fault).map(|seen| seen.connection).collect();
    assert!(met.len() >= connections, "{met:?}");
    let end = expect_undisturbed(&mut run);
    assert_eq!(agent.kv(&key), None, "{end:?}");
    end
}

#[test]
fn an_agent_that_is_killed_and_back_in_five_seconds() {
    let mut agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("restart");
    let mut run = hold(&agent.http_addr(), &[], &key, &diary(seconds(16), true));
    let session = agent.holder(&key).expect("held");
    agent.kill9();
    std::thread::sleep(seconds(5));
    agent.restart();
    assert_eq!(agent.holder(&key), Some(session));
    let end = expect_undisturbed(&mut run);
    assert_eq!(agent.kv(&key), None, "{end:?}");
}

#[test]
fn one_request_in_five_is_answered_500() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    proxy.rules(vec![Rule::new(Fault::Status(500, "rpc error".into())).one_in(5)]);
    let key = unique_key("fifth");
    let mut run = hold(&proxy.addr(), &SHORT, &key, &diary(seconds(12), true));
    let end = expect_undisturbed(&mut run);
    let failed = proxy.requests().iter().filter(|seen| seen.fault != Fault::None).count();
    assert!(failed >= 3, "{failed}");
    assert_eq!(agent.kv(&key), None, "{end:?}");
}

#[test]
fn all_connections_are_reset_every_second() {
    expect_undisturbed_by(Fault::ResetEvery(seconds(1)), 5, &SHORT);
}

#[test]
fn every_answer_takes_a_second_and_a_half() {
    expect_undisturbed_by(Fault::Delay(Duration::from_millis(1500)), 1, &SHORT);
}

#[test]
fn ten_seconds_of_429_are_ridden_out_by_default() {
    let busy = Fault::Status(429, "Your IP is issuing too many concurrent connections".into());
    expect_undisturbed_by(busy, 1, &[]);
}

#[test]
fn ten_seconds_without_any_answer_are_ridden_out_by_default() {
    let end = expect_undisturbed_by(Fault::Drop, 3, &[]);
    assert!(!end.stderr.contains("lost"), "{end:?}");
}

#[test]
fn ten_seconds_of_a_closed_port_are_ridden_out_by_default() {
    // Nothing arrives at all.
    expect_undisturbed_by(Fault::Refuse, 0, &[]);
}

#[test]
fn single_requests_that_hang() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("hung");
    let mut run = hold(&proxy.addr(), &SHORT, &key, &diary(seconds(12), true));
    proxy.rules(vec![Rule::new(Fault::Drop).one_in(3)]);
    std::thread::sleep(seconds(10));
    proxy.rules(Vec::new());
    expect_undisturbed(&mut run);
    let hung = proxy.requests().iter().filter(|seen| seen.fault == Fault::Drop).count();
    assert!(hung >= 3, "{hung}");
}

#[test]
fn messages_that_nobody_reads() {
    let agent = Agent::plain();
    let (reader, writer) = full_pipe();
    let script = format!("exec 2>/dev/null; {}", diary(seconds(9), true));
    let command = &mut consul_lock_at(&agent.http_addr());
    let command = command.arg("run").args(SHORT).args(["-vv", &unique_key("unread"), "-c", &script]);
    let mut run = Running::start_with_stderr(command, writer);
    expect_undisturbed(&mut run);
    drop(reader);
}

#[test]
fn renewals_that_fail_while_the_lock_is_confirmed_are_told_once() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    proxy.rules(vec![Rule::new(Fault::Status(500, "rpc error".into())).prefix("/v1/session/renew")]);
    let key = unique_key("renewals");
    let flags = ["--ttl", "10s", "-v"];
    let mut run = hold(&proxy.addr(), &flags, &key, &diary(seconds(10), true));
    let end = expect_undisturbed(&mut run);
    assert_eq!(end.stderr.matches("the session is not renewed").count(), 1, "{}", end.stderr);
    let tried = proxy.requests().iter().filter(|seen| seen.target.starts_with("/v1/session/renew")).count();
    assert!(tried >= 4, "{tried} renewals");
}

#[test]
fn forty_seconds_without_consul_under_a_lock_delay_of_sixty() {
    let mut agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("forty");
    let flags = ["--lock-delay", "60s"];
    let mut run = hold(&agent.http_addr(), &flags, &key, &diary(seconds(46), true));
    let session = agent.holder(&key).expect("held");
    agent.kill9();
    std::thread::sleep(seconds(40));
    agent.restart();
    assert_eq!(agent.holder(&key), Some(session));
    expect_undisturbed(&mut run);
    assert_eq!(agent.kv(&key), None);
}
