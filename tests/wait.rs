//! `consul-lock wait`: returns when nobody holds a lock.

mod support;

use nix::sys::signal::Signal;
use serde_json::json;

use support::agent::{Agent, LOCK_FLAGS, Options, PATIENCE};
use support::running::{Ended, Running};
use support::{consul_lock, consul_lock_on, eventually, hold, run_on, unique_key};

fn waiting(agent: &Agent, args: &[&str]) -> Running {
    Running::start(consul_lock_on(agent).arg("wait").args(args))
}

#[track_caller]
fn expect(ended: &Ended, code: i32) {
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
}

#[test]
fn it_returns_when_nobody_holds_the_lock_and_not_before() {
    let agent = Agent::plain();
    let key = unique_key("wait");
    let free = run_on(&agent, &["wait", &key]);
    expect(&free, 0);
    assert_eq!(free.stderr, "");

    let mut holder = hold(&agent, &[], &key);
    for flags in [&["-w", "0"][..], &["-w", "300ms"]] {
        let late = waiting(&agent, &[flags, &[&key]].concat()).wait(PATIENCE);
        expect(&late, 75);
        assert!(late.stderr.contains(&format!("{key} is held by sh (pid {} of ", holder.pid())), "{}", late.stderr);
    }
    let quiet = run_on(&agent, &["wait", "-q", "-w", "0", &key]);
    expect(&quiet, 75);
    assert_eq!(quiet.stderr, "");

    // Ctrl-C ends the one, and the release the other.
    let [mut interrupted, mut patient] = [(); 2].map(|()| waiting(&agent, &[&key]));
    for one in [&interrupted, &patient] {
        one.expect_stderr(&format!("waiting for {key}, held by sh (pid {} of ", holder.pid()), PATIENCE);
    }
    interrupted.signal(Signal::SIGINT);
    assert_eq!(interrupted.wait(PATIENCE).signal(), Some(2));
    assert!(patient.try_wait().is_none());
    holder.signal(Signal::SIGTERM);
    expect(&patient.wait(PATIENCE), 0);
    holder.wait(PATIENCE);
    agent.expect_nothing_left();
}

#[test]
fn every_slot_and_every_reader_is_waited_for_and_a_loss_is_told() {
    let agent = Agent::plain();
    let key = unique_key("parts");
    let sessions = [(); 4].map(|()| agent.create_session(&json!({ "LockDelay": "0s" })));
    let parts = [key.clone(), format!("{key}/.slot/4"), format!("{key}/.read/{}", sessions[2])];
    for (part, session) in parts.iter().zip(&sessions) {
        assert!(agent.acquire_as_go(part, session, ""));
    }
    let mut wait = waiting(&agent, &[&key]);
    for (number, (part, session)) in parts.iter().zip(&sessions).enumerate() {
        wait.expect_stderr(&format!("held by session {session}"), PATIENCE);
        assert!(wait.try_wait().is_none(), "before part {number} was free");
        agent.release(part, session);
    }
    expect(&wait.wait(PATIENCE), 0);

    // A change is one look, and so is the loss: in between it is blocked, and does not ask.
    assert!(agent.acquire_as_go(&key, &sessions[3], ""));
    let mut wait = waiting(&agent, &[&key]);
    wait.expect_stderr("held by session", PATIENCE);
    let blocking = |requests: &[String]| requests.iter().filter(|request| request.contains("index=")).count();
    let before = blocking(&agent.requests());
    let record = json!({
        "host": "web1", "pid": 71, "user": "root", "command": "backup", "acquired_at": "2026-01-01T00:00:00Z",
        "lock_delay": "30s", "run": "r", "tool": "t",
    });
    agent.put(&format!("/v1/kv/{key}?acquire={}&flags={LOCK_FLAGS}", sessions[3]), record.to_string());
    agent.destroy_session(&sessions[3]);
    let lost = wait.wait(PATIENCE);
    expect(&lost, 0);
    assert!(lost.stderr.contains("backup (pid 71 of root on web1) did not release it"), "{}", lost.stderr);
    let after = eventually("its requests are in the log", PATIENCE, || {
        let after = blocking(&agent.requests());
        (after > before).then_some(after)
    });
    assert!(after - before <= 3, "{:?}", agent.requests());
}

#[test]
fn an_outage_is_borne_for_so_long_and_the_wait_goes_on_after_it() {
    let agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("outage");
    let session = agent.create_session(&json!({ "NodeChecks": [] }));
    assert!(agent.acquire_as_go(&key, &session, ""));
    let mut short = waiting(&agent, &["--retry-for", "300ms", &key]);
    let mut long = waiting(&agent, &["--retry-for", "60s", &key]);
    for one in [&short, &long] {
        one.expect_stderr(&format!("held by session {session}"), PATIENCE);
    }
    agent.kill9();
    let gone = short.wait(PATIENCE);
    expect(&gone, 69);
    long.expect_stderr("trying again", PATIENCE);
    let mut agent = agent;
    agent.restart();
    assert!(long.try_wait().is_none());
    assert!(agent.release(&key, &session));
    expect(&long.wait(PATIENCE), 0);
}

#[test]
fn a_lock_of_this_machine_is_waited_for_and_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let local = format!("--local={}", folder.path().display());
    let start = |args: &[&str]| Running::start(consul_lock().args(args).arg(&local));
    expect(&start(&["wait", "k"]).wait(PATIENCE), 0);
    let free = start(&["status", "k"]).wait(PATIENCE);
    assert_eq!((free.code(), free.stdout.as_str()), (Some(1), "k: free\n"));

    let mut command = consul_lock();
    let script = "echo $CONSUL_LOCK_FENCE; exec sleep 1000";
    let holder = Running::start(command.args(["run", &local, "k", "-c", script]));
    holder.expect_stdout("\n", PATIENCE);
    let mut command = consul_lock();
    let _next = Running::start(command.args(["run", &local, "k", "-c", "true"]));
    let mut wait = start(&["wait", "k"]);
    wait.expect_stderr(&format!("waiting for k, held by sh (pid {} of ", holder.pid()), PATIENCE);
    expect(&start(&["wait", "-q", "-w", "100ms", "k"]).wait(PATIENCE), 75);
    let held = eventually("both are in line", PATIENCE, || {
        let held = start(&["status", "k"]).wait(PATIENCE);
        held.stdout.contains("  2. pid ").then_some(held)
    });
    assert_eq!(held.code(), Some(0));
    assert!(held.stdout.contains(&format!("\n  fence    {}", holder.stdout())), "{}", held.stdout);
    assert!(!held.stdout.contains("session"), "{}", held.stdout);
    let mut interrupted = start(&["wait", "k"]);
    interrupted.expect_stderr("waiting for k", PATIENCE);
    interrupted.signal(Signal::SIGINT);
    assert_eq!(interrupted.wait(PATIENCE).signal(), Some(2));
    // Who looks does not take: the lock goes to whoever wants it.
    holder.signal(Signal::SIGTERM);
    expect(&wait.wait(PATIENCE), 0);
    for command in [&["status", "k"][..], &["list"], &["wait", "k"]] {
        let mut line = consul_lock();
        let ended = Running::start(line.args(command).arg(format!("{local}/missing"))).wait(PATIENCE);
        expect(&ended, 78);
        assert!(ended.stderr.contains("there is no such directory"), "{}", ended.stderr);
    }
}
