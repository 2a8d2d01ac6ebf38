//! The session that a run locks under: what it is made with, and one that somebody else made.

mod support;

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, PATIENCE};
use support::proxy::{Fault, Proxy, Rule};
use support::running::Running;
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

const NOBODYS: &str = "00000000-1111-2222-3333-444444444444";

/// The one session that there is.
#[track_caller]
fn only_session(agent: &Agent) -> Value {
    let sessions = agent.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.into_iter().next().unwrap()
}

/// Asserts that these fields of the session are so.
#[track_caller]
fn expect_fields(session: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&session[name], value, "{name}");
    }
}

#[test]
fn a_session_is_made_with_the_defaults_that_the_help_names() {
    let agent = Agent::plain();
    let key = unique_key("defaults");
    let _holder = hold(&agent, &[], &key);
    let expected = json!({
        "Name": format!("consul-lock {key}"), "TTL": "15s", "LockDelay": 30_000_000_000_u64, "Behavior": "release",
        "NodeChecks": ["serfHealth"], "ServiceChecks": null, "Node": agent.node(),
    });
    expect_fields(&only_session(&agent), &expected);
}

#[test]
fn every_flag_of_the_session_can_be_seen_in_it() {
    let agent = Agent::plain();
    agent.put("/v1/agent/check/register", r#"{"ID": "disk", "Name": "disk", "TTL": "1h", "Status": "passing"}"#);
    let web = r#"{"ID": "web", "Name": "web", "Check": {"CheckID": "service:web", "TTL": "1h", "Status": "passing"}}"#;
    agent.put("/v1/agent/service/register", web);
    let key = unique_key("flags");
    let cases: [(&[&str], Value); 8] = [
        (&["--session-name", "nightly ü"], json!({ "Name": "nightly ü" })),
        (&["--ttl", "1m30s"], json!({ "TTL": "90s" })),
        (&["--ttl", "20"], json!({ "TTL": "20s" })),
        (&["--lock-delay", "12500ms"], json!({ "LockDelay": 12_500_000_000_u64 })),
        (&["--behavior", "delete"], json!({ "Behavior": "delete" })),
        (&["--no-checks"], json!({ "NodeChecks": [], "ServiceChecks": null })),
        (&["--check", "disk", "--check", "serfHealth"], json!({ "NodeChecks": ["disk", "serfHealth"] })),
        (
            &["--check", "service:web", "--check", "disk"],
            json!({ "NodeChecks": ["disk"], "ServiceChecks": [{ "ID": "service:web", "Namespace": "" }] }),
        ),
    ];
    for (flags, expected) in cases {
        let mut holder = hold(&agent, flags, &key);
        expect_fields(&only_session(&agent), &expected);
        holder.signal(Signal::SIGTERM);
        assert_eq!(holder.wait(PATIENCE).signal(), Some(15), "{flags:?}");
        agent.expect_nothing_left();
    }
}

#[test]
fn a_check_that_fails_ends_the_session_and_with_it_the_command() {
    let agent = Agent::plain();
    agent.put("/v1/agent/check/register", r#"{"ID": "disk", "Name": "disk", "TTL": "1h", "Status": "passing"}"#);
    let key = unique_key("check");
    let mut holder = hold(&agent, &["--check", "disk"], &key);
    agent.put("/v1/agent/check/fail/disk", "");
    let ended = holder.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76));
    assert!(ended.stderr.contains(&format!("lost {key}: its session has ended")), "{}", ended.stderr);
    holder.expect_no_survivors(PATIENCE);
}

#[test]
fn a_check_that_consul_does_not_know_is_named() {
    let agent = Agent::plain();
    let ended = run_on(&agent, &["run", "--retry-for=1s", "--check=nope", &unique_key("check"), "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("nope") && ended.stderr.contains("/v1/agent/checks"), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn with_behavior_delete_the_key_goes_with_the_session() {
    let agent = Agent::plain();
    let key = unique_key("behavior");
    for (behavior, message) in
        [("delete", "its session has ended and the key with it"), ("release", "its session has ended;")]
    {
        let mut holder = hold(&agent, &["--behavior", behavior, "--lock-delay", "10s"], &key);
        agent.destroy_session(only_session(&agent)["ID"].as_str().unwrap());
        let ended = holder.wait(PATIENCE);
        assert_eq!(ended.code(), Some(76));
        assert!(ended.stderr.contains(&format!("lost {key}: {message}")), "{}", ended.stderr);
        assert_eq!(agent.kv(&key).is_none(), behavior == "delete");
        if behavior == "delete" {
            // Its lock delay outlives the key.
            let refused = run_on(&agent, &["run", "-n", &key, "--", "true"]);
            assert_eq!(refused.code(), Some(75));
            assert!(refused.stderr.contains("under its lock delay"), "{}", refused.stderr);
        }
        let key = key.clone();
        eventually("the lock delay is over", PATIENCE, || {
            (run_on(&agent, &["run", "-n", &key, "--", "true"]).code() == Some(0)).then_some(())
        });
    }
}

#[test]
fn a_given_session_is_used_and_renewed_and_outlives_the_run() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let given = agent.create_session(&json!({ "TTL": "10s", "LockDelay": "20s", "Name": "ours" }));
    let key = unique_key("given");
    let mut command = consul_lock_at(&proxy.addr());
    command.args([
        "run",
        "-v",
        "--session",
        &given,
        &key,
        "--",
        "sh",
        "-c",
        "echo $CONSUL_LOCK_SESSION; read line; true",
    ]);
    let mut running = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
    running.expect_stdout(&given, PATIENCE);
    assert_eq!(agent.holder(&key).as_deref(), Some(given.as_str()));
    // The lease comes from the session: a lock delay of 20 s.
    running.expect_stderr("SIGTERM after 14 s, SIGKILL after 19 s, nobody else before 20 s", PATIENCE);
    let renewal = format!("/v1/session/renew/{given}");
    eventually("the session is renewed", PATIENCE, || {
        proxy.requests().iter().find(|request| request.target == renewal).map(drop)
    });
    drop(running.take_stdin());
    assert_eq!(running.wait(PATIENCE).code(), Some(0));
    let made_or_destroyed = |target: &str| target.starts_with("/v1/session/create") || target.contains("/destroy/");
    assert!(!proxy.requests().iter().any(|request| made_or_destroyed(&request.target)));
    assert_eq!((only_session(&agent)["ID"].as_str(), agent.keys("").len()), (Some(given.as_str()), 0));
}

#[test]
fn a_lock_that_the_given_session_holds_already_is_not_shared() {
    let agent = Agent::plain();
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let key = unique_key("twice");
    let mut holder = hold(&agent, &["--session", &given], &key);
    for flags in [&["-n"][..], &[]] {
        let args = [&["run"], flags, &["--session", &given, &key, "-c", "echo ran"]].concat();
        let ended = run_on(&agent, &args);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("held by another run of session {given}")), "{}", ended.stderr);
        assert_eq!(agent.holder(&key).as_deref(), Some(given.as_str()));
    }
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    assert_eq!(run_on(&agent, &["run", "--session", &given, &key, "--", "true"]).code(), Some(0));
    assert_eq!(agent.sessions().len(), 1);
}

/// Its answer was lost, and before it is repeated another run of the same session has the lock.
#[test]
fn a_repeated_release_does_not_give_back_what_another_run_of_the_session_has_since() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    for flags in [&[][..], &["--keep-key"], &["--shared"]] {
        let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
        let key = unique_key("repeated");
        let held = if flags == ["--shared"] { format!("{key}/.read/{given}") } else { key.clone() };
        let flags = [flags, &["--session", &given]].concat();
        let mut command = consul_lock_at(&proxy.addr());
        command.arg("run").args(&flags).args([&key, "-c", "echo started; read go; exit 5"]);
        proxy.rules(Vec::new());
        let mut first = Running::start_with_stdin(&mut command, Stdio::piped());
        first.expect_stdout("started", PATIENCE);
        proxy.rules(vec![
            Rule::new(Fault::None).prefix("/v1/txn?consistent"),
            Rule::new(Fault::LoseReply).prefix("/v1/txn").times(1),
            Rule::new(Fault::Delay(Duration::from_secs(2))).prefix("/v1/txn"),
        ]);
        drop(first.take_stdin());
        eventually("it is given back", PATIENCE, || agent.holder(&held).is_none().then_some(()));
        let mut second = hold(&agent, &flags, &key);
        assert_eq!(first.wait(PATIENCE).code(), Some(5), "{}", first.stderr());
        assert_eq!(agent.holder(&held).as_deref(), Some(given.as_str()), "{flags:?}");
        assert_eq!(second.try_wait(), None, "{flags:?}");
        second.signal(Signal::SIGTERM);
        assert_eq!(second.wait(PATIENCE).signal(), Some(15));
        assert_eq!(agent.holder(&held), None);
    }
}

/// Somebody wrote to the key, which stays held by that: it is given back all the same.
#[test]
fn a_key_under_a_given_session_that_somebody_wrote_to_is_released() {
    let agent = Agent::plain();
    for flags in [&[][..], &["--keep-key"]] {
        let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
        let key = unique_key("written");
        let mut holder = hold(&agent, &[flags, &["--session", &given]].concat(), &key);
        agent.put(&format!("/v1/kv/{key}"), "a note");
        assert_eq!(agent.holder(&key).as_deref(), Some(given.as_str()));
        holder.signal(Signal::SIGTERM);
        let ended = holder.wait(PATIENCE);
        assert_eq!((ended.signal(), ended.stderr.as_str()), (Some(15), ""), "{flags:?}");
        assert_eq!(agent.holder(&key), None, "{flags:?}");
    }
}

/// A deposed leader says that the session is gone, of one that lives.
#[test]
fn a_given_session_is_gone_only_if_a_quorum_says_so() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let gone = Fault::Status(404, format!("Session id '{given}' not found"));
    proxy.rules(vec![Rule::new(gone).prefix("/v1/session/renew").times(1)]);
    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", "--session", &given, &unique_key("deposed"), "-c", "echo ran"]);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "ran\n", ""));
}

#[test]
fn a_given_session_that_is_not_there_or_not_as_asked_for_is_a_usage_error() {
    let agent = Agent::plain();
    let given = agent.create_session(&json!({ "TTL": "20s", "LockDelay": "20s", "Name": "ours" }));
    let without = agent.create_session(&json!({ "LockDelay": "0s" }));
    let tight = agent.create_session(&json!({ "LockDelay": "3s" }));
    let key = unique_key("refused");
    let cases: [(&[&str], &str); 12] = [
        (&["--session", NOBODYS], "does not exist at http://"),
        (&["--session", "mine"], "\"mine\" is no session"),
        (&["--session", ""], "\"\" is no session"),
        (&["--session", &given, "--ttl", "30s"], "TTL \"20s\", not \"30s\""),
        (&["--session", &given, "--lock-delay", "30s"], "lock delay \"20s\", not \"30s\""),
        (&["--session", &given, "--behavior", "delete"], "behavior"),
        (&["--session", &given, "--session-name", "theirs"], "name \"ours\", not \"theirs\""),
        (&["--session", &given, "--check", "disk"], "checks"),
        (&["--session", &given, "--no-checks"], "checks"),
        (&["--session", &given, "--value", "x"], "--value"),
        (&["--session", &without], "has a lock delay of 0"),
        (&["--session", &tight], "lock delay 3s - margin 500ms - grace 5s leaves -2.5s"),
    ];
    for (flags, message) in cases {
        let ended = run_on(&agent, &[&["run"], flags, &[&key, "-c", "echo ran"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{flags:?}: {}", ended.stderr);
    }
    // What agrees with the session is no contradiction.
    let agreeing =
        ["run", "--session", &given, "--ttl=20s", "--lock-delay=20s", "--session-name=ours", &key, "--", "true"];
    assert_eq!(run_on(&agent, &agreeing).code(), Some(0));
    assert_eq!((agent.sessions().len(), agent.keys("").len()), (3, 0));
}

#[test]
fn a_given_session_without_a_lock_delay_is_used_only_with_a_line_that_says_what_is_given_up() {
    let agent = Agent::plain();
    let given = agent.create_session(&json!({ "TTL": "20s", "LockDelay": "0s" }));
    let flags = ["run", "-q", "--no-guarantee", "--session", &given, &unique_key("zero"), "-c", "echo ran"];
    let ended = run_on(&agent, &flags);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("no guarantee: with a lock delay of 0").count(), 1, "{}", ended.stderr);
    let own = run_on(&agent, &["run", "-q", "--no-guarantee", "--lock-delay=0", &unique_key("zero"), "-c", "echo ran"]);
    assert_eq!(own.stderr, ended.stderr);
}

#[test]
fn a_given_session_that_ends_takes_the_command_with_it() {
    let agent = Agent::plain();
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let key = unique_key("ends");
    let mut holder = hold(&agent, &["--session", &given], &key);
    agent.destroy_session(&given);
    let ended = holder.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    holder.expect_no_survivors(PATIENCE);
    let mut waiter = consul_lock_on(&agent);
    waiter.args(["run", "--session", &given, &key, "--", "true"]);
    assert_eq!(Running::start(&mut waiter).wait(PATIENCE).code(), Some(64));
}
