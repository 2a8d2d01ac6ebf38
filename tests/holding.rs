//! A lock that is held: how it is confirmed, and what becomes of the command when it is lost.

mod support;

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::agent::{Agent, Options};
use support::hold::{diary, endless, hold, now};
use support::proxy::{Fault, Proxy, Rule};
use support::running::Running;
use support::{eventually, unique_key};

const SOON: Duration = Duration::from_secs(15);

/// The session that holds the key.
#[track_caller]
fn holder(agent: &Agent, key: &str) -> String {
    agent.holder(key).expect("the key is held")
}

/// Waits until the run has begun to watch the key, which it does a moment after the command's start.
fn until_watched(proxy: &Proxy) {
    eventually("the key is watched", SOON, || {
        proxy.requests().iter().any(|seen| seen.method == "GET" && seen.target.contains("wait=")).then_some(())
    });
}

#[test]
fn a_held_lock_is_confirmed_watched_and_renewed_at_a_steady_pace_and_outlives_its_ttl() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("pace");
    // Consul ends a session of 10 s after 20 s without a renewal.
    let mut run = hold(&proxy.addr(), &["--ttl", "10s"], &key, "echo started; sleep 23; echo complete");
    let session = holder(&agent, &key);
    let begin = proxy.requests().len();
    thread::sleep(Duration::from_secs(21));
    let requests = proxy.requests().split_off(begin);
    assert_eq!(holder(&agent, &key), session);
    let end = run.wait(SOON);
    assert_eq!((end.code(), end.stderr.as_str()), (Some(0), ""));

    let of = |method: &str, prefix: &str| -> Vec<_> {
        let matches = |seen: &&support::proxy::Seen| seen.method == method && seen.target.starts_with(prefix);
        requests.iter().filter(matches).collect()
    };
    let confirmations = of("PUT", "/v1/txn");
    assert!((8..=13).contains(&confirmations.len()), "every 2 s: {}", confirmations.len());
    let mut asked = HashSet::new();
    for seen in &confirmations {
        assert_eq!(seen.target, "/v1/txn?consistent");
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        assert_eq!(body[0]["KV"], json!({ "Verb": "check-session", "Key": key, "Session": session }));
        assert_eq!(body[1]["KV"]["Verb"], "get");
        assert!(asked.insert(body[1]["KV"]["Key"].to_string()), "asked twice: {}", seen.body);
    }
    let pauses = confirmations.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(pauses.clone().all(|pause| pause < Duration::from_secs(4)), "{:?}", pauses.collect::<Vec<_>>());

    let watches = of("GET", "/v1/kv/");
    assert!((3..=6).contains(&watches.len()), "every 5 s: {}", watches.len());
    for seen in &watches {
        assert!(seen.target.starts_with(&format!("/v1/kv/{key}?consistent&index=")), "{}", seen.target);
        assert!(seen.target.ends_with("&wait=5s"), "{}", seen.target);
    }
    let renewals = of("PUT", "/v1/session/renew/");
    assert!((5..=8).contains(&renewals.len()), "every 3.3 s: {}", renewals.len());
    assert_eq!(requests.len(), confirmations.len() + watches.len() + renewals.len(), "nothing else is asked");
    println!("idle: {:.2} requests/s", requests.len() as f64 / 21.0);
}

#[test]
fn when_the_session_is_destroyed_an_obedient_command_gets_sigterm_at_once() {
    let agent = Agent::plain();
    let key = unique_key("destroyed");
    let mut run = hold(&agent.http_addr(), &["-q"], &key, &endless(true));
    let at = now();
    agent.destroy_session(&holder(&agent, &key));
    let end = run.wait(SOON);
    assert_eq!(end.code(), Some(76));
    assert!(end.term_at().expect("SIGTERM came") - at < 2.0, "{end:?}");
    assert!(end.stderr.contains(&format!("lost {key}: its session has ended; ending the command")), "{end:?}");
    assert!(
        end.stderr.contains("was dead") && end.stderr.contains("before anybody else could hold the lock"),
        "{end:?}"
    );
    run.expect_no_survivors(SOON);
    assert_eq!(agent.holder(&key), None);
}

#[test]
fn a_command_that_ignores_sigterm_gets_sigkill_after_the_grace() {
    let agent = Agent::plain();
    let key = unique_key("stubborn");
    let mut run = hold(&agent.http_addr(), &["-k", "2"], &key, &endless(false));
    agent.destroy_session(&holder(&agent, &key));
    let end = run.wait(SOON);
    assert_eq!(end.code(), Some(76));
    let grace = end.last_alive() - end.term_at().expect("SIGTERM came");
    assert!((1.5..4.0).contains(&grace), "{grace} s of 2: {end:?}");
    run.expect_no_survivors(SOON);
}

#[test]
fn when_the_key_is_deleted_the_command_gets_sigkill_at_once() {
    let agent = Agent::plain();
    let key = unique_key("deleted");
    let mut run = hold(&agent.http_addr(), &["-k", "20"], &key, &endless(false));
    let at = now();
    agent.ask("DELETE", &format!("/v1/kv/{key}"), b"", SOON).expect("an answer");
    let end = run.wait(SOON);
    assert_eq!((end.code(), end.term_at()), (Some(76), None), "{end:?}");
    assert!(end.last_alive() - at < 2.0, "{end:?}");
    assert!(end.stderr.contains("the key was removed by somebody, and others may hold it already; killing"), "{end:?}");
    assert_eq!(agent.sessions(), [] as [Value; 0], "the session is ours to end");
}

#[test]
fn when_another_session_has_the_key_the_command_gets_sigkill_at_once_and_the_other_keeps_it() {
    let agent = Agent::plain();
    let key = unique_key("taken");
    let mut run = hold(&agent.http_addr(), &["-k", "20"], &key, &endless(false));
    let other = agent.create_session(&json!({}));
    let take = json!([
        { "KV": { "Verb": "delete", "Key": key } },
        { "KV": { "Verb": "lock", "Key": key, "Session": other, "Value": "" } },
    ]);
    let at = now();
    agent.put("/v1/txn", take.to_string());
    let end = run.wait(SOON);
    assert_eq!((end.code(), end.term_at()), (Some(76), None), "{end:?}");
    assert!(end.last_alive() - at < 2.0, "{end:?}");
    assert!(end.stderr.contains(&format!("session {other} holds it already; killing the command")), "{end:?}");
    assert!(end.stderr.contains("somebody else may have held the lock before"), "{end:?}");
    assert_eq!(holder(&agent, &key), other);
}

#[test]
fn with_behavior_delete_a_missing_key_means_a_dead_session_and_leaves_the_grace() {
    let agent = Agent::plain();
    let key = unique_key("behavior");
    let mut run = hold(&agent.http_addr(), &["--behavior", "delete"], &key, &endless(true));
    agent.destroy_session(&holder(&agent, &key));
    let end = run.wait(SOON);
    assert_eq!(end.code(), Some(76));
    assert!(end.term_at().is_some(), "{end:?}");
    assert!(end.stderr.contains("its session has ended and the key with it; ending the command"), "{end:?}");
}

#[test]
fn monitor_retries_say_how_many_confirmations_may_fail_and_the_lock_is_given_back_after() {
    let agent = Agent::plain();
    for (retries, failures) in [("0", 1), ("2", 3)] {
        let mut proxy = Proxy::start(&agent.http_addr());
        let key = unique_key("retries");
        let flags = ["--monitor-retries", retries, "--monitor-retry-time", "300ms"];
        let mut run = hold(&proxy.addr(), &flags, &key, &endless(true));
        until_watched(&proxy);
        proxy.rules(vec![Rule::new(Fault::Status(500, "rpc error".into())).prefix("/v1/txn?consistent")]);
        let end = run.wait(SOON);
        assert_eq!(end.code(), Some(76), "{end:?}");
        assert!(end.stderr.contains(&format!("more than {retries} confirmations failed in a row")), "{end:?}");
        assert!(end.term_at().is_some(), "{end:?}");
        let failed: Vec<_> = proxy.requests().into_iter().filter(|seen| seen.fault != Fault::None).collect();
        assert_eq!(failed.len(), failures);
        assert!(failed.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_millis(300)));
        assert_eq!((agent.kv(&key), agent.sessions().len()), (None, 0), "after a loss by doubt all is given back");
    }
}

#[test]
fn the_exit_code_of_a_loss_can_be_chosen() {
    let agent = Agent::plain();
    let key = unique_key("code");
    let mut run = hold(&agent.http_addr(), &["--lost-exit-code", "99"], &key, &endless(true));
    agent.destroy_session(&holder(&agent, &key));
    assert_eq!(run.wait(SOON).code(), Some(99));
}

#[test]
fn a_loss_while_only_descendants_are_left_kills_them_and_is_a_loss() {
    let agent = Agent::plain();
    let key = unique_key("background");
    let mut run = hold(&agent.http_addr(), &["--background", "wait"], &key, "sleep 600 & echo started; exit 3");
    run.expect_process("sleep", SOON);
    eventually("the command itself has ended", SOON, || (run.tree().len() == 1).then_some(()));
    assert!(run.try_wait().is_none());
    agent.destroy_session(&holder(&agent, &key));
    let end = run.wait(SOON);
    assert_eq!(end.code(), Some(76), "{end:?}");
    assert!(end.stderr.contains("its session has ended"), "{end:?}");
    run.expect_no_survivors(SOON);
}

#[test]
fn a_loss_just_before_the_end_leaves_the_commands_own_code_and_a_warning() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("just-before");
    // Whatever could tell of the loss is held up.
    let late = Fault::DelayReply(Duration::from_secs(20));
    let script = "echo started; read go; exit 3";
    let command = &mut support::consul_lock_at(&proxy.addr());
    let mut run =
        Running::start_with_stdin(command.args(["run", "-q", &key, "-c", script]), std::process::Stdio::piped());
    run.expect_stdout("started", SOON);
    until_watched(&proxy);
    proxy.rules(vec![
        Rule::new(late.clone()).prefix("/v1/txn?consistent"),
        Rule::new(late.clone()).method("GET"),
        Rule::new(late).prefix("/v1/session/renew"),
    ]);
    proxy.reset_connections();
    agent.destroy_session(&holder(&agent, &key));
    drop(run.take_stdin());
    let end = run.wait(SOON);
    assert_eq!(end.code(), Some(3), "{end:?}");
    assert!(end.stderr.contains(&format!("{key} was not ours any more when it was released")), "{end:?}");
}

/// Twenty losses, one after the other, measured from the request that destroys the session to the last sign of the tree.
#[test]
fn an_obedient_command_is_dead_a_moment_after_its_session_is_destroyed() {
    let agent = Agent::plain();
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let key = unique_key("reaction");
            let mut run = hold(&agent.http_addr(), &[], &key, "echo started; exec sleep 600");
            let sleep = run.expect_process("sleep", SOON).as_raw();
            let session = holder(&agent, &key);
            // Past the first confirmation, so that the watch is out.
            thread::sleep(Duration::from_millis(150));
            let begin = Instant::now();
            agent.destroy_session(&session);
            while support::is_alive(sleep) {
                assert!(begin.elapsed() < SOON);
                thread::yield_now();
            }
            let time = begin.elapsed();
            assert_eq!(run.wait(SOON).code(), Some(76));
            time
        })
        .collect();
    times.sort();
    let (median, worst) = (times[10], times[19]);
    println!("session destroyed -> command dead: median {median:?}, worst {worst:?}");
    assert!(median < Duration::from_millis(500), "{times:?}");
}

#[test]
fn a_command_that_ends_within_the_first_moment_costs_no_confirmation() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("short");
    let mut run = hold(&proxy.addr(), &[], &key, &diary(Duration::ZERO, true));
    assert_eq!(run.wait(SOON).code(), Some(0));
    let targets: Vec<_> = proxy.requests().into_iter().map(|seen| seen.target).collect();
    let writes = targets.iter().filter(|target| *target == "/v1/txn").count();
    assert_eq!((writes, targets.iter().filter(|target| target.starts_with("/v1/session/")).count()), (2, 2));
}

#[test]
fn a_token_with_the_least_rules_is_enough_to_confirm_the_lock() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let key = unique_key("acl");
    let rules = format!("session_prefix \"\" {{ policy = \"write\" }} key \"{key}\" {{ policy = \"write\" }}");
    let token = agent.token_with(&format!("{rules} key_prefix \"{key}/.read/\" {{ policy = \"read\" }}"));
    let command = &mut support::consul_lock_on(&agent);
    let command = command.env("CONSUL_HTTP_TOKEN", token).args(["run", "--lock-delay", "8s", "-k", "2", &key, "-c"]);
    let end = Running::start(command.arg(diary(Duration::from_secs(9), true))).wait(SOON * 2);
    assert_eq!((end.code(), end.term_at(), end.stderr.as_str()), (Some(0), None, ""), "{end:?}");
}
