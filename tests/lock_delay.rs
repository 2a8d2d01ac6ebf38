//! After a loss nobody starts before the lock delay is over: neither by Consul's count nor by the waiter's own, which
//! holds even where a server has forgotten the delay.

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use support::agent::{Agent, Options, PATIENCE};
use support::running::Running;
use support::{consul_lock_on, eventually, hold, unique_key};

/// Milliseconds since 1970, as `date +%s%3N` writes them.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A run that writes when its command starts and when it ends.
fn contender(agent: &Agent, flags: &[&str], key: &str) -> Running {
    let stamps = "date +%s%3N; sleep 0.02; date +%s%3N";
    Running::start(consul_lock_on(agent).arg("run").args(flags).args([key, "-c", stamps]))
}

/// Start and end of a contender's command.
fn stamps(said: &str) -> (u64, u64) {
    let stamps: Vec<u64> = said.lines().map(|line| line.parse().expect("a time")).collect();
    (stamps[0], stamps[1])
}

#[test]
fn a_lock_delay_is_waited_out_and_little_more() {
    let agent = Agent::plain();
    let key = unique_key("delay");
    let mut holder = hold(&agent, &["--lock-delay=7s"], &key);
    let mut waiter = contender(&agent, &[], &key);
    waiter.expect_stderr("waiting for", PATIENCE);
    let before = now();
    agent.destroy_session(&agent.holder(&key).unwrap());
    let after = now();
    assert_eq!(holder.wait(PATIENCE).code(), Some(76));
    waiter.expect_stderr("until its lock delay is over", PATIENCE);
    let ended = waiter.wait(PATIENCE);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let (start, _) = stamps(&ended.stdout);
    assert!(start >= before + 7000, "{} ms too early", before + 7000 - start);
    // Within a second of the end; the rest is for a slow machine.
    assert!(start <= after + 7000 + 3000, "{} ms after the end", start - after - 7000);
    agent.expect_nothing_left();
}

#[test]
fn a_newcomer_waits_for_the_delay_too_or_says_that_it_is_running() {
    let agent = Agent::plain();
    let key = unique_key("newcomer");
    let mut holder = hold(&agent, &["--lock-delay=7s"], &key);
    let before = now();
    agent.destroy_session(&agent.holder(&key).unwrap());
    assert_eq!(holder.wait(PATIENCE).code(), Some(76));
    for flag in ["-n", "-w=0.5"] {
        let ended = contender(&agent, &[flag], &key).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""));
        assert!(ended.stderr.contains("free but under its lock delay"), "{}", ended.stderr);
        assert!(agent.sessions().is_empty());
    }
    let ended = contender(&agent, &[], &key).wait(PATIENCE);
    assert!(stamps(&ended.stdout).0 >= before + 7000);
    assert_eq!(ended.stderr.lines().count(), 1, "told once: {}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn of_twenty_contenders_none_starts_before_the_delay_is_over() {
    let agent = Agent::plain();
    for _ in 0..2 {
        let key = unique_key("crowd");
        let mut holder = hold(&agent, &["--lock-delay=7s"], &key);
        let mut crowd: Vec<_> = (0..20).map(|_| contender(&agent, &[], &key)).collect();
        for contender in &crowd {
            contender.expect_stderr("waiting for", PATIENCE);
        }
        let before = now();
        agent.destroy_session(&agent.holder(&key).unwrap());
        assert_eq!(holder.wait(PATIENCE).code(), Some(76));
        let mut turns: Vec<_> = crowd
            .iter_mut()
            .map(|contender| {
                let ended = contender.wait(PATIENCE * 2);
                assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
                stamps(&ended.stdout)
            })
            .collect();
        turns.sort_unstable();
        assert!(turns[0].0 >= before + 7000, "{} ms too early", before + 7000 - turns[0].0);
        assert!(turns.is_sorted_by(|(_, end), (start, _)| end <= start), "two at a time: {turns:?}");
        agent.expect_nothing_left();
    }
}

#[test]
fn a_waiter_counts_the_delay_in_the_holders_record_whatever_consul_answers() {
    let agent = Agent::plain();
    let key = unique_key("record");
    // A holder whose record says more than its session has stands for a server that has shortened a delay.
    let holder = agent.create_session(&json!({ "LockDelay": "1s" }));
    let record = json!({
        "host": "h", "pid": 1, "user": "u", "command": "c", "acquired_at": "2026-01-01T00:00:00Z", "lock_delay": "8s",
        "run": "1", "tool": "consul-lock/0",
    });
    assert!(agent.acquire_as_go(&key, &holder, &record.to_string()));
    let mut waiter = contender(&agent, &[], &key);
    waiter.expect_stderr("held by c (pid 1 of u on h)", PATIENCE);
    let before = now();
    agent.destroy_session(&holder);
    let ended = waiter.wait(PATIENCE);
    let (start, _) = stamps(&ended.stdout);
    assert!(start >= before + 8000, "{} ms too early", before + 8000 - start);
    assert!(start <= before + 8000 + 4000, "{} ms late", start - before - 8000);
    agent.expect_nothing_left();
}

#[test]
fn a_waiter_remembers_the_delay_that_a_restarted_server_has_forgotten() {
    let mut agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("restart");
    // An older loss with a short delay: its timer, started anew with the server, ends the longer delay after it.
    let older = agent.create_session(&json!({ "LockDelay": "2s" }));
    assert!(agent.acquire_as_go(&key, &older, ""));
    agent.destroy_session(&older);
    let mut holder = eventually("the older delay is over", PATIENCE, || {
        let mut command = consul_lock_on(&agent);
        command.args(["run", "-n", "-q", "--lock-delay=20s", &key, "--", "sh", "-c", "echo started; exec sleep 1000"]);
        let running = Running::start(&mut command);
        support::eventually("it has begun or given up", PATIENCE, || {
            let over = !running.stdout().is_empty() || !support::is_alive(running.pid().as_raw());
            over.then_some(())
        });
        (!running.stdout().is_empty()).then_some(running)
    });
    let mut waiter = contender(&agent, &["--ttl=60s"], &key);
    waiter.expect_stderr("waiting for", PATIENCE);
    let before = now();
    agent.destroy_session(&agent.holder(&key).unwrap());
    assert_eq!(holder.wait(PATIENCE).code(), Some(76));
    waiter.expect_stderr("until its lock delay is over", PATIENCE);
    agent.restart();

    // Proof that the server has forgotten it: it gives the key to somebody who just asks, long before its time.
    let probe = agent.create_session(&json!({ "LockDelay": "0s" }));
    eventually("the server gives the key away", PATIENCE, || agent.acquire_as_go(&key, &probe, "").then_some(()));
    assert!(now() < before + 20_000, "the server was not early");
    assert!(agent.release(&key, &probe));
    agent.destroy_session(&probe);

    let ended = waiter.wait(PATIENCE * 2);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let (start, _) = stamps(&ended.stdout);
    assert!(start >= before + 20_000, "{} ms too early", before + 20_000 - start);
    assert!(Duration::from_millis(start - before) < Duration::from_secs(35), "far too late");
}
