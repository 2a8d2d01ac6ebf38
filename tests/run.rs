//! The main job: what a run asks of Consul, what its command finds, and what is left of it.

mod support;

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, LOCK_FLAGS, PATIENCE, consul_binary};
use support::proxy::{Proxy, Seen};
use support::running::Running;
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

/// A key's value, out of its base64.
fn value_of(agent: &Agent, key: &str) -> String {
    agent.get(&format!("/v1/kv/{key}?raw")).text()
}

/// The operations of a transaction, each as verb and key.
fn verbs(body: &str) -> Vec<(String, String)> {
    let ops: Vec<Value> = serde_json::from_str(body).expect("a transaction is a list");
    let word = |op: &Value, name: &str| op["KV"][name].as_str().unwrap_or_default().to_owned();
    ops.iter().map(|op| (word(op, "Verb"), word(op, "Key"))).collect()
}

#[test]
fn a_free_run_takes_four_writes_and_one_read() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    // A run that takes longer than 50 ms, as on a busy machine, confirms and watches its lock; writes never vary.
    let shortest = (0..20).any(|_| {
        let (key, before) = (unique_key("free"), proxy.requests().len());
        let ended = Running::start(consul_lock_at(&proxy.addr()).args(["run", &key, "--", "true"])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
        let seen = proxy.requests().split_off(before);
        let is_read = |request: &&Seen| request.method == "GET" || request.target == "/v1/txn?consistent";
        let (reads, writes): (Vec<_>, Vec<_>) = seen.iter().partition(is_read);

        let [create, lock, release, destroy] = writes[..] else { panic!("{writes:?}") };
        assert_eq!(create.target, "/v1/session/create");
        assert_eq!([lock, release].map(|txn| txn.target.as_str()), ["/v1/txn"; 2]);
        let op = |verb: &str| (verb.to_owned(), key.clone());
        assert_eq!(verbs(&release.body), [op("check-session"), op("delete")]);
        let ops: Value = serde_json::from_str(&lock.body).unwrap();
        let session = ops[1]["KV"]["Session"].as_str().unwrap();
        assert_eq!(ops[1]["KV"]["Flags"], LOCK_FLAGS);
        // Who takes the key asks in the same request who reads under it.
        let readers = [("check-not-exists", format!("{key}/.read/{session}")), ("get-tree", format!("{key}/.read/"))];
        let readers = readers.map(|(verb, key)| (verb.to_owned(), key));
        assert_eq!(verbs(&lock.body), [vec![op("check-not-exists"), op("lock")], readers.into()].concat());
        assert_eq!(destroy.target, format!("/v1/session/destroy/{session}"));

        assert_eq!(reads[0].target, format!("/v1/kv/{key}?consistent"));
        assert!(reads[0].at < lock.at && reads[0].connection != create.connection, "{seen:?}");
        let of_the_key = |target: &str| target.starts_with(&format!("/v1/kv/{key}?consistent"));
        assert!(reads.iter().all(|read| read.method == "PUT" || of_the_key(&read.target)), "{reads:?}");
        seen.len() == 5
    });
    assert!(shortest, "not one of twenty runs took five requests");
    agent.expect_nothing_left();
}

#[test]
fn the_command_finds_its_lock_in_the_environment() {
    let agent = Agent::plain();
    let key = unique_key("environment");
    let mut command = consul_lock_on(&agent);
    command.args(["run", &key, "--", "sh", "-c", "env | grep ^CONSUL_LOCK_; echo; read line; echo $line"]);
    let mut running = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
    running.expect_stdout("\n\n", PATIENCE);
    let entry = agent.kv(&key).unwrap();
    let session = entry["Session"].as_str().unwrap();
    let said = running.stdout();
    let variables: Vec<_> = said.lines().filter(|line| !line.is_empty() && !line.starts_with(support::MARK)).collect();
    let mut expected = vec![
        "CONSUL_LOCK_HELD=true".to_owned(),
        format!("CONSUL_LOCK_KEY={key}"),
        format!("CONSUL_LOCK_SESSION={session}"),
        format!("CONSUL_LOCK_CHAIN={session}"),
        format!("CONSUL_LOCK_FENCE={}", entry["ModifyIndex"]),
        format!("CONSUL_LOCK_INDEX={}", entry["LockIndex"]),
    ];
    expected.sort();
    let mut variables: Vec<_> = variables.into_iter().map(str::to_owned).collect();
    variables.sort();
    assert_eq!(variables, expected);
    drop(running.take_stdin());
    assert_eq!(running.wait(PATIENCE).code(), Some(0));
}

#[test]
fn the_fence_grows_although_the_key_is_made_anew_each_time() {
    let agent = Agent::plain();
    let key = unique_key("fence");
    let echo = "echo $CONSUL_LOCK_FENCE $CONSUL_LOCK_INDEX";
    let mut last = 0;
    for flag in ["--ttl=15s", "--keep-key", "--keep-key", "--ttl=15s", "--ttl=15s"] {
        let said = run_on(&agent, &["run", flag, &key, "-c", echo]).stdout;
        let numbers: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(numbers[0] > last, "{numbers:?} after {last}");
        last = numbers[0];
    }
    agent.expect_nothing_left();
}

#[test]
fn the_record_says_who_holds_the_key_and_no_argument() {
    let agent = Agent::plain();
    let key = unique_key("record");
    let mut command = consul_lock_on(&agent);
    command.args(["run", "--lock-delay=20s", &key, "--", "/bin/sleep", "1000.0425"]);
    let running = Running::start(&mut command);
    running.expect_process("sleep", PATIENCE);
    let value = value_of(&agent, &key);
    assert!(!value.contains("0425"), "{value}");
    let record: Value = serde_json::from_str(&value).unwrap();
    let names: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["acquired_at", "command", "host", "lock_delay", "pid", "run", "tool", "user"]);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    assert_eq!(
        [&record["host"], &record["user"], &record["command"], &record["lock_delay"], &record["tool"]],
        [&json!(host), &json!(user), &json!("sleep"), &json!("20s"), &json!("consul-lock/0.1.0")]
    );
    assert_eq!(record["pid"], running.pid().as_raw());
    let acquired = humantime::parse_rfc3339(record["acquired_at"].as_str().unwrap()).unwrap();
    assert!(acquired.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(agent.kv(&key).unwrap()["Flags"], LOCK_FLAGS);
}

#[test]
fn a_value_of_the_users_own_takes_the_records_place() {
    let agent = Agent::plain();
    let key = unique_key("value");
    let holder = hold(&agent, &["--value", "run 17, ünï"], &key);
    assert_eq!(value_of(&agent, &key), "run 17, ünï");
    assert_eq!(agent.kv(&key).unwrap()["Flags"], LOCK_FLAGS);
    let refused = run_on(&agent, &["run", "-n", &key, "--", "true"]);
    assert_eq!(refused.code(), Some(75));
    assert!(refused.stderr.contains(&agent.holder(&key).unwrap()), "{}", refused.stderr);
    drop(holder);
}

#[test]
fn a_kept_key_is_free_and_still_a_lock() {
    let agent = Agent::plain();
    let prefix = unique_key("kept");
    let key = format!("{prefix}/.lock");
    for round in 1..=3 {
        let ended = run_on(&agent, &["run", "-n", "--keep-key", &key, "-c", "echo $CONSUL_LOCK_INDEX"]);
        assert_eq!((ended.code(), ended.stdout), (Some(0), format!("{round}\n")));
        let entry = agent.kv(&key).unwrap();
        assert_eq!((entry["Session"].as_str(), &entry["Flags"]), (None, &json!(LOCK_FLAGS)));
        let record: Value = serde_json::from_str(&value_of(&agent, &key)).unwrap();
        assert!(record["released_at"].is_string() && record["command"] == "sh", "{record}");
        assert!(agent.sessions().is_empty());
    }
    let ended = run_on(&agent, &["run", "-n", "--keep-key", "--value", "mine", &key, "--", "true"]);
    assert_eq!((ended.code(), value_of(&agent, &key).as_str()), (Some(0), "mine"));
    assert_eq!(agent.kv(&key).unwrap()["Flags"], LOCK_FLAGS);

    let mut theirs = Command::new(consul_binary());
    theirs.env("CONSUL_HTTP_ADDR", agent.http_addr()).args(["lock", "-try=10s", &prefix, "echo theirs"]);
    let ended = Running::start(&mut theirs).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.contains("theirs")), (Some(0), true), "{}", ended.stderr);
}

#[test]
fn nothing_is_left_whatever_the_end() {
    let agent = Agent::plain();
    let busy_dir = tempfile::tempdir().unwrap();
    let busy = busy_dir.path().join("busy");
    std::fs::copy("/bin/true", &busy).unwrap();
    // A program that is open for writing is what only execve(2) can tell: ETXTBSY.
    let open = std::fs::OpenOptions::new().append(true).open(&busy).unwrap();
    let ends: [(&[&str], Option<i32>, Option<Signal>); 8] = [
        (&["true"], Some(0), None),
        (&["sh", "-c", "exit 3"], Some(3), None),
        (&["sh", "-c", "kill -KILL $$"], Some(137), None),
        (&["sh", "-c", "kill -TERM $$"], None, Some(Signal::SIGTERM)),
        // The guard takes no orders from its own tree.
        (&["sh", "-c", "kill -TERM $PPID; sleep 0.01"], Some(0), None),
        (&["sh", "-c", "kill -KILL $PPID; sleep 1000"], Some(70), None),
        (&["sh", "-c", "sleep 1000 & exit 4"], Some(4), None),
        (&[busy.to_str().unwrap()], Some(126), None),
    ];
    for (command, code, signal) in ends {
        let key = unique_key("end");
        let args = [&["run", "-k", "0", "--lock-delay=20s", &key, "--"], command].concat();
        let mut running = Running::start(consul_lock_on(&agent).args(args));
        let ended = running.wait(PATIENCE);
        assert_eq!((ended.code(), ended.signal()), (code, signal.map(|s| s as i32)), "{command:?}: {}", ended.stderr);
        running.expect_no_survivors(PATIENCE);
        agent.expect_nothing_left();
    }
    drop(open);
}

#[test]
fn a_run_whose_keeper_is_killed_leaves_no_process() {
    let agent = Agent::plain();
    let key = unique_key("killed");
    let holder = hold(&agent, &[], &key);
    holder.signal(Signal::SIGKILL);
    holder.expect_no_survivors(PATIENCE);
    assert_eq!(agent.sessions().len(), 1, "its session ends by its TTL");
}

#[test]
fn somebodys_data_is_refused_and_left_alone() {
    let agent = Agent::plain();
    let cases = [("", "a"), ("?flags=42", ""), ("?flags=42", "a"), ("?flags=0", "{}")];
    for (query, value) in cases {
        let key = unique_key("data");
        agent.put(&format!("/v1/kv/{key}{query}"), value);
        let before = agent.kv(&key);
        let ended = run_on(&agent, &["run", &key, "-c", "echo ran"]);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{query} {value}");
        assert!(ended.stderr.contains(&key) && ended.stderr.contains("is no lock"), "{}", ended.stderr);
        assert!(ended.stderr.contains("data without the flags"), "{}", ended.stderr);
        assert_eq!(agent.kv(&key), before);
        assert!(agent.sessions().is_empty());
    }
    // A key with neither value nor flags means nothing to anybody.
    let key = unique_key("empty");
    agent.put(&format!("/v1/kv/{key}"), "");
    assert_eq!(run_on(&agent, &["run", &key, "--", "true"]).code(), Some(0));
}

#[test]
fn a_semaphores_key_is_refused_with_the_reason() {
    let agent = Agent::plain();
    let prefix = unique_key("semaphore");
    let mut semaphore = Command::new(consul_binary());
    semaphore.env("CONSUL_HTTP_ADDR", agent.http_addr());
    semaphore.args(["lock", "-n=2", &prefix, "echo started; exec sleep 1000"]);
    let holder = Running::start(&mut semaphore);
    holder.expect_stdout("started", PATIENCE);
    let key = format!("{prefix}/.lock");
    let before = eventually("the semaphore's key is there", PATIENCE, || agent.kv(&key));
    let ended = run_on(&agent, &["run", &key, "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""));
    assert!(ended.stderr.contains("semaphore") && ended.stderr.contains("consul lock -n"), "{}", ended.stderr);
    assert_eq!(agent.kv(&key).unwrap()["ModifyIndex"], before["ModifyIndex"]);
    assert_eq!(agent.sessions().len(), 1);
}
