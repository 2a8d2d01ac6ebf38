//! The example programs, as they were built for the tests.

mod support;

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::agent::Agent;
use support::running::Running;
use support::unique_key;

const BOUND: Duration = Duration::from_secs(60);

fn example(name: &str, agent: &Agent) -> Command {
    // The tests are in target/PROFILE/deps, the examples in target/PROFILE/examples.
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a folder above deps");
    let binary = profile.join("examples").join(name);
    assert!(binary.exists(), "a test run of everything builds it; for this file alone: cargo build --examples");
    let mut command = Command::new(binary);
    command.env("CONSUL_HTTP_ADDR", agent.http_addr());
    command
}

#[test]
fn a_second_leader_takes_over_when_the_first_steps_down() {
    let agent = Agent::plain();
    let key = unique_key("leader");
    let start = || Running::start(example("leader", &agent).arg(&key));
    let mut first = start();
    first.expect_stdout(": leading, fence ", BOUND);
    let mut second = start();
    second.expect_stdout(": waiting to lead", BOUND);
    assert!(!second.stdout().contains("leading,"));

    first.signal(Signal::SIGINT);
    let ended = first.wait(BOUND);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with(": stepped down\n"), "{}", ended.stdout);
    second.expect_stdout(": leading, fence ", BOUND);

    // Losing the lock is no end: it waits again, behind the lock delay.
    agent.destroy_session(&agent.holder(&key).expect("the second leads"));
    second.expect_stdout(": not leading any more: its session has ended", BOUND);
    second.signal(Signal::SIGINT);
    assert_eq!(second.wait(BOUND).code(), Some(0));
    assert!(agent.sessions().is_empty());
}
