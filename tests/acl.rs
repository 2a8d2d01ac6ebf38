//! ACLs with default deny: which rules are needed, and what is said when one is missing. The rules that work are taken
//! from docs/acl.md.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::agent::{Agent, Options};
use support::http;
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::{consul_lock_at, consul_lock_on, unique_key};

const BOUND: Duration = Duration::from_secs(60);

fn agent() -> Agent {
    Agent::start(Options { acl: true, ..Options::default() })
}

#[track_caller]
fn run(command: &mut Command, key: &str) -> Ended {
    Running::start(command.args(["run", key, "--", "echo", "held"])).wait(BOUND)
}

fn with_token(agent: &Agent, token: &str) -> Command {
    let mut command = consul_lock_on(agent);
    command.env("CONSUL_HTTP_TOKEN", token);
    command
}

/// Expects 77 with the rule in the message, and nothing left behind.
#[track_caller]
fn expect_denied(agent: &Agent, rules: &str, key: &str, missing: &str) {
    let token = agent.token_with(rules);
    let ended = run(&mut with_token(agent, &token), key);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(77), ""), "{}", ended.stderr);
    assert!(ended.stderr.trim_end().ends_with(&format!("the token needs {missing}")), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("Consul at http://{} (CONSUL_HTTP_ADDR) denied", agent.http_addr())));
    assert!(!ended.stderr.contains(&token), "{}", ended.stderr);
    assert!(agent.sessions().is_empty() && agent.kv(key).is_none());
}

/// What a run needs that does not have to wait.
fn least_rules(key: &str) -> String {
    format!(
        "session_prefix \"\" {{ policy = \"write\" }}\nkey \"{key}\" {{ policy = \"write\" }}\n\
         key_prefix \"{key}/.read/\" {{ policy = \"read\" }}"
    )
}

#[test]
fn a_token_with_too_few_rules_is_told_which_one_is_missing() {
    let agent = agent();
    let key = unique_key("acl");
    let session_rule = "session_prefix \"\" { policy = \"write\" }";
    let key_rule = format!("key \"{key}\" {{ policy = \"write\" }}");
    expect_denied(&agent, "", &key, session_rule);
    expect_denied(&agent, &key_rule, &key, session_rule);
    expect_denied(&agent, session_rule, &key, &key_rule);
    // It may see that the lock is free, and is denied in the very transaction that would take it.
    expect_denied(&agent, &format!("{session_rule}\nkey \"{key}\" {{ policy = \"read\" }}"), &key, &key_rule);
    expect_denied(&agent, &format!("{session_rule}\nkey \"{key}/below\" {{ policy = \"write\" }}"), &key, &key_rule);
    // Nobody who cannot see the readers may take the lock from them.
    let readers_rule = format!("key_prefix \"{key}/.read/\" {{ policy = \"write\" }}");
    expect_denied(&agent, &format!("{session_rule}\n{key_rule}"), &key, &readers_rule);

    let ended = run(&mut consul_lock_on(&agent), &key);
    assert_eq!(ended.code(), Some(77), "without a token: {}", ended.stderr);
    assert!(ended.stderr.contains(session_rule), "{}", ended.stderr);
}

#[test]
fn the_rules_in_the_documentation_are_enough() {
    let page = include_str!("../docs/acl.md");
    let examples: Vec<&str> =
        page.split("```hcl\n").skip(1).map(|rest| rest.split("```").next().expect("a closed block")).collect();
    let [basic, least, node, below] = examples[..] else { panic!("{examples:?}") };
    let agent = agent();
    for rules in [basic, least, node, below] {
        let token = agent.token_with(&rules.replace("web1", &agent.node()));
        let ended = run(&mut with_token(&agent, &token), "cron/backup");
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "held\n"), "{rules}{}", ended.stderr);
        assert!(agent.sessions().is_empty() && agent.kv("cron/backup").is_none());
    }
}

#[test]
fn a_session_rule_for_another_node_is_not_enough() {
    let agent = agent();
    let key = unique_key("acl");
    let rules = format!("session \"other\" {{ policy = \"write\" }}\nkey \"{key}\" {{ policy = \"write\" }}");
    expect_denied(&agent, &rules, &key, "session_prefix \"\" { policy = \"write\" }");
}

#[test]
fn an_unknown_token_is_asked_again_for_a_moment_and_then_denied() {
    let agent = agent();
    let begun = Instant::now();
    let ended = run(&mut with_token(&agent, "00000000-1111-2222-3333-444444444444"), &unique_key("acl"));
    assert_eq!(ended.code(), Some(77), "{}", ended.stderr);
    assert!(begun.elapsed() >= Duration::from_secs(3), "after {:?}", begun.elapsed());
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("ACL not found; the token is unknown there"), "{}", ended.stderr);

    // Whoever does not want to wait does not wait for this either.
    let mut command = with_token(&agent, "00000000-1111-2222-3333-444444444444");
    let ended = Running::start(command.args(["run", "-n", &unique_key("acl"), "--", "true"])).wait(BOUND);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (Some(77), 1), "{}", ended.stderr);
}

#[test]
fn a_server_that_has_yet_to_learn_a_good_token_costs_nothing_but_a_moment() {
    let agent = agent();
    let key = unique_key("acl");
    let mut proxy = Proxy::start(&agent.http_addr());
    // As after a restart: each way of asking is denied at first.
    let unknown = || Fault::Status(403, "ACL not found".to_owned());
    proxy.rules(vec![
        Rule::new(unknown()).prefix("/v1/session/create").times(2),
        Rule::new(unknown()).prefix("/v1/kv/").times(2),
        Rule::new(unknown()).prefix("/v1/txn").times(2),
    ]);
    let mut command = consul_lock_at(&proxy.addr());
    let ended = run(command.env("CONSUL_HTTP_TOKEN", agent.root_token()), &key);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "held\n"), "{}", ended.stderr);
    let denied = proxy.requests().iter().filter(|request| request.fault == unknown()).count();
    assert_eq!(denied, 6, "{:?}", proxy.requests());
    assert!(agent.sessions().is_empty() && agent.kv(&key).is_none());
}

#[test]
fn a_waiter_with_a_token_waits_on_while_its_server_is_restarted() {
    let mut agent = Agent::start(Options { acl: true, durable: true, ..Options::default() });
    let key = unique_key("acl");
    let token = agent.token_with(&least_rules(&key));
    let holder = agent.create_session(&json!({ "NodeChecks": [] }));
    // Go's LockFlagValue; without it the key is somebody's data.
    agent.put(&format!("/v1/kv/{key}?acquire={holder}&flags={}", 0x2ddc_cbc0_58a5_0c18_u64), "");
    let mut command = with_token(&agent, &token);
    let mut running = Running::start(command.args(["run", "-vv", &key, "--", "echo", "held"]));
    running.expect_stderr("waiting for", BOUND);
    for _ in 0..4 {
        agent.restart();
        assert!(running.try_wait().is_none(), "{}", running.stderr());
    }
    assert!(agent.release(&key, &holder));
    let ended = running.wait(BOUND);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "held\n"), "{}", ended.stderr);
}

#[test]
fn a_token_that_is_revoked_while_the_command_runs_leaves_it_the_time_until_the_deadline() {
    let agent = agent();
    let key = unique_key("acl");
    let token = agent.token_with(&least_rules(&key));
    let mut command = with_token(&agent, &token);
    // Confirmed every 1.6 s; without a confirmation SIGTERM after 6.5 s.
    command.args(["run", "--log-format", "json", "--lock-delay", "8s", "-k", "1s", "--retry-for", "1s", &key]);
    let mut running = Running::start(command.args(["--", "sh", "-c", "echo begun; exec sleep 600"]));
    running.expect_stdout("begun", BOUND);

    let own =
        http::request(&agent.http_addr(), "GET", "/v1/acl/token/self", Some(&token), b"", BOUND).expect("answered");
    let own = own.json();
    let accessor = own["AccessorID"].as_str().expect("an accessor");
    let reply = agent.ask("DELETE", &format!("/v1/acl/token/{accessor}"), b"", BOUND).expect("answered");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let revoked = Instant::now();

    running.expect_stderr("\"event\":\"unconfirmed\"", BOUND);
    assert!(running.try_wait().is_none() && running.stderr().contains("ACL not found"), "{}", running.stderr());
    let ended = running.wait(BOUND);
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert!(revoked.elapsed() >= Duration::from_secs(3), "killed {:?} after it was revoked", revoked.elapsed());
    assert!(ended.stderr.contains("nothing has confirmed it for as long as it is safe"), "{}", ended.stderr);
    running.expect_no_survivors(BOUND);
    // It was dead while the lock was still ours.
    assert!(agent.holder(&key).is_some());
}
