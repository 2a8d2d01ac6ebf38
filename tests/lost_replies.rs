//! Replies that get lost on their way, where a lock is taken and where it is given back.

mod support;

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::agent::Agent;
use support::proxy::{Fault, Proxy, Rule, Seen};
use support::running::{Ended, Running};
use support::{consul_lock_at, hold, unique_key};

const BOUND: Duration = Duration::from_secs(40);

/// Runs a command that leaves a line in a file, while these requests go wrong: how it ended, and the lines.
fn run(proxy: &mut Proxy, rules: Vec<Rule>, flags: &[&str], key: &str, end: &str) -> (Ended, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lines");
    proxy.rules(rules);
    let script = format!("echo line >>'{}'; {end}", file.display());
    let end = Running::start(consul_lock_at(&proxy.addr()).arg("run").args(flags).arg(key).args(["-c", &script]));
    let end = { end }.wait(BOUND);
    (end, fs::read_to_string(file).map_or(0, |text| text.lines().count()))
}

/// Transactions that write; confirmations only read.
fn writes(fault: Fault, times: usize) -> Vec<Rule> {
    vec![Rule::new(Fault::None).prefix("/v1/txn?consistent"), Rule::new(fault).prefix("/v1/txn").times(times)]
}

/// The verbs of each transaction that writes.
fn transactions(proxy: &Proxy) -> Vec<(Vec<String>, Seen)> {
    let verbs = |seen: &Seen| {
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        let ops = body.as_array().expect("operations").clone();
        ops.iter().map(|op| op["KV"]["Verb"].as_str().expect("a verb").to_owned()).collect()
    };
    let txns = proxy.requests().into_iter().filter(|seen| seen.target == "/v1/txn");
    txns.map(|seen| (verbs(&seen), seen)).collect()
}

#[track_caller]
fn expect_nothing_left(agent: &Agent, key: &str) {
    assert_eq!(agent.kv(key), None);
    assert_eq!(agent.sessions(), [] as [Value; 0]);
}

#[test]
fn a_lock_whose_answer_is_lost_is_proven_before_the_command_runs_once() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("lock-lost");
    let (end, lines) = run(&mut proxy, writes(Fault::LoseReply, 1), &[], &key, "exit 5");
    assert_eq!((end.code(), lines), (Some(5), 1), "{end:?}");
    let verbs: Vec<_> = transactions(&proxy).into_iter().map(|(verbs, _)| verbs.join(" ")).collect();
    assert_eq!(
        verbs,
        ["check-not-exists lock check-not-exists get-tree", "check-session lock get-tree", "check-session delete"]
    );
    expect_nothing_left(&agent, &key);
}

#[test]
fn a_lock_whose_answer_comes_late_is_proven_before_the_command_runs() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("lock-late");
    let late = Duration::from_millis(1300);
    let (end, lines) = run(&mut proxy, writes(Fault::DelayReply(late), 1), &[], &key, "true");
    assert_eq!((end.code(), lines), (Some(0), 1), "{end:?}");
    let transactions = transactions(&proxy);
    let verbs: Vec<_> = transactions.iter().map(|(verbs, _)| verbs.join(" ")).collect();
    assert_eq!(
        verbs,
        ["check-not-exists lock check-not-exists get-tree", "check-session lock get-tree", "check-session delete"]
    );
    assert!(transactions[1].1.at - transactions[0].1.at >= late);
    expect_nothing_left(&agent, &key);
}

/// A token that is cut down between the request and its proof: Consul denies that for good.
#[test]
fn a_proof_that_is_denied_ends_the_waiting() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    for what in ["Permission denied", "something that no Consul of today says"] {
        for keys in [&["a"][..], &["a", "b"]] {
            let before = proxy.requests().len();
            let refusal = json!({ "Results": null, "Errors": [{ "OpIndex": 1, "What": what }] }).to_string();
            let mut rules = writes(Fault::LoseReply, 1);
            rules.push(Rule::new(Fault::Status(409, refusal)).prefix("/v1/txn").times(20));
            proxy.rules(rules);
            let key = unique_key("proof-refused");
            let keys = keys.iter().map(|name| format!("{key}/{name}"));
            let mut command = consul_lock_at(&proxy.addr());
            let end = Running::start(command.arg("run").args(keys).args(["-c", "echo ran"])).wait(BOUND);
            let code = if what.starts_with("Permission") { 77 } else { 70 };
            assert_eq!((end.code(), end.stdout.as_str()), (Some(code), ""), "{end:?}");
            assert!(end.stderr.contains(what), "{end:?}");
            let asked = proxy.requests().split_off(before).into_iter().filter(|seen| seen.target == "/v1/txn").count();
            assert!(asked < 10, "{asked} requests");
            assert_eq!(agent.sessions(), [] as [Value; 0]);
        }
    }
}

/// A session that reads under a lock cannot write under it, whatever became of the first request.
#[test]
fn a_writer_whose_session_reads_for_another_run_is_refused_at_once() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let key = unique_key("reads");
    let _reader = hold(&agent, &["--shared", "--session", &given], &key);
    let flags = ["-w", "3s", "--session", &given];
    let (end, lines) = run(&mut proxy, writes(Fault::LoseReply, 1), &flags, &key, "true");
    assert_eq!((end.code(), lines), (Some(75), 0), "{end:?}");
    assert!(end.stderr.contains(&format!("held by another run of session {given}")), "{end:?}");
    let asked = transactions(&proxy).len();
    assert!(asked < 10, "{asked} transactions");
}

/// Where a reader has died, his place is taken and cleared away.
#[test]
fn a_dead_readers_place_that_is_refused_for_good_ends_the_waiting() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("dead-reader");
    let dead = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "0s" }));
    let place = format!("{key}/.read/{dead}");
    let reader = 0x636c_7265_6164_6572_u64;
    assert_eq!(agent.put(&format!("/v1/kv/{place}?acquire={dead}&flags={reader}"), "").text().trim(), "true");
    agent.destroy_session(&dead);
    let what = "something that no Consul of today says";
    let refusal = json!({ "Results": null, "Errors": [{ "OpIndex": 0, "What": what }] }).to_string();
    let mut rules = writes(Fault::None, 1);
    rules.push(Rule::new(Fault::Status(409, refusal)).prefix("/v1/txn").times(20));
    let (end, lines) = run(&mut proxy, rules, &[], &key, "true");
    assert_eq!((end.code(), lines), (Some(70), 0), "{end:?}");
    assert!(end.stderr.contains(what), "{end:?}");
}

#[test]
fn a_lock_that_consul_never_heard_of_is_asked_for_anew() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    for fault in [Fault::CloseUnanswered, Fault::Status(500, "No cluster leader".into()), Fault::Reset] {
        let key = unique_key("lock-unheard");
        let (end, lines) = run(&mut proxy, writes(fault, 2), &[], &key, "exit 5");
        assert_eq!((end.code(), lines), (Some(5), 1), "{end:?}");
        expect_nothing_left(&agent, &key);
    }
}

#[test]
fn a_session_whose_answer_is_lost_holds_nothing_and_the_command_runs_under_another() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("session-lost");
    let rules = vec![Rule::new(Fault::LoseReply).prefix("/v1/session/create").times(1)];
    let (end, lines) = run(&mut proxy, rules, &[], &key, "exit 5");
    assert_eq!((end.code(), lines), (Some(5), 1), "{end:?}");
    assert_eq!(agent.kv(&key), None);
    let left = agent.sessions();
    assert_eq!(left.len(), 1, "nobody knows the id of the one that was lost; its TTL ends it: {left:?}");
    assert_eq!(left[0]["TTL"], "15s");
}

#[test]
fn a_release_whose_answer_is_lost_is_repeated_and_then_the_session_is_destroyed() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    for fault in [Fault::LoseReply, Fault::CloseUnanswered, Fault::Status(503, "starting".into())] {
        let key = unique_key("release-lost");
        let before = proxy.requests().len();
        proxy.rules(Vec::new());
        let command = &mut consul_lock_at(&proxy.addr());
        let script = "echo started; read go; exit 5";
        let command = command.args(["run", &key, "-c", script]);
        let mut run = Running::start_with_stdin(command, std::process::Stdio::piped());
        run.expect_stdout("started", BOUND);
        proxy.rules(writes(fault.clone(), 2));
        drop(run.take_stdin());
        let end = run.wait(BOUND);
        assert_eq!((end.code(), end.stderr.as_str()), (Some(5), ""), "{fault:?}");
        let targets: Vec<_> = proxy.requests().split_off(before).into_iter().map(|seen| seen.target).collect();
        let released = targets.iter().rposition(|target| target == "/v1/txn").expect("released");
        let destroyed = targets.iter().position(|target| target.starts_with("/v1/session/destroy/"));
        assert!(destroyed.expect("destroyed") > released, "{targets:?}");
        assert_eq!(targets.iter().filter(|target| *target == "/v1/txn").count(), 4, "lock, two lost, one told");
        expect_nothing_left(&agent, &key);
    }
}

#[test]
fn a_release_that_nobody_confirms_is_told_and_the_commands_code_is_kept() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    for fault in [Fault::CloseUnanswered, Fault::Status(500, "No cluster leader".into())] {
        let key = unique_key("release-unheard");
        let rules = writes(fault.clone(), usize::MAX);
        // The first transaction is the lock.
        let rules = [vec![Rule::new(Fault::None).prefix("/v1/txn").times(1)], rules].concat();
        let (end, lines) = run(&mut proxy, rules, &["--retry-for", "1s"], &key, "exit 5");
        assert_eq!((end.code(), lines), (Some(5), 1), "{fault:?}: {end:?}");
        assert!(end.stderr.contains(&format!("{key} may not be released")), "{end:?}");
        assert_eq!(agent.holder(&key), None, "the end of its session frees it");
        assert_eq!(agent.sessions(), [] as [Value; 0]);
    }
}
