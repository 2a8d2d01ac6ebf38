//! Several keys for one command, and what becomes of them when something goes wrong: losing one is losing all.

mod support;

use std::time::Duration;

use consul_lock::Client;
use consul_lock::consul::Settings;
use consul_lock::lock::{Error, Key, LockOptions, Loss, Stop};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, PATIENCE};
use support::line::line;
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

/// Keys below a prefix of their own, in the order of their bytes.
fn keys<const N: usize>() -> [String; N] {
    let prefix = unique_key("several");
    std::array::from_fn(|number| format!("{prefix}/{number:02}"))
}

/// A lock delay that a test can wait for; the keys are confirmed every 0.4 s.
const SHORT: [&str; 2] = ["--lock-delay=2s", "-k0"];

#[track_caller]
fn hold_all(agent: &Agent, flags: &[&str], keys: &[String]) -> Running {
    let mut command = consul_lock_on(agent);
    command.arg("run").args(flags).args(keys).args(["-c", "echo started; exec sleep 1000"]);
    let holder = Running::start(&mut command);
    holder.expect_stdout("started\n", PATIENCE);
    holder
}

/// A run that holds the first of `keys` and waits for the second, which somebody else has: it, and its session.
#[track_caller]
fn hold_one_and_wait(agent: &Agent, flags: &[&str], keys: &[String]) -> (Running, String) {
    let mut command = consul_lock_on(agent);
    let waiter = Running::start(command.arg("run").args(flags).args(keys).args(["-c", "echo ran; exec sleep 1000"]));
    let session = eventually("it waits for the second", PATIENCE, || line(agent, &keys[1]).pop());
    assert_eq!(agent.holder(&keys[0]).as_ref(), Some(&session));
    (waiter, session)
}

#[track_caller]
fn expect_lost(mut run: Running, message: &str) -> Ended {
    let ended = run.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert!(ended.stderr.contains(message), "{message:?} in {}", ended.stderr);
    assert_eq!(run.survivors(), []);
    ended
}

#[test]
fn losing_one_ends_the_command_and_gives_the_others_back() {
    let agent = Agent::plain();
    let keys @ [a, b, c] = &keys();
    let all = format!("{a}, {b} and {c}");

    // Removed: there is no lock delay, so that nobody has to wait.
    let run = hold_all(&agent, &[], keys);
    agent.ask("DELETE", &format!("/v1/kv/{b}"), b"", PATIENCE).expect("it is deleted");
    expect_lost(run, &format!("lost {all}, seen at {b}: the key was removed by somebody"));
    agent.expect_nothing_left();

    // Taken, by somebody who does not ask.
    let run = hold_all(&agent, &["--log-format=json"], keys);
    let session = agent.holder(c).expect("it is held");
    let thief = agent.create_session(&json!({}));
    assert!(agent.release(c, &session));
    eventually("it is taken", PATIENCE, || agent.acquire(c, &thief, "").then_some(()));
    let ended = expect_lost(run, "\"lost\"");
    let events: Vec<Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let lost = events.iter().find(|event| event["event"] == "lost").expect("it is told");
    assert_eq!((&lost["key"], &lost["keys"]), (&json!(c), &json!(keys)));
    assert_eq!((agent.keys(""), agent.holder(c)), (vec![c.clone()], Some(thief.clone())));
    assert!(agent.release(c, &thief));

    // With the session all are lost.
    let run = hold_all(&agent, &SHORT, keys);
    agent.destroy_session(&agent.holder(a).expect("it is held"));
    expect_lost(run, "its session has ended");
    assert_eq!(run_on(&agent, &["run", "-n", a, b, c, "--", "true"]).code(), Some(75), "under the lock delay");
    let ended = run_on(&agent, &["run", a, b, c, "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
    assert_eq!(agent.keys(""), [] as [&str; 0]);
}

#[test]
fn losing_a_key_while_waiting_for_the_next_starts_again() {
    let agent = Agent::plain();
    let keys @ [a, b] = &keys();
    let mut holder = hold(&agent, &[], b);

    // The key alone.
    let (mut waiter, first) = hold_one_and_wait(&agent, &SHORT, keys);
    agent.ask("DELETE", &format!("/v1/kv/{a}"), b"", PATIENCE).expect("it is deleted");
    waiter.expect_stderr(&format!("lost {a} while waiting for the rest of {a} and {b}"), PATIENCE);
    let again = |before: &str| {
        eventually("it waits again, under another session", PATIENCE, || {
            let second = line(&agent, b).pop().filter(|second| second != before)?;
            (agent.holder(a).as_ref() == Some(&second)).then_some(second)
        })
    };
    let second = again(&first);

    // The session, and with it all.
    agent.destroy_session(&second);
    eventually("it is told", PATIENCE, || (waiter.stderr().matches("starting again").count() == 2).then_some(()));
    again(&second);
    assert_eq!(waiter.stdout(), "");
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    waiter.expect_stdout("ran", PATIENCE);
    waiter.signal(Signal::SIGTERM);
    assert_eq!(waiter.wait(PATIENCE).signal(), Some(15));
    agent.expect_nothing_left();
}

#[test]
fn an_interrupt_while_some_are_held_leaves_nothing() {
    let agent = Agent::plain();
    let keys @ [_, b] = &keys();
    let holder = hold(&agent, &[], b);
    let before = agent.sessions().len();
    let (mut waiter, _) = hold_one_and_wait(&agent, &[], keys);
    waiter.signal(Signal::SIGINT);
    let ended = waiter.wait(PATIENCE);
    assert_eq!((ended.signal(), ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
    assert_eq!((agent.keys(""), agent.sessions().len()), (vec![b.clone()], before));
    drop(holder);
}

#[test]
fn a_key_that_an_outer_run_holds_is_refused_wherever_it_is_among_the_others() {
    let agent = Agent::plain();
    let [a, b, c] = &keys();
    // The first is held by a stranger, which would be waited for.
    let _stranger = hold(&agent, &[], a);
    for (flags, wanted) in [("-n", [a, c]), ("-v", [a, c]), ("-v", [b, c])] {
        let mut command = consul_lock_on(&agent);
        let binary = command.get_program().to_owned();
        command.args(["run", "--log-format=json", c, "--"]).arg(binary).args(["run", flags]).args(wanted);
        let ended = Running::start(command.args(["-c", "echo ran"])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("the run or the script that started this one holds the same lock"),
            "{}",
            ended.stderr
        );
        assert_eq!((agent.keys(""), agent.sessions().len()), (vec![a.clone()], 1));
    }
}

#[test]
fn a_given_session_holds_several_and_lives_on() {
    let agent = Agent::plain();
    let [a, b, c] = &keys();
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let first = hold_all(&agent, &["--session", &given], &[a.clone(), b.clone()]);
    assert!([a, b].iter().all(|key| agent.holder(key).as_ref() == Some(&given)));
    for flags in [&["-n"][..], &[]] {
        let ended = run_on(&agent, &[&["run"], flags, &["--session", &given, b, c, "-c", "echo ran"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("{b} is held by another run of session {given}")), "{}", ended.stderr);
    }
    // Behind somebody else's, in order, with entries in line under a session of its own.
    let second = Running::start(consul_lock_on(&agent).args(["run", a, b, c, "-c", "echo ran; exec sleep 1000"]));
    second.expect_stderr(&format!("waiting for {a}"), PATIENCE);
    drop_politely(first);
    second.expect_stdout("ran", PATIENCE);
    let mut third = consul_lock_on(&agent);
    let mut third = Running::start(third.args(["run", "--session", &given, a, c, "-c", "echo ran"]));
    third.expect_stderr(&format!("waiting for {a}"), PATIENCE);
    drop_politely(second);
    let ended = third.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
    assert_eq!((agent.keys("").len(), agent.sessions().len()), (0, 1));
}

#[track_caller]
fn drop_politely(mut run: Running) {
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait(PATIENCE).signal(), Some(15));
}

#[test]
fn answers_that_are_late_or_lost_are_proven_before_the_command_runs() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let keys = &keys::<3>();
    let only_reads = || Rule::new(Fault::None).prefix("/v1/txn?consistent");
    let txn = |fault| vec![only_reads(), Rule::new(fault).prefix("/v1/txn").times(1)];
    let late = Duration::from_millis(1200);
    for fault in [Fault::LoseReply, Fault::CloseUnanswered, Fault::DelayReply(late), Fault::Status(500, "no".into())] {
        let before = proxy.requests().len();
        proxy.rules(txn(fault.clone()));
        let ended = Running::start(consul_lock_at(&proxy.addr()).arg("run").args(keys).args(["-c", "echo ran"]));
        let ended = { ended }.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{fault:?}: {}", ended.stderr);
        let bodies: Vec<_> = proxy.requests().split_off(before).into_iter().map(|seen| seen.body).collect();
        // Repeated under the session that has them, which Consul refuses while a lock delay runs.
        let proofs = bodies.iter().filter(|body| body.contains("check-session") && body.contains("\"lock\"")).count();
        assert_eq!(proofs, 1, "{fault:?}: {bodies:#?}");
        agent.expect_nothing_left();
    }

    // Somebody takes one of them while nobody knows what became of the request: it is repeated under no session that
    // could have it yet.
    let before = proxy.requests().len();
    proxy.rules(vec![Rule::new(Fault::CloseUnanswered).prefix("/v1/txn")]);
    let mut run = Running::start(consul_lock_at(&proxy.addr()).args(["run", "-v"]).args(keys).args(["-c", "echo ran"]));
    let asked = |path: &str| proxy.requests()[before..].iter().filter(|seen| seen.target.starts_with(path)).count();
    eventually("it has asked twice", PATIENCE, || (asked("/v1/txn") >= 2).then_some(()));
    let holder = hold(&agent, &[], &keys[1]);
    let first = agent.sessions().iter().map(|session| session["ID"].clone()).collect::<Vec<_>>();
    proxy.rules(Vec::new());
    let session = eventually("it waits in line", PATIENCE, || line(&agent, &keys[1]).pop());
    assert!(!first.contains(&json!(session)), "{first:?}");
    assert_eq!((agent.holder(&keys[0]).as_ref(), agent.holder(&keys[2])), (Some(&session), None));
    drop_politely(holder);
    assert_eq!(run.wait(PATIENCE).code(), Some(0));
    agent.expect_nothing_left();
}

#[test]
fn a_program_locks_several_keys_by_the_library() {
    let agent = Agent::plain();
    let [a, b, c]: [Key; 3] = keys().map(|key| key.parse().expect("a fit key"));
    let settings = Settings { http_addr: Some(agent.http_addr()), ..Settings::default() };
    let client = Client::new(settings.resolve(&|_| None).expect("a fit address")).expect("a fit address");
    let options = LockOptions { more_keys: vec![c.clone(), a.clone(), b.clone()], ..LockOptions::new(b.clone()) };
    let mut lock = client.lock_opts(options.clone());
    let lost = lock.lock(&Stop::new()).expect("free keys");
    let claims = lock.holding().expect("it is held").claims();
    assert_eq!(claims.iter().map(|claim| claim.key().clone()).collect::<Vec<_>>(), [a.clone(), b.clone(), c.clone()]);
    assert!(claims.iter().all(|claim| claim.fence() > 0 && claim.lock_index() == 1));
    let once = LockOptions { lock_try_once: true, lock_wait_time: Duration::ZERO, ..options };
    let error = client.lock_opts(once).lock(&Stop::new()).expect_err("they are held");
    assert!(matches!(&error, Error::SeveralHeld(held) if held.len() == 3), "{error}");
    agent.ask("DELETE", &format!("/v1/kv/{b}"), b"", PATIENCE).expect("it is deleted");
    assert_eq!(lost.recv_timeout(PATIENCE), Ok(Loss::Removed));
    assert!(matches!(lock.unlock(), Err(Error::LostBefore(_))));
    agent.expect_nothing_left();

    let many = (0..33).map(|number| format!("{a}/{number}").parse().expect("a fit key")).collect();
    let error = client.lock_opts(LockOptions { more_keys: many, ..LockOptions::new(a) }).lock(&Stop::new());
    assert!(matches!(error.expect_err("too many"), Error::TooManyKeys(34)));
}
