//! `consul-lock evict`: takes a lock from its holder by ending its session.

mod support;

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use support::agent::{Agent, PATIENCE};
use support::line::waiter;
use support::pty::Pty;
use support::running::Running;
use support::{consul_lock, eventually, hold, run_on, unique_key};

#[test]
fn the_holder_is_ended_and_the_next_one_waits_for_the_lock_delay() {
    let agent = Agent::plain();
    let key = unique_key("evict");
    let nobody = run_on(&agent, &["evict", "--yes", &key]);
    assert_eq!(nobody.code(), Some(0));
    assert!(nobody.stderr.contains(&format!("{key} is free: there is nobody to evict")), "{}", nobody.stderr);

    let mut holder = hold(&agent, &["--lock-delay", "3s", "-k", "500ms"], &key);
    let (mut next, next_session) = waiter(&agent, &[], &key, "echo mine; exec sleep 1000");
    // Without a terminal nobody is asked, and without --yes nobody is evicted.
    let unasked = run_on(&agent, &["evict", &key]);
    assert_eq!(unasked.code(), Some(64));
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    // Nor is a session that holds nothing, though it is in line.
    let other = run_on(&agent, &["evict", "--yes", "--session", &next_session, &key]);
    assert_eq!(other.code(), Some(75), "{}", other.stderr);
    assert!(
        other
            .stderr
            .contains(&format!("session {next_session} does not hold {key}: by now sh (pid {} of ", holder.pid()))
    );
    assert_eq!(run_on(&agent, &["evict", "--yes", "--session", "nonsense", &key]).code(), Some(64));
    assert!(holder.try_wait().is_none());

    let session = agent.holder(&key).expect("it is held");
    let evicted_at = SystemTime::now();
    let evicted = run_on(&agent, &["evict", "--yes", "--session", &session, &key]);
    assert_eq!((evicted.code(), evicted.stdout.as_str()), (Some(0), ""), "{}", evicted.stderr);
    let told = format!("session {session} was evicted from {key}; nobody can have it for the lock delay of 3 s");
    assert!(evicted.stderr.contains(&told), "{}", evicted.stderr);
    let lost = holder.wait(PATIENCE);
    assert_eq!(lost.code(), Some(76), "{}", lost.stderr);
    // The delay protects the next holder: it has not started while the first one could still have been at work.
    assert!(next.try_wait().is_none() && agent.holder(&key).is_none());
    next.expect_stdout("mine\n", PATIENCE);
    // It has had the lock since then, however long it waited before.
    let held: Value = serde_json::from_str(&run_on(&agent, &["status", "--json", &key]).stdout).expect("JSON");
    let since =
        held["holders"][0]["since"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok()).expect("a time");
    assert!(since >= evicted_at + Duration::from_secs(2), "{held}");
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(PATIENCE).signal(), Some(15));
    agent.expect_nothing_left();
    // The same session again: it is gone, and whoever came later is not touched.
    let later = hold(&agent, &[], &key);
    let again = run_on(&agent, &["evict", "--yes", "--session", &session, &key]);
    assert_eq!(again.code(), Some(75), "{}", again.stderr);
    assert!(agent.holder(&key).is_some());
    drop(later);
}

#[test]
fn of_several_holders_one_is_chosen_by_its_session() {
    let agent = Agent::plain();
    let key = unique_key("several");
    let [one, other] = [(); 2].map(|()| agent.create_session(&json!({ "Name": "reader" })));
    for session in [&one, &other] {
        assert!(agent.acquire_as_go(&format!("{key}/.read/{session}"), session, ""));
    }
    let which = run_on(&agent, &["evict", "--yes", &key]);
    assert_eq!(which.code(), Some(64));
    assert!(which.stderr.contains(&one) && which.stderr.contains(&other), "{}", which.stderr);
    assert_eq!(run_on(&agent, &["evict", "-q", "--yes", "--session", &other, &key]).code(), Some(0));
    let left: Vec<_> = agent.sessions().iter().map(|session| session["ID"].clone()).collect();
    assert_eq!(left, [json!(one)]);
    let local = Running::start(consul_lock().args(["evict", "--local", "--yes", "k"])).wait(PATIENCE);
    assert_eq!(local.code(), Some(64));
    assert!(local.stderr.contains("evict has no meaning with --local"), "{}", local.stderr);
}

#[test]
fn a_terminal_is_asked_and_only_a_yes_is_one() {
    let agent = Agent::plain();
    let key = unique_key("ask");
    let holder = hold(&agent, &["--lock-delay", "7s", "--no-checks"], &key);
    let binary = assert_cmd::cargo::cargo_bin!("consul-lock").display().to_string();
    let mut bash = Pty::bash();
    let mut ask = |answer: &dyn Fn(&mut Pty)| {
        bash.send(format!("CONSUL_HTTP_ADDR={} {binary} evict {key}\n", agent.http_addr()));
        bash.expect(&format!("  holder   sh (pid {} of ", holder.pid()), PATIENCE);
        bash.expect("loses", PATIENCE);
        bash.expect("? [y/N] ", PATIENCE);
        answer(&mut bash);
        bash.expect("$ ", PATIENCE);
        bash.send("echo code''=$?\n");
        bash.expect("code=", PATIENCE);
        let code = bash.expect("\r\n", PATIENCE);
        bash.expect("$ ", PATIENCE);
        code
    };
    for no in ["\n", "n\n", "yep\n", "\x04"] {
        assert_eq!(ask(&|bash| bash.send(no)), "75", "{no:?}");
    }
    assert_eq!(ask(&|bash| bash.send("\x03")), "130");
    let session = agent.holder(&key).expect("it is held still");
    assert_eq!(ask(&|bash| bash.send("y\n")), "0");
    assert!(agent.sessions().iter().all(|one| one["ID"] != json!(session)));

    // Somebody newer has it by the time of the answer: nobody is evicted.
    let key = unique_key("newer");
    let [old, new] = [(); 2].map(|()| agent.create_session(&json!({ "LockDelay": "0s" })));
    assert!(agent.acquire_as_go(&key, &old, ""));
    let mut bash = Pty::bash();
    bash.send(format!("CONSUL_HTTP_ADDR={} {binary} evict {key}\n", agent.http_addr()));
    bash.expect("? [y/N] ", PATIENCE);
    assert!(agent.release(&key, &old) && agent.acquire_as_go(&key, &new, ""));
    bash.send("y\n");
    bash.expect(&format!("session {old} does not hold"), PATIENCE);
    bash.expect("$ ", PATIENCE);
    bash.send("echo code''=$?\n");
    bash.expect("code=75", PATIENCE);
    assert_eq!(eventually("somebody has it", PATIENCE, || agent.holder(&key)), new);
}
