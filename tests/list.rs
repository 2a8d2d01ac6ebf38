//! `consul-lock list`: every lock below a prefix, a line each.

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::agent::{Agent, LOCK_FLAGS, PATIENCE};
use support::line::waiter;
use support::pty::Pty;
use support::running::Running;
use support::{consul_lock_on, hold, run_on};

/// How long 10,000 locks may take here: a busy machine, and a program that was not optimized. docs/measurements.md has
/// what it takes where somebody waits for it.
const BOUND: Duration = Duration::from_secs(5);

fn record(program: &str) -> String {
    json!({
        "host": "web1", "pid": 71, "user": "root", "command": program, "acquired_at": "2026-01-01T00:00:00Z",
        "lock_delay": "30s", "run": program, "tool": "consul-lock/0.1.0",
    })
    .to_string()
}

#[test]
fn each_lock_below_a_prefix_is_a_line() {
    let agent = Agent::plain();
    let empty = run_on(&agent, &["list"]);
    assert_eq!((empty.code(), empty.stdout.as_str(), empty.stderr.as_str()), (Some(0), "", ""));

    let holder = hold(&agent, &[], "cron/backup");
    let _waiters = [(); 2].map(|()| waiter(&agent, &[], "cron/backup", "true"));
    let session = agent.create_session(&json!({ "Name": "a program" }));
    assert!(agent.acquire_as_go("cron/go", &session, "") && agent.acquire("cronos", &session, ""));
    agent.put("/v1/kv/cron/config", "data");
    agent.put("/v1/kv/cron/flag", "");
    agent.put(&format!("/v1/kv/cron/lost?flags={LOCK_FLAGS}"), record("gone"));
    // Slots and readers belong to their lock.
    for part in ["db", "db/.slot/3", "db/.read/x"] {
        agent.put(&format!("/v1/kv/{part}?acquire={session}&flags={LOCK_FLAGS}"), record(part));
    }

    let all = run_on(&agent, &["list"]);
    let rows: Vec<Vec<_>> = all.stdout.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((all.code(), all.stderr.as_str()), (Some(0), ""));
    let [backup, go, lost, cronos, db] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(backup[2].starts_with(&format!("sh (pid {} of ", holder.pid())), "{backup:?}");
    assert!(backup[3].parse::<u64>().is_ok_and(|age| age < 60), "{backup:?}");
    assert_eq!((&backup[..2], &backup[4..]), (&["cron/backup", "held"][..], &["2"][..]));
    assert_eq!(go[..], ["cron/go", "held", &format!("Go client on {} (a program)", agent.node()), "-", "0"]);
    assert_eq!(lost[..], ["cron/lost", "free", "-", "-", "0"]);
    assert_eq!(cronos[..2], ["cronos", "held"]);
    assert_eq!(db[..3], ["db", "2 of 3 slots held, 1 reader", "db (pid 71 of root on web1) and 2 more"]);

    let below = run_on(&agent, &["list", "cron/"]);
    assert_eq!(below.stdout.lines().count(), 3, "{}", below.stdout);
    let lines = run_on(&agent, &["list", "--json", "db"]).stdout;
    let object: Value = serde_json::from_str(lines.trim_end()).expect("one object");
    let parts: Vec<_> = object["holders"].as_array().expect("a list").iter().map(|one| &one["slot"]).collect();
    assert_eq!((&object["limit"], parts), (&json!(3), vec![&json!(1), &json!(3), &Value::Null]));

    let mut command = consul_lock_on(&agent);
    let mut pty = Pty::spawn(command.args(["list", "cron"]));
    assert!(pty.wait(PATIENCE).success());
    let screen = pty.expect("cronos ", PATIENCE);
    let table: Vec<_> = screen.lines().collect();
    assert!(table[0].starts_with("KEY          STATE  HOLDER ") && table[0].contains(" AGE  "), "{screen}");
    assert!(table[1].starts_with("cron/backup  held   sh (pid "), "{screen}");
}

#[test]
fn ten_thousand_locks_are_listed_in_no_time_to_whoever_reads_them() {
    let agent = Agent::plain();
    let session = agent.create_session(&json!({}));
    let numbers: Vec<_> = (0..10_000).collect();
    for some in numbers.chunks(64) {
        let lock = |number: &i32| {
            let value = base64(record("job").as_bytes());
            json!({ "KV": { "Verb": "lock", "Key": format!("many/{number:05}"), "Session": session, "Flags": LOCK_FLAGS, "Value": value } })
        };
        agent.put("/v1/txn", some.iter().map(lock).collect::<Value>().to_string());
    }
    let begun = Instant::now();
    let listed = run_on(&agent, &["list", "many/"]);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    let keys = listed.stdout.lines().map(|line| line.split('\t').next().expect("a key"));
    assert!(listed.code() == Some(0) && keys.eq(numbers.iter().map(|number| format!("many/{number:05}"))));

    // A reader that has seen enough ends it as SIGPIPE would, without a word.
    let mut command = consul_lock_on(&agent);
    let mut list = command.arg("list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(list.stdout.take());
    let ended = list.wait_with_output().expect("ended");
    assert_eq!((ended.status.to_string().as_str(), ended.stderr.as_slice()), ("signal: 13 (SIGPIPE)", &b""[..]));
    // A disk that is full is no such reader.
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = consul_lock_on(&agent);
    let ended = command.arg("list").stdout(full).stderr(Stdio::piped()).output().expect("ended");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(70) && told.contains("cannot write to standard output"), "{told}");
}

/// Base64 (RFC 4648), as Consul wants values in a transaction.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[test]
fn locks_of_this_machine_are_listed_while_they_are_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let local = format!("--local={}", folder.path().display());
    let list = |args: &[&str]| Running::start(support::consul_lock().args(["list", &local]).args(args)).wait(PATIENCE);
    assert_eq!((list(&[]).code(), list(&[]).stdout.as_str()), (Some(0), ""));
    let long = "x".repeat(300);
    let holders = ["cron/a", &long].map(|key| {
        let mut command = support::consul_lock();
        let holder = Running::start(command.args(["run", &local, key, "-c", "echo started; exec sleep 1000"]));
        holder.expect_stdout("started\n", PATIENCE);
        holder
    });
    Running::start(support::consul_lock().args(["run", &local, "over", "--", "true"])).wait(PATIENCE);
    let all = list(&[]);
    let keys: Vec<_> = all.stdout.lines().map(|line| line.split('\t').next().expect("a key")).collect();
    assert_eq!(keys, ["cron/a", &long]);
    assert!(all.stdout.contains(&format!("\theld\tsh (pid {} of ", holders[0].pid())), "{}", all.stdout);
    let object: Value = serde_json::from_str(list(&["--json", "cron/"]).stdout.trim_end()).expect("one object");
    assert_eq!((&object["kind"], &object["holders"][0]["session"]), (&json!("local"), &Value::Null));
}
