//! `consul-lock status`: who holds a lock and who waits, whoever they are and whatever they have stored.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use support::agent::{Agent, LOCK_FLAGS, Options, PATIENCE, consul_binary};
use support::cluster::Cluster;
use support::line::waiter;
use support::running::Running;
use support::{consul_lock_on, eventually, run_on, unique_key};

/// `status --json`: the exit code and the object.
#[track_caller]
fn status(agent: &Agent, key: &str) -> (Option<i32>, Value) {
    let ended = run_on(agent, &["status", "--json", key]);
    let object = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(ended.stderr, "");
    (ended.code(), object)
}

/// `status` as text: the exit code and the lines.
#[track_caller]
fn lines(agent: &Agent, key: &str) -> (Option<i32>, Vec<String>) {
    let ended = run_on(agent, &["status", key]);
    assert_eq!(ended.stderr, "");
    (ended.code(), ended.stdout.lines().map(str::to_owned).collect())
}

/// The fields of the object, its holders, waiters and delay are those of the page.
#[track_caller]
fn expect_documented(held: &Value, delay: &Value) {
    let page = include_str!("../docs/json.md");
    let in_code = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let names = |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let tables = page.split("\n\n").filter(|block| block.starts_with("| field |"));
    let mut tables = tables.map(|table| {
        table.lines().skip(2).flat_map(|row| in_code(&row[..row[1..].find('|').expect("a cell") + 1])).collect()
    });
    assert_eq!(tables.next(), Some(names(held)));
    assert_eq!(tables.next(), Some(names(&held["holders"][0])));
    let paragraph = |start: &str| {
        let block = page.split("\n\n").find(|block| block.starts_with(start)).expect("a paragraph");
        in_code(block)
            .into_iter()
            .filter(|name| !["local", "--watch"].contains(&name.as_str()))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(paragraph("One who **waits**"), names(&held["queue"][0]));
    let within = &delay["last_holder"];
    assert_eq!(paragraph("A **lock delay**"), &names(delay) | &names(within));
    let info = page.lines().find(|line| line.starts_with("| `session_info`")).expect("a row");
    assert!(names(&held["holders"][0]["session_info"]).is_subset(&in_code(info).into_iter().collect()), "{info}");
}

#[test]
fn a_held_lock_is_shown_with_its_holder_its_session_and_its_line() {
    let agent = Agent::plain();
    let key = unique_key("held");
    assert_eq!(lines(&agent, &key), (Some(1), vec![format!("{key}: free")]));
    let (code, free) = status(&agent, &key);
    let fields = ["key", "held", "limit", "holders", "queue", "lock_delay", "see_also"].map(|name| free[name].clone());
    assert_eq!(code, Some(1));
    assert_eq!(Value::from(fields.to_vec()), json!([key, false, 1, [], [], null, null]));

    let mut command = consul_lock_on(&agent);
    command.args(["run", "--ttl", "20s", "--lock-delay", "10s", "--no-checks", &key]);
    let holder = Running::start(command.args(["-c", "echo $CONSUL_LOCK_FENCE $CONSUL_LOCK_SESSION; exec sleep 1000"]));
    holder.expect_stdout("\n", PATIENCE);
    let said = holder.stdout();
    let (fence, session) = said.trim().split_once(' ').expect("both");
    let (_first, first) = waiter(&agent, &[], &key, "true");
    let (_second, second) = waiter(&agent, &[], &key, "true");

    let (code, held) = status(&agent, &key);
    assert_eq!((code, &held["held"], &held["kind"]), (Some(0), &json!(true), &json!("lock")), "{held}");
    let [one] = held["holders"].as_array().expect("a list").as_slice() else { panic!("{held}") };
    assert_eq!((one["fence"].to_string().as_str(), &one["session"]), (fence, &json!(session)));
    assert_eq!((&one["pid"], &one["program"]), (&json!(holder.pid().as_raw()), &json!("sh")));
    assert_eq!((&one["client"], &one["slot"], &one["shared"]), (&json!("consul-lock"), &json!(1), &json!(false)));
    assert!(one["held_for"].as_f64().is_some_and(|time| (0.0..60.0).contains(&time)), "{one}");
    let info = json!({
        "name": format!("consul-lock {key}"), "node": agent.node(), "ttl": 20.0, "lock_delay": 10.0,
        "behavior": "release", "checks": [],
    });
    assert_eq!(one["session_info"], info);
    let queue: Vec<_> = held["queue"].as_array().expect("a list").iter().map(|one| one["session"].clone()).collect();
    assert_eq!(queue, [json!(first), json!(second)]);
    assert!(held["queue"][0]["waiting_for"].is_f64() && held["queue"][0]["program"] == "sh");

    let (code, text) = lines(&agent, &key);
    assert_eq!((code, text[0].clone()), (Some(0), format!("{key}: held")));
    let user = one["user"].as_str().expect("a name");
    let host = one["host"].as_str().expect("a name");
    assert_eq!(text[1], format!("  holder   sh (pid {} of {user} on {host})", holder.pid()));
    assert!(text[2].starts_with("  since    20") && text[2].ends_with(" s)"), "{}", text[2]);
    assert_eq!(text[3], format!("  session  {session}"));
    assert!(text.contains(&format!("  fence    {fence}, lock index 1")));
    assert!(
        text.contains(&"           TTL 20 s, lock delay 10 s, behavior release, no checks".to_owned()),
        "{text:#?}"
    );
    assert!(
        text[text.len() - 2].starts_with("  line     1. sh (pid ") && text[text.len() - 1].contains(" 2. sh (pid ")
    );

    agent.destroy_session(session);
    let (code, lost) = status(&agent, &key);
    assert_eq!(
        (code, &lost["lock_delay"]["at_most"], &lost["lock_delay"]["left"]),
        (Some(1), &json!(10.0), &json!(null))
    );
    assert_eq!(lost["lock_delay"]["last_holder"]["pid"], json!(holder.pid().as_raw()));
    expect_documented(&held, &lost["lock_delay"]);
    let (_, text) = lines(&agent, &key);
    assert!(text[1].starts_with("  delay    of 10 s at most, if it is not over: sh (pid "), "{text:#?}");
}

#[test]
fn holders_that_are_not_ours_are_shown_as_what_they_are() {
    let agent = Agent::plain();
    let session = agent.create_session(&json!({ "Name": "somebody's", "LockDelay": "0s" }));
    let plain = |key: &str, value: &str| assert!(agent.acquire(key, &session, value));

    plain("curl", "a \u{1b}[2Jvalue");
    let (code, curl) = status(&agent, "curl");
    assert_eq!((code, &curl["holders"][0]["client"]), (Some(0), &json!("other")));
    assert_eq!(curl["holders"][0]["value"], "a \u{1b}[2Jvalue");
    assert!(lines(&agent, "curl").1.contains(&"  value    \"a  [2Jvalue\"".to_owned()));
    assert!(agent.acquire_as_go("go", &session, ""));
    assert_eq!(status(&agent, "go").1["holders"][0]["client"], "Go client");
    assert!(lines(&agent, "go").1[1].starts_with(&format!("  holder   Go client on {} (somebody's)", agent.node())));

    // What is no lock is told as `run` tells it, unless somebody holds it.
    agent.put("/v1/kv/config", "x");
    let data = run_on(&agent, &["status", "config"]);
    assert_eq!((data.code(), data.stdout.as_str()), (Some(78), ""), "{}", data.stderr);
    assert!(data.stderr.contains("config at http://") && data.stderr.contains("is no lock"), "{}", data.stderr);
    plain("config", &"x".repeat(500_000));
    assert!(lines(&agent, "config").1.last().is_some_and(|line| line.ends_with("…\" (500000 bytes)")));
    assert_eq!(status(&agent, "config").1["holders"][0]["value"], Value::Null);
    agent.put(&format!("/v1/kv/binary?acquire={session}"), [0xff, 0x00, 0x1b]);
    assert!(lines(&agent, "binary").1.contains(&"  value    3 bytes, no text".to_owned()));
    // A record of more than a screen: its beginning, wherever it is named.
    let book = "book".repeat(20_000);
    let record = json!({"host": book, "pid": 9, "user": book, "command": book, "acquired_at": "2026-01-01T00:00:00Z",
        "lock_delay": "15s", "run": "r", "tool": "t"});
    agent.put(&format!("/v1/kv/huge?acquire={session}&flags={LOCK_FLAGS}"), record.to_string());
    for command in [&["status", "huge"][..], &["list", "huge"], &["wait", "-w0", "huge"], &["run", "-n", "huge", "-c:"]]
    {
        let ended = run_on(&agent, command);
        let said = ended.stdout + &ended.stderr;
        assert!(said.contains("bookbook") && said.len() < 1000, "{command:?}: {} bytes", said.len());
    }

    let mut theirs = Command::new(consul_binary());
    theirs.env("CONSUL_HTTP_ADDR", agent.http_addr());
    let _lock = Running::start(theirs.args(["lock", "web", "sleep 1000"]));
    let mut theirs = Command::new(consul_binary());
    theirs.env("CONSUL_HTTP_ADDR", agent.http_addr()).args(["lock", "-n", "2", "pool", "sleep 1000"]);
    let _pool = [(); 3].map(|()| Running::start(&mut theirs));
    eventually("the lock is held", PATIENCE, || agent.holder("web/.lock"));
    let pool = eventually("the semaphore is full, and one waits", PATIENCE, || {
        let ended = run_on(&agent, &["status", "--json", "pool"]);
        let pool: Value = serde_json::from_str(&ended.stdout).ok()?;
        (pool["holders"].as_array()?.len() == 2 && pool["queue"].as_array()?.len() == 1).then_some(pool)
    });
    assert_eq!((&pool["kind"], &pool["limit"]), (&json!("go-semaphore"), &json!(2)));
    assert_eq!(pool["holders"][0]["client"], "consul lock");
    // By the name of the semaphore's own key, too.
    assert_eq!(status(&agent, "pool/.lock").1["holders"], pool["holders"]);
    assert_eq!(lines(&agent, "pool").1[0], "pool: 2 of 2 slots held");
    assert_eq!(status(&agent, "web/.lock").1["holders"][0]["client"], "consul lock");
    // The key itself is free; whoever asks for it may have meant the other.
    let (code, web) = status(&agent, "web");
    assert_eq!((code, &web["held"], &web["see_also"]), (Some(1), &json!(false), &json!("web/.lock")));
}

#[test]
fn what_is_stored_cannot_paint_on_a_terminal() {
    let agent = Agent::plain();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\n  session  forged\u{202e}";
    let record = json!({
        "host": evil, "pid": 1, "user": evil, "command": evil, "acquired_at": evil, "lock_delay": evil, "run": "r",
        "tool": "t",
    });
    let session = agent.create_session(&json!({ "Name": evil, "Behavior": "delete" }));
    let held = format!("/v1/kv/evil?acquire={session}&flags={LOCK_FLAGS}");
    agent.put(&held, record.to_string());
    agent.put(&format!("/v1/kv/evil/.slot/2?flags={LOCK_FLAGS}"), record.to_string());
    let waits = agent.create_session(&json!({ "Name": evil }));
    let flags = 0x636c_7175_6575_6531_u64;
    agent.put(&format!("/v1/kv/evil/.queue/{waits}?acquire={waits}&flags={flags}"), record.to_string());
    let odd =
        json!({ "Verb": "lock", "Key": format!("evil{evil}"), "Session": session, "Flags": LOCK_FLAGS, "Value": "" });
    agent.put("/v1/txn", json!([{ "KV": odd }]).to_string());
    for command in [&["status", "evil"][..], &["status", "--json", "evil"], &["list", "evil"], &["list", "--json"]] {
        let ended = run_on(&agent, command);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{command:?}");
        let hidden = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}';
        assert_eq!(ended.stdout.chars().find(hidden), None, "{command:?}: {:?}", ended.stdout);
        assert!(ended.stdout.contains("owned"), "{}", ended.stdout);
        // One more line than there are locks would be a forged one.
        assert!(!ended.stdout.lines().any(|line| line.trim_start().starts_with("session  forged")), "{}", ended.stdout);
    }
    let (_, json) = status(&agent, "evil");
    assert_eq!((&json["holders"][0]["host"], &json["holders"][0]["since"]), (&json!(evil), &Value::Null));
    // Nor where somebody says for whom it waits, in words and in JSON, nor where the key is looked at.
    let once: [&[&str]; 4] = [
        &["run", "-w300ms", "evil", "--log-format", "json", "-c:"],
        &["run", "-n", "evil", "-c:"],
        &["wait", "-w1ms", "evil", "--log-format=json"],
        &["acquire", "-w1ms", "--ttl=10s", "evil", "--log-format=json"],
    ];
    let doctor: [&[&str]; 2] = [&["doctor", "-v", "evil"], &["doctor", "--json", "evil"]];
    for (code, command) in once.map(|line| (75, line)).into_iter().chain(doctor.map(|line| (0, line))) {
        let ended = run_on(&agent, command);
        let told = ended.stdout.clone() + &ended.stderr;
        let active = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(
            ended.code() == Some(code) && told.contains("owned") && !told.contains(active),
            "{command:?}: {told:?}"
        );
        assert!(!told.contains("\n  session  forged"), "{command:?}: {told}");
    }
}

#[test]
fn a_token_that_may_not_read_is_told_so() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let session = agent.create_session(&json!({}));
    assert!(agent.acquire_as_go("cron/backup", &session, ""));
    let with = |rules: &str, args: &[&str]| {
        let token = agent.token_with(rules);
        let ended = Running::start(consul_lock_on(&agent).env("CONSUL_HTTP_TOKEN", &token).args(args)).wait(PATIENCE);
        assert!(!ended.stderr.contains(&token));
        ended
    };
    let none = with("session_prefix \"\" { policy = \"write\" }", &["status", "cron/backup"]);
    assert_eq!((none.code(), none.stdout.as_str()), (Some(77), ""));
    assert!(none.stderr.ends_with("the token needs key \"cron/backup\" { policy = \"read\" }\n"), "{}", none.stderr);
    for command in [&["wait", "cron/backup"][..], &["evict", "--yes", "cron/backup"]] {
        assert_eq!(with("", command).code(), Some(77), "{command:?}");
    }
    // The key alone: no line to be seen, and no session.
    let key = with("key \"cron/backup\" { policy = \"read\" }", &["status", "cron/backup"]);
    assert_eq!((key.code(), key.stderr.as_str()), (Some(0), ""));
    let mut expected = String::new();
    let _ = write!(
        expected,
        "  session  {session}\n           not to be seen: it has ended, or the token lacks session:read\n"
    );
    assert!(key.stdout.contains(&expected), "{}", key.stdout);
    assert!(key.stdout.contains("  line     not to be seen with this token"), "{}", key.stdout);
    let json = with("key \"cron/backup\" { policy = \"read\" }", &["status", "--json", "cron/backup"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&json["queue"], &json["holders"][0]["session_info"]), (&Value::Null, &Value::Null));

    // Consul leaves out of a list what may not be read.
    let list = with("key_prefix \"web/\" { policy = \"read\" }", &["list", "cron/"]);
    assert_eq!((list.code(), list.stdout.as_str()), (Some(77), ""));
    assert!(list.stderr.ends_with("the token needs key_prefix \"cron/\" { policy = \"read\" }\n"), "{}", list.stderr);
    let part = with("key_prefix \"cron/\" { policy = \"read\" }", &["list"]);
    assert_eq!((part.code(), part.stdout.lines().count()), (Some(0), 1), "{}", part.stdout);
    assert!(part.stderr.contains("there may be more locks than these: key_prefix \"\" {"), "{}", part.stderr);
    let whole = with("key_prefix \"cron/\" { policy = \"read\" }", &["list", "cron/"]);
    assert_eq!((whole.code(), whole.stderr.as_str()), (Some(0), ""));
    // Whoever may see it may not end it.
    let evict = with("key_prefix \"\" { policy = \"read\" }", &["evict", "--yes", "cron/backup"]);
    assert_eq!(evict.code(), Some(77), "{}", evict.stderr);
    assert!(
        evict.stderr.contains("ending the session")
            && evict.stderr.contains("session_prefix \"\" { policy = \"write\" }")
    );
    assert_eq!(agent.holder("cron/backup"), Some(session));
}

#[test]
fn a_cluster_shows_the_same_line_from_each_of_its_servers() {
    let cluster = Cluster::start(1);
    let key = unique_key("cluster");
    let _holder = support::hold(cluster.server(0), &[], &key);
    let waiters: Vec<_> = (0..3).map(|number| waiter(cluster.server(number), &[], &key, "true")).collect();
    let expected: Vec<_> = waiters.iter().map(|(_, session)| json!(session)).collect();
    for server in cluster.servers() {
        let (code, seen) = status(server, &key);
        let queue: Vec<_> =
            seen["queue"].as_array().expect("a list").iter().map(|one| one["session"].clone()).collect();
        assert_eq!((code, queue), (Some(0), expected.clone()));
        assert_eq!(seen["holders"][0]["session_info"]["node"], json!(cluster.server(0).node()));
    }
}

#[test]
fn a_consul_that_is_not_there_is_69_and_what_cannot_be_asked_64() {
    let nowhere = "127.0.0.1:9";
    for command in [&["status"][..], &["list"], &["wait"], &["evict", "--yes"]] {
        let mut line = support::consul_lock_at(nowhere);
        let ended = Running::start(line.args(command).args(["k", "--retry-for", "200ms"])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(69), ""), "{command:?}: {}", ended.stderr);
        let told: Vec<_> = ended.stderr.lines().collect();
        assert!(
            told.len() == 2 && told[0].ends_with("; trying again") && told[1].contains("connection refused"),
            "{told:?}"
        );
        for bad in [&["/k"][..], &["a//b"], &["a\u{1b}"], &["k", "--http-addr", "x", "--local"]] {
            let mut line = support::consul_lock_at(nowhere);
            let ended = Running::start(line.args(command).args(bad)).wait(PATIENCE);
            assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{command:?} {bad:?}: {}", ended.stderr);
            assert!(!ended.stderr.contains('\u{1b}'), "{:?}", ended.stderr);
        }
    }
    let mut line = support::consul_lock_at(nowhere);
    let json = Running::start(line.args(["status", "--log-format", "json", "--retry-for", "0", "k"])).wait(PATIENCE);
    let error: Value = serde_json::from_str(&json.stderr).expect("JSON");
    assert_eq!((&error["event"], &error["exit_code"], &error["key"]), (&json!("error"), &json!(69), &json!("k")));
}
