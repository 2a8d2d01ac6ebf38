//! Other clients of the same key, and runs within runs.

mod support;

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;
use support::agent::{Agent, LOCK_FLAGS, PATIENCE, consul_binary};
use support::running::Running;
use support::{consul_lock_on, eventually, hold, run_on, unique_key};

/// `consul lock`, which locks the key `PREFIX/.lock`.
fn consul_lock_of_consul(agent: &Agent, args: &[&str]) -> Running {
    let mut command = Command::new(consul_binary());
    command.env("CONSUL_HTTP_ADDR", agent.http_addr()).arg("lock").args(args);
    Running::start(&mut command)
}

#[test]
fn what_consul_lock_holds_is_waited_for() {
    let agent = Agent::plain();
    let prefix = unique_key("theirs");
    let key = format!("{prefix}/.lock");
    let mut theirs = consul_lock_of_consul(&agent, &[&prefix, "echo started; read line; sleep 1000"]);
    theirs.expect_stdout("started", PATIENCE);
    let session = agent.holder(&key).unwrap();
    let refused = run_on(&agent, &["run", "-n", &key, "-c", "echo ran"]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(75), ""));
    assert!(refused.stderr.contains(&format!("{key} is held by session {session}")), "{}", refused.stderr);

    let mut ours = Running::start(consul_lock_on(&agent).args(["run", &key, "-c", "echo mine"]));
    ours.expect_stderr(&format!("waiting for {key}, held by session {session}"), PATIENCE);
    theirs.signal(Signal::SIGTERM);
    theirs.wait(PATIENCE);
    let ended = ours.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn consul_lock_waits_for_what_we_hold() {
    let agent = Agent::plain();
    let prefix = unique_key("ours");
    let key = format!("{prefix}/.lock");
    let mut ours = hold(&agent, &[], &key);
    let mut refused = consul_lock_of_consul(&agent, &["-try=1s", &prefix, "echo ran"]);
    let ended = refused.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.contains("ran")), (Some(1), false), "{}", ended.stderr);

    let mut theirs = consul_lock_of_consul(&agent, &[&prefix, "echo theirs"]);
    eventually("it has a session, too", PATIENCE, || (agent.sessions().len() == 2).then_some(()));
    assert!(!theirs.stdout().contains("theirs"));
    ours.signal(Signal::SIGTERM);
    assert_eq!(ours.wait(PATIENCE).signal(), Some(15));
    let ended = theirs.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.contains("theirs")), (Some(0), true), "{}", ended.stderr);
}

#[test]
fn a_client_as_go_has_it_and_we_exclude_each_other() {
    let agent = Agent::plain();
    let key = unique_key("go");
    let theirs = agent.create_session(&json!({}));
    for round in 0..3 {
        assert!(agent.acquire_as_go(&key, &theirs, "a Go program"), "round {round}");
        assert_eq!(run_on(&agent, &["run", "-n", &key, "--", "true"]).code(), Some(75));
        let mut ours = Running::start(consul_lock_on(&agent).args(["run", &key, "-c", "echo mine; exec sleep 1000"]));
        ours.expect_stderr(&format!("held by session {theirs}"), PATIENCE);
        // Its Unlock leaves the key in place, value and all.
        assert!(agent.release(&key, &theirs));
        ours.expect_stdout("mine\n", PATIENCE);
        assert_eq!(agent.kv(&key).unwrap()["Flags"], LOCK_FLAGS);
        assert!(!agent.acquire_as_go(&key, &theirs, "a Go program"));
        ours.signal(Signal::SIGTERM);
        assert_eq!(ours.wait(PATIENCE).signal(), Some(15));
        assert!(agent.kv(&key).is_none());
    }
    assert_eq!(agent.sessions().len(), 1);
}

#[test]
fn a_run_within_a_run_of_the_same_key_is_an_error_and_no_deadlock() {
    let agent = Agent::plain();
    let key = unique_key("nested");
    let lock = consul_lock_on(&agent);
    let binary = lock.get_program().to_str().unwrap();
    let inner = [binary, "run", &key, "--", "echo", "ran"];
    let ended = run_on(&agent, &[&["run", &key, "--"], &inner[..]].concat());
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the run or the script that started this one holds the same lock"),
        "{}",
        ended.stderr
    );
    // Nor is it somebody else's turn when it would not wait at all, on this machine alone neither.
    for flags in [&[][..], &["--local"]] {
        let words = [&["run"], flags, &[&key, "--", binary, "run", "-n"], flags, &[&key, "--", "echo", "ran"]].concat();
        let ended = run_on(&agent, &words);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    }
    // With another lock in between, too.
    let other = unique_key("other");
    let between = [&["run", &key, "--", binary, "run", &other, "--"], &inner[..]].concat();
    let ended = run_on(&agent, &between);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn a_run_within_a_run_of_another_key_knows_both_sessions() {
    let agent = Agent::plain();
    let [outer, inner] = ["outer", "inner"].map(unique_key);
    let lock = consul_lock_on(&agent);
    let script = format!(
        r#"echo "$CONSUL_LOCK_SESSION"; exec {} run {inner} -c 'echo "$CONSUL_LOCK_SESSION"; echo "$CONSUL_LOCK_CHAIN"; echo "$CONSUL_LOCK_KEY"'"#,
        lock.get_program().to_str().unwrap()
    );
    let ended = run_on(&agent, &["run", &outer, "-c", &script]);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    let lines: Vec<_> = ended.stdout.lines().collect();
    let [first, second, chain_first, chain_second, key] = lines[..] else { panic!("{lines:?}") };
    assert!(first != second && first.len() == 36);
    assert_eq!((chain_first, chain_second, key), (first, second, inner.as_str()));
    agent.expect_nothing_left();
}

#[test]
fn the_environment_of_a_run_that_is_over_means_nothing() {
    let agent = Agent::plain();
    let key = unique_key("stale");
    for chain in ["00000000-1111-2222-3333-444444444444", "\n\nno session\n", "local:0123456789abcdef"] {
        let mut command = consul_lock_on(&agent);
        command.envs([("CONSUL_LOCK_HELD", "true"), ("CONSUL_LOCK_KEY", key.as_str()), ("CONSUL_LOCK_CHAIN", chain)]);
        let mut running = Running::start(command.args(["run", &key, "-c", "echo ran"]));
        let ended = running.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{chain:?}: {}", ended.stderr);
    }
    agent.expect_nothing_left();
}
