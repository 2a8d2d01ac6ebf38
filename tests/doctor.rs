//! `consul-lock doctor`: what it finds wrong and says to do, and that it leaves everything as it was. The transcripts of
//! docs/doctor.md are compared with what is really said.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, LOCK_FLAGS, Options, PATIENCE};
use support::cluster::Cluster;
use support::findings::{NAMES, doctor, expect, expect_documented, expect_end};
use support::proxy::{Fault, Proxy, Rule};
use support::running::Running;
use support::{consul_lock, consul_lock_at, consul_lock_on, eventually, unique_key};

#[test]
fn a_healthy_agent_passes_every_check_and_nothing_is_written() {
    let agent = Agent::plain();
    let key = unique_key("doctor");
    let mut proxy = Proxy::start(&agent.http_addr());
    let ended = doctor(&mut consul_lock_at(&proxy.addr()), &[&key]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    let names: Vec<_> = ended.stdout.lines().map(|line| line[7..].split(':').next().unwrap_or_default()).collect();
    assert_eq!(names, NAMES);
    assert!(ended.stdout.lines().all(|line| line.starts_with("ok ")), "{}", ended.stdout);
    expect(&ended, "lease", "ok", "confirmed every 2 s; without a confirmation the first signal after 23.5 s", "");
    expect(&ended, "address", "ok", &format!("http://{} (CONSUL_HTTP_ADDR)", proxy.addr()), "");
    expect(&ended, "session", "ok", &format!("one was made on node {}", agent.node()), "");
    expect(&ended, "key", "ok", "held by nobody", "");
    agent.expect_nothing_left();
    // Of all requests only these are no reads, and the transaction is one that Consul refuses whatever the keys are.
    let writes: Vec<_> = proxy.requests().into_iter().filter(|request| request.method != "GET").collect();
    let paths = writes.iter().map(|request| request.target.split('/').take(4).collect::<Vec<_>>().join("/"));
    let paths: Vec<_> = paths.map(|path| path.split('?').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(paths, ["/v1/session/create", "/v1/session/renew", "/v1/session/destroy", "/v1/txn"]);
    let ops: Value = serde_json::from_str(&writes[3].body).expect("JSON");
    for op in ops.as_array().expect("a list") {
        let (verb, index) = (op["KV"]["Verb"].as_str().expect("a verb"), &op["KV"]["Index"]);
        assert!(verb == "get" || ["delete-cas", "check-index"].contains(&verb) && *index == json!(0), "{op}");
    }

    // A held lock is told and left as it is; so is data.
    let session = agent.create_session(&json!({}));
    agent.put(&format!("/v1/kv/{key}?acquire={session}&flags={LOCK_FLAGS}"), "");
    agent.put("/v1/kv/data", "somebody's");
    let before = (agent.kv(&key), agent.kv("data"));
    let ended = doctor(&mut consul_lock_on(&agent), &[&key, "--color", "always"]);
    let ok = "\u{1b}[32mok    \u{1b}[0m";
    assert!(
        ended.stdout.contains(&format!("{ok} key: {key} may be written, held by session {session}")),
        "{}",
        ended.stdout
    );
    let ended = doctor(&mut consul_lock_on(&agent), &["data", "-q"]);
    assert_eq!((ended.code(), ended.stdout.lines().count()), (Some(78), 2), "{}", ended.stdout);
    expect(&ended, "key", "fail", "data is no lock", "choose another key");
    assert_eq!((agent.kv(&key), agent.kv("data"), agent.sessions().len()), (before.0, before.1, 1));
    agent.destroy_session(&session);

    // Flags as `run` has them.
    let flags = ["--lock-delay", "6s", "-k", "4", "--no-checks"];
    let ended = doctor(&mut consul_lock_on(&agent), &flags);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    expect(&ended, "lease", "ok", "SIGKILL after 5.5 s, nobody else before 6 s", "");
    expect(&ended, "readers", "skip", "no KEY was given", "");
    for (flags, code, name, detail) in [
        (&["--lock-delay", "3"][..], 64, "lease", "leaves -2.5s"),
        (&["--lock-delay", "0"], 64, "lease", "with a lock delay of 0"),
        (&["--lock-delay", "61"], 64, "lease", "60 s at most"),
        (&["--ttl", "1h", "--check", "nope"], 78, "session", "nope"),
        (&["--datacenter", "nowhere"], 78, "connection", "No path to datacenter"),
        (&["--namespace", "team"], 78, "session", "Consul Enterprise feature"),
    ] {
        let ended = doctor(&mut consul_lock_on(&agent), flags);
        assert_eq!(ended.code(), Some(code), "{}", ended.stdout);
        expect(&ended, name, "fail", detail, "");
    }
    let ended = doctor(&mut consul_lock_on(&agent), &["--lock-delay", "0", "--no-guarantee"]);
    expect(&ended, "lease", "warn", "with a lock delay of 0", "");
    assert!(agent.sessions().is_empty());

    // Nobody listens to the result, and the exit code is the same.
    let mut command = consul_lock_on(&agent);
    let mut child =
        command.args(["doctor", "data"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert_eq!((output.status.code(), output.stderr), (Some(78), Vec::new()));

    // What cannot be told is an error of its own, told once.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let output = consul_lock_on(&agent).arg("doctor").stdout(full).output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(70), 1), "{said}");

    // An interrupt in the middle leaves no session.
    proxy.rules(vec![Rule::new(Fault::DelayReply(Duration::from_secs(1))).prefix("/v1/session/create")]);
    let seen = proxy.requests().len();
    let mut running = Running::start(consul_lock_at(&proxy.addr()).arg("doctor"));
    eventually("a session is being made", PATIENCE, || {
        proxy.requests()[seen..].iter().any(|request| request.target.contains("/create")).then_some(())
    });
    running.signal(Signal::SIGINT);
    let ended = running.wait(PATIENCE);
    assert_eq!(ended.signal(), Some(Signal::SIGINT as i32), "{}", ended.stdout);
    assert!(agent.sessions().is_empty());

    // What cannot be removed is told.
    proxy.rules(vec![Rule::new(Fault::Status(500, "No cluster leader".into())).prefix("/v1/session/destroy")]);
    let ended = doctor(&mut consul_lock_at(&proxy.addr()), &[]);
    assert_eq!(ended.code(), Some(69), "{}", ended.stdout);
    expect(&ended, "session", "fail", "is left to its TTL of 10s", "wait for the election");
}

#[test]
fn the_json_object_has_the_same_fields_whatever_happens() {
    let agent = Agent::plain();
    let cases = [(agent.http_addr(), Some(0)), ("127.0.0.1:1".into(), Some(69)), ("a:b:c".into(), Some(64))];
    for (addr, code) in cases {
        let ended = doctor(&mut consul_lock_at(&addr), &["--json", "doctor/json"]);
        assert_eq!((ended.code(), ended.stdout.lines().count()), (code, 1), "{}", ended.stdout);
        let object: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let fields = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&object), ["checks", "exit_code", "key"]);
        assert_eq!((&object["key"], object["exit_code"].as_i64()), (&json!("doctor/json"), code.map(i64::from)));
        let checks = object["checks"].as_array().expect("a list");
        assert_eq!(checks.iter().map(|check| check["name"].as_str().expect("a name")).collect::<Vec<_>>(), NAMES);
        for check in checks {
            assert_eq!(fields(check), ["data", "detail", "exit_code", "mend", "name", "status"]);
            let status = check["status"].as_str().expect("a status");
            assert!(["ok", "warn", "fail", "skip"].contains(&status), "{check}");
            assert_eq!(check["exit_code"].is_null(), status != "fail", "{check}");
        }
        if code == Some(0) {
            let data = |name: &str| &checks[NAMES.iter().position(|each| *each == name).expect("known")]["data"];
            assert_eq!(data("address")["origin"], "CONSUL_HTTP_ADDR");
            assert_eq!(data("lease")["kill_after"], json!(28.5));
            assert!(data("clock")["offset"].as_f64().is_some_and(|offset| offset.abs() < 2.0), "{checks:?}");
            assert!(data("version")["version"].as_str().is_some_and(|version| version.contains('.')), "{checks:?}");
            assert_eq!(data("session")["node"], agent.node());
        }
    }
    agent.expect_nothing_left();
    let page = include_str!("../docs/doctor.md");
    assert!(NAMES.iter().all(|name| page.contains(&format!("| `{name}` |"))));
    let ended = Running::start(consul_lock().args(["doctor", "--help"])).wait(PATIENCE);
    let own = ended.stdout.split("Connection:").next().unwrap_or_default();
    let flags: Vec<_> = own.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(flags.len() > 5, "{own}");
    let undocumented: Vec<_> = flags.iter().filter(|flag| !page.contains(**flag)).collect();
    assert_eq!(undocumented, [&"--help", &"--version"]);
}

#[test]
fn a_token_is_told_each_rule_that_it_lacks() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let key = unique_key("doctor");
    let session = "session_prefix \"\" { policy = \"write\" }";
    let [own, read] = ["write", "read"].map(|policy| format!("key \"{key}\" {{ policy = \"{policy}\" }}"));
    let [queue, slots, readers] =
        [".queue", ".slot", ".read"].map(|part| format!("key_prefix \"{key}/{part}/\" {{ policy = \"write\" }}"));
    let examine = |token: &str| {
        let ended = doctor(consul_lock_on(&agent).env("CONSUL_HTTP_TOKEN", token), &[&key, "-v"]);
        assert!(token.is_empty() || !ended.stdout.contains(token), "{}", ended.stdout);
        ended
    };
    let with = |rules: &[&str]| examine(&agent.token_with(&rules.join("\n")));

    let ended = with(&[session, &own]);
    assert_eq!(ended.code(), Some(77), "{}", ended.stdout);
    expect(&ended, "version", "skip", "not shown to this token", "");
    expect(&ended, "token", "ok", "(CONSUL_HTTP_TOKEN)", "policy test-");
    expect(&ended, "queue", "warn", "no place in the line", &queue);
    expect(&ended, "slots", "skip", "matters only with --limit", &slots);
    expect(&ended, "readers", "fail", "every run looks for readers there", &readers);
    // A run that need not write there does with less.
    let ended = with(&[session, &own, &readers.replace("write", "read")]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    expect(&ended, "readers", "warn", "read and not written", &readers);

    // What is advised is enough, and nothing else.
    let ended = with(&[session, &own, &queue, &slots, &readers]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    assert!(!ended.stdout.contains("warn ") && !ended.stdout.contains("denied"), "{}", ended.stdout);

    let ended = with(&[session]);
    assert_eq!(ended.code(), Some(77), "{}", ended.stdout);
    expect(&ended, "key", "fail", "neither read nor written", &own);
    let ended = with(&[session, &read]);
    assert_eq!(ended.code(), Some(77), "{}", ended.stdout);
    expect(&ended, "key", "fail", "read and not written", &own);
    let ended = with(&[&own, &queue]);
    assert_eq!(ended.code(), Some(77), "{}", ended.stdout);
    expect(&ended, "session", "fail", "making one is denied (\"Permission denied\")", session);
    expect(&ended, "key", "ok", "held by nobody", "");
    expect(&ended, "queue", "ok", "", "");

    let ended = examine(agent.root_token());
    assert_eq!(ended.code(), Some(0), "{}", ended.stdout);
    expect(&ended, "token", "warn", "may do everything", "docs/acl.md");
    let ended = examine("");
    assert_eq!(ended.code(), Some(77), "{}", ended.stdout);
    expect(&ended, "token", "warn", "access control is on", "--token-file");
    expect(&ended, "session", "fail", "making one is denied", session);
    let short = agent.put("/v1/acl/token", json!({ "Description": "one night", "ExpirationTTL": "1h" }).to_string());
    let ended = examine(short.json()["SecretID"].as_str().expect("a token"));
    expect(&ended, "token", "warn", "\"one night\" (CONSUL_HTTP_TOKEN), expires in 59", "outlives the runs");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, "00000000-1111-2222-3333-444444444444\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let ended = doctor(consul_lock_on(&agent).env("CONSUL_HTTP_TOKEN", "x"), &["--token-file", file, &key]);
    expect(&ended, "token", "fail", "Consul does not know the token (--token-file)", "another cluster's?");
    expect_end(&ended, "token", 77);
    let documented = doctor(consul_lock_on(&agent).env("CONSUL_HTTP_TOKEN", "nope"), &["cron/backup"]);
    expect_documented("A token that Consul does not know", &documented);
    let (policy, token) = ("/v1/acl/policy", "/v1/acl/token");
    let rules = "session_prefix \"\" { policy = \"write\" } key \"cron/backup\" { policy = \"read\" }";
    agent.put(policy, json!({ "Name": "cron", "Rules": rules }).to_string());
    let made = agent.put(token, json!({ "Description": "cron jobs", "Policies": [{ "Name": "cron" }] }).to_string());
    fs::write(file, made.json()["SecretID"].as_str().expect("a token")).expect("written");
    let documented = doctor(consul_lock_on(&agent).env("CONSUL_HTTP_TOKEN_FILE", file), &["cron/backup"]);
    expect_documented("A token without the key's rules", &documented);
    let missing = format!("{file}.not");
    let ended = doctor(&mut consul_lock_on(&agent), &["--token-file", &missing]);
    expect(&ended, "address", "fail", "cannot read", "that this user may read");
    expect_end(&ended, "address", 78);
    agent.expect_nothing_left();
}

#[test]
fn nobody_there_or_nobody_sensible() {
    // Nobody listens on port 1.
    let ended = doctor(consul_lock().env("CONSUL_HTTP_ADDR", "127.0.0.1:1"), &["cron/backup"]);
    expect(
        &ended,
        "connection",
        "fail",
        "connection refused at http://127.0.0.1:1 (CONSUL_HTTP_ADDR)",
        "start an agent",
    );
    expect_end(&ended, "connection", 69);
    expect_documented("No agent", &ended);

    let answers = |answer: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    };
    let html = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    let nowhere = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let odd = [
        (html, 69, "does not answer as Consul does", "is an agent's HTTP API at that address?"),
        (nowhere, 78, "404", "give the path too"),
        ("SSH-2.0-OpenSSH_9.2\r\n", 69, "does not answer as Consul does", ""),
        ("", 69, "busy", ""),
        ("HTTP/1.1 301 Moved\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", 78, "redirects", "an agent itself"),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n", 69, "", ""),
    ];
    for (answer, code, detail, mend) in odd {
        let ended = doctor(&mut consul_lock_at(&answers(answer)), &[]);
        let name = if answer.contains("502") { "leader" } else { "connection" };
        expect(&ended, name, "fail", detail, mend);
        assert_eq!(ended.code(), Some(code), "{}", ended.stdout);
        let ended = doctor(&mut consul_lock_at(&format!("https://{}", answers(answer))), &[]);
        assert!(matches!(ended.code(), Some(69 | 78)), "{}", ended.stdout);
    }
    // An agent whose clock is a year behind, and that knows nothing but its leader.
    let early = "HTTP/1.1 200 OK\r\nDate: Sat, 22 Nov 2025 10:00:00 GMT\r\nContent-Length: 13\r\n\r\n\"127.0.0.1:1\"";
    let ended = doctor(&mut consul_lock_at(&answers(early)), &["k"]);
    expect(&ended, "clock", "warn", "behind this machine's", "Locks do not depend on it");
    assert!(matches!(ended.code(), Some(69 | 78)), "{}", ended.stdout);

    for (args, message) in [
        (&["--local", "k"][..], "doctor looks at Consul, and --local uses none"),
        (&["/k"], "begins with a slash"),
        (&["a", "b"], "unexpected argument"),
    ] {
        let ended = Running::start(consul_lock().arg("doctor").args(args)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    }
}

#[test]
fn a_cluster_without_a_leader() {
    let cluster = Cluster::start(1);
    let follower = cluster.follower();
    for number in (0..3).filter(|number| *number != follower) {
        cluster.kill9(number);
    }
    let agent = cluster.server(follower);
    eventually("the leader is missed", PATIENCE, || {
        (agent.get("/v1/status/leader").text().trim() == "\"\"").then_some(())
    });
    let ended = doctor(&mut consul_lock_on(agent), &["cron/backup"]);
    expect(&ended, "leader", "fail", "the cluster has no leader", "more than half of the servers must be up");
    assert_eq!(ended.code(), Some(69), "{}", ended.stdout);
    expect(&ended, "clock", "ok", "", "");
    expect(&ended, "session", "skip", "needs leader, which failed", "");
    expect_documented("No leader", &ended);
}
