//! `renew` and `release`: what another process does with a lock, and what it hears of one that is lost.

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::agent::{Agent, LOCK_FLAGS, Options, PATIENCE};
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::shell::script;
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

const NOBODYS: &str = "00000000-1111-2222-3333-444444444444";

/// A lease on `key`: its session.
#[track_caller]
fn acquire(agent: &Agent, flags: &[&str], key: &str) -> String {
    let ended = run_on(agent, &[&["acquire", "--ttl=60s"], flags, &[key]].concat());
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    ended.stdout.trim_end().to_owned()
}

#[track_caller]
fn at(addr: &str, command: &str, flags: &[&str], key: &str, session: &str) -> Ended {
    let mut running = Running::start(consul_lock_at(addr).arg(command).args(flags).args([key, "--session", session]));
    running.wait(PATIENCE)
}

/// Asserts that both halves exit with 76 and say why.
#[track_caller]
fn expect_lost(agent: &Agent, key: &str, session: &str, why: &str) {
    for command in ["renew", "release"] {
        let ended = at(&agent.http_addr(), command, &[], key, session);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(76), ""), "{command}: {}", ended.stderr);
        let message = format!("{key} is not held by session {session}: {why}");
        assert!(ended.stderr.contains(&message), "{command}: {}", ended.stderr);
    }
}

#[test]
fn a_lock_that_is_lost_in_any_way_is_76() {
    let agent = Agent::plain();
    let key = unique_key("lost");
    expect_lost(&agent, &key, NOBODYS, "nobody has it");
    // Released twice.
    let session = acquire(&agent, &[], &key);
    for expected in [0, 76] {
        assert_eq!(at(&agent.http_addr(), "release", &[], &key, &session).code(), Some(expected));
    }
    expect_lost(&agent, &key, &session, "nobody has it");
    // Removed by somebody.
    let session = acquire(&agent, &[], &key);
    agent.ask("DELETE", &format!("/v1/kv/{key}"), b"", PATIENCE).expect("an answer");
    expect_lost(&agent, &key, &session, "nobody has it");
    // Taken over by a session that has it by now, and is left alone.
    let other = agent.create_session(&json!({ "TTL": "60s" }));
    assert!(agent.acquire_as_go(&key, &other, ""));
    expect_lost(&agent, &key, &session, &format!("session {other} has it now"));
    assert_eq!(agent.holder(&key), Some(other.clone()));
    assert!(agent.release(&key, &other));
    // Evicted: the session is gone, and a lock delay runs.
    let key = unique_key("evicted");
    let session = acquire(&agent, &[], &key);
    agent.destroy_session(&session);
    expect_lost(&agent, &key, &session, "nobody has it; it was released, or the session has ended");
    let refused = run_on(&agent, &["acquire", "-n", "--ttl=10s", &key]);
    assert!(refused.code() == Some(75) && refused.stderr.contains("lock delay"), "{}", refused.stderr);
}

/// How a lock is acquired, and how released; what the value of a key that stays contains; whether the session stays.
type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>, bool);

#[test]
fn a_release_leaves_what_was_asked_for_and_a_lock_that_others_can_take_at_once() {
    let agent = Agent::plain();
    let key = unique_key("left");
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let cases: [Case; 7] = [
        (&[], &[], None, false),
        (&["--keep-key"], &[], Some("released_at"), false),
        (&[], &["--keep-key"], Some("released_at"), false),
        (&["--value=a 'b'"], &["--keep-key"], Some("a 'b'"), false),
        (&["--value=a 'b'"], &[], None, false),
        // Only its name says whose session it is, under a value of the user's own.
        (&["--value=a 'b'", "--session-name=theirs"], &[], None, true),
        (&["--session", &given, "--keep-key"], &[], Some("released_at"), true),
    ];
    for (acquiring, releasing, left, has_session) in cases {
        let session = if acquiring.contains(&"--session") {
            let ended = run_on(&agent, &[&["acquire"], acquiring, &[&key]].concat());
            ended.stdout.trim_end().to_owned()
        } else {
            acquire(&agent, acquiring, &key)
        };
        let ended = at(&agent.http_addr(), "release", &[releasing, &["-v"]].concat(), &key, &session);
        assert_eq!((ended.code(), ended.stderr.trim_end()), (Some(0), format!("consul-lock: released {key}").as_str()));
        let entry = agent.kv(&key);
        assert_eq!(entry.is_some(), left.is_some(), "{acquiring:?}");
        if let (Some(entry), Some(left)) = (entry, left) {
            let value = STANDARD.decode(entry["Value"].as_str().expect("a value")).expect("base64");
            assert!(String::from_utf8_lossy(&value).contains(left), "{acquiring:?}");
            assert_eq!((entry["Flags"].as_u64(), entry["Session"].as_str()), (Some(LOCK_FLAGS), None));
        }
        let sessions = agent.sessions();
        assert_eq!(sessions.iter().any(|one| one["ID"] == *session), has_session, "{acquiring:?}");
        assert_eq!(run_on(&agent, &["run", "-n", &key, "--", "true"]).code(), Some(0), "{acquiring:?}");
        assert_eq!(agent.keys("").len(), 0);
    }
}

#[test]
fn several_keys_are_acquired_renewed_and_released_together() {
    let agent = Agent::plain();
    let key = unique_key("several");
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{key}/{name}"));
    for kind in ["--ttl 60s", "--ttl 60s --value x", "--hold --pid $$"] {
        let text = format!(
            "set -e; lock=$(consul-lock acquire --export {kind} {b} {a} {c} {a}); eval \"$lock\"
             printf '%s\\n' \"$CONSUL_LOCK_KEY\" \"$CONSUL_LOCK_FENCE\" held; read line; consul-lock renew
             consul-lock release {c} {b} {a}"
        );
        let mut running = Running::start_with_stdin(&mut script(&agent, "dash", &text), std::process::Stdio::piped());
        running.expect_stdout("held\n", PATIENCE);
        let session = agent.holder(&a).expect("it is held");
        let fences = [&a, &b, &c].map(|key| agent.kv(key).expect("it is held")["ModifyIndex"].to_string());
        assert_eq!(
            running.stdout(),
            [&a, &b, &c, &fences[0], &fences[1], &fences[2], "held"].map(|line| format!("{line}\n")).concat()
        );
        if !kind.contains("value") {
            // A part of it is no lock.
            let refused = at(&agent.http_addr(), "release", &[&b], &a, &session);
            assert!(refused.code() == Some(64) && refused.stderr.contains("3 keys in all"), "{}", refused.stderr);
            assert_eq!(agent.holder(&b).as_deref(), Some(session.as_str()));
        }
        std::io::Write::write_all(&mut running.take_stdin().expect("a pipe"), b"\n").expect("the script reads");
        let ended = running.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
        running.expect_no_survivors(PATIENCE);
        agent.expect_nothing_left();
    }
    // What is left of a lock that has lost a key is given back, and the loss told.
    let session = acquire(&agent, &[&a, &b], &c);
    agent.ask("DELETE", &format!("/v1/kv/{b}"), b"", PATIENCE).expect("an answer");
    for (command, left) in [("renew", 2), ("release", 0)] {
        let ended = at(&agent.http_addr(), command, &[&a, &b], &c, &session);
        assert_eq!(ended.code(), Some(76), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("{b} is not held by session {session}")), "{}", ended.stderr);
        assert_eq!(agent.keys("").len(), left, "{command}");
    }
    agent.expect_nothing_left();
}

#[test]
fn slots_and_readers_places_are_found_again() {
    let agent = Agent::plain();
    let key = unique_key("shared");
    for (kind, expected) in [("--limit 2", ["1", "2"]), ("--shared", ["none", "none"])] {
        let mut slots = Vec::new();
        let mut holders: Vec<_> = (["--ttl 60s", "--hold --pid $$"].iter())
            .map(|form| {
                let text = format!(
                    "set -e; lock=$(consul-lock acquire --export {form} {kind} {key}); eval \"$lock\"
                     echo \"slot ${{CONSUL_LOCK_SLOT:-none}}\"; read line; consul-lock renew; consul-lock release"
                );
                let mut command = script(&agent, "dash", &text);
                let holder = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
                holder.expect_stdout("\n", PATIENCE);
                slots.push(holder.stdout().trim_end().trim_start_matches("slot ").to_owned());
                holder
            })
            .collect();
        slots.sort();
        assert_eq!(slots, expected, "{kind}");
        assert_eq!((agent.sessions().len(), agent.keys(&key).len()), (2, 2));
        let refused = run_on(&agent, &["acquire", "-n", "--ttl=10s", &key]);
        assert_eq!(refused.code(), Some(75), "{}", refused.stderr);
        for holder in &mut holders {
            std::io::Write::write_all(&mut holder.take_stdin().expect("a pipe"), b"\n").expect("the script reads");
            let ended = holder.wait(PATIENCE);
            assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{kind}");
            holder.expect_no_survivors(PATIENCE);
        }
        agent.expect_nothing_left();
    }
}

#[test]
fn a_lock_that_somebody_keeps_himself_is_not_released_for_him() {
    let agent = Agent::plain();
    let key = unique_key("attached");
    let holder = hold(&agent, &[], &key);
    let session = agent.holder(&key).expect("it is held");
    let refused = at(&agent.http_addr(), "release", &[], &key, &session);
    assert_eq!(refused.code(), Some(64));
    assert!(
        refused.stderr.contains("which gives it back itself") && refused.stderr.contains("evict"),
        "{}",
        refused.stderr
    );
    assert_eq!(at(&agent.http_addr(), "renew", &[], &key, &session).code(), Some(0));
    assert_eq!(agent.holder(&key), Some(session));
    drop(holder);

    // A Go program's lock has no record; whoever names its session means it, and the session is the program's.
    let key = unique_key("go");
    let theirs = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "1s" }));
    assert!(agent.acquire_as_go(&key, &theirs, ""));
    for command in ["renew", "release"] {
        let ended = at(&agent.http_addr(), command, &[], &key, &theirs);
        assert_eq!(ended.code(), Some(0), "{command}: {}", ended.stderr);
    }
    assert!(agent.kv(&key).is_none() && agent.sessions().iter().any(|one| one["ID"] == *theirs));
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_none_at_all_is_69() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let faults = [Fault::LoseReply, Fault::CloseUnanswered, Fault::Status(500, "No cluster leader".into())];
    for fault in faults {
        let key = unique_key("faults");
        let session = acquire(&agent, &["--keep-key"], &key);
        for (command, prefix) in [
            ("renew", "/v1/session/renew"),
            ("renew", "/v1/kv/"),
            ("renew", "/v1/session/info"),
            ("release", "/v1/txn"),
        ] {
            proxy.rules(vec![Rule::new(fault.clone()).prefix(prefix).times(1)]);
            let ended = at(&proxy.addr(), command, &[], &key, &session);
            assert_eq!(ended.code(), Some(0), "{command} {prefix} {fault:?}: {}", ended.stderr);
            assert!(ended.stderr.contains("trying again"), "{command} {prefix} {fault:?}: {}", ended.stderr);
        }
        assert_eq!(agent.holder(&key), None);
    }
    // A deposed leader says that the session is gone, of one that lives.
    let key = unique_key("deposed");
    let session = acquire(&agent, &[], &key);
    let gone = Fault::Status(404, format!("Session id '{session}' not found"));
    proxy.rules(vec![Rule::new(gone).prefix("/v1/session/renew").times(1)]);
    let ended = at(&proxy.addr(), "renew", &[], &key, &session);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));

    proxy.set(Fault::Refuse);
    for (command, retry_for) in [("renew", "--retry-for=0"), ("release", "--retry-for=200ms")] {
        let ended = at(&proxy.addr(), command, &[retry_for], &key, &session);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(69), ""), "{}", ended.stderr);
    }
    let mut exporting = consul_lock_at(&proxy.addr());
    exporting.args(["renew", "--export", "--retry-for=0", &key, "--session", &session]);
    assert_eq!(Running::start(&mut exporting).wait(PATIENCE).stdout, "(exit 69)\n");
    assert_eq!(agent.holder(&key), Some(session));
}

/// Its answer was lost, and before it is repeated another run of the same session has the lock.
#[test]
fn a_repeated_release_does_not_give_back_what_another_run_of_the_session_has_since() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let key = unique_key("repeated");
    let session = acquire(&agent, &["--session", &given], &key);
    proxy.rules(vec![
        Rule::new(Fault::LoseReply).prefix("/v1/txn").times(1),
        // The first shows the key as it is; the second comes after the answer was lost.
        Rule::new(Fault::None).prefix("/v1/kv/").times(1),
        Rule::new(Fault::Delay(Duration::from_secs(2))).prefix("/v1/kv/").times(1),
    ]);
    let mut command = consul_lock_at(&proxy.addr());
    let mut releasing = Running::start(command.args(["release", &key, "--session", &session]));
    eventually("it is given back", PATIENCE, || agent.holder(&key).is_none().then_some(()));
    let mut second = hold(&agent, &["--session", &given], &key);
    let released = releasing.wait(PATIENCE);
    assert_eq!(released.code(), Some(0), "{}", released.stderr);
    assert_eq!(agent.holder(&key).as_deref(), Some(given.as_str()));
    assert_eq!(second.try_wait(), None);
}

#[test]
fn a_refusal_that_nothing_explains_is_not_asked_for_again_and_again() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("refused");
    let session = acquire(&agent, &[], &key);
    let what = "something that no Consul of today says";
    let refusal = json!({ "Results": null, "Errors": [{ "OpIndex": 0, "What": what }] }).to_string();
    proxy.rules(vec![Rule::new(Fault::Status(409, refusal)).prefix("/v1/txn").times(20)]);
    let ended = at(&proxy.addr(), "release", &[], &key, &session);
    assert_eq!(ended.code(), Some(70), "{}", ended.stderr);
    assert!(ended.stderr.contains(what), "{}", ended.stderr);
    assert_eq!(agent.holder(&key), Some(session));
}

#[test]
fn what_a_token_may_not_do_is_77_with_the_rule() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let key = unique_key("denied");
    let full =
        agent.token_with("key_prefix \"test/\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }");
    let mut command = consul_lock_on(&agent);
    let mut acquiring = Running::start(command.env("CONSUL_HTTP_TOKEN", &full).args(["acquire", "--ttl=60s", &key]));
    let session = acquiring.wait(PATIENCE).stdout.trim_end().to_owned();
    let cases = [
        ("renew", "key_prefix \"test/\" { policy = \"write\" }", "session_prefix \"\" { policy = \"write\" }"),
        ("renew", "session_prefix \"\" { policy = \"write\" }", "policy = \"write\""),
        ("release", "session_prefix \"\" { policy = \"write\" }", "policy = \"write\""),
        ("release", "key_prefix \"test/\" { policy = \"read\" }", &format!("key \"{key}\" {{ policy = \"write\" }}")),
    ];
    for (subcommand, rules, needed) in cases {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", agent.token_with(rules)).args([subcommand, &key, "--session", &session]);
        let ended = Running::start(&mut command).wait(PATIENCE);
        assert_eq!(ended.code(), Some(77), "{subcommand} {rules}: {}", ended.stderr);
        assert!(ended.stderr.contains("denied") && ended.stderr.contains(needed), "{rules}: {}", ended.stderr);
        assert_eq!(agent.holder(&key).as_deref(), Some(session.as_str()));
    }
    let mut command = consul_lock_on(&agent);
    command.env("CONSUL_HTTP_TOKEN", &full).args(["release", &key, "--session", &session]);
    assert_eq!(Running::start(&mut command).wait(Duration::from_secs(30)).code(), Some(0));
    agent.expect_nothing_left();
}
