//! Readers and writers: `run --shared` beside others that share the lock, and never beside a run that does not.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, Options, PATIENCE};
use support::line::{line, waiter};
use support::proxy::{Fault, Proxy, Rule};
use support::running::{Ended, Running};
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

/// A lost lock comes free after 7 s, and its command has a second to end.
const LOSSES: [&str; 4] = ["--lock-delay", "7s", "-k", "1s"];

fn start(agent: &Agent, flags: &[&str], key: &str, script: &str) -> Running {
    Running::start(consul_lock_on(agent).arg("run").args(flags).args([key, "-c", script]))
}

/// A writer that has the key and waits for the readers inside, and its session.
#[track_caller]
fn writer_inside(agent: &Agent, flags: &[&str], key: &str, script: &str) -> (Running, String) {
    let writer = start(agent, flags, key, script);
    let session = eventually("the writer has the key", PATIENCE, || agent.holder(key));
    writer.expect_stderr("waiting for", PATIENCE);
    (writer, session)
}

/// The sessions of the readers inside.
fn readers(agent: &Agent, key: &str) -> Vec<String> {
    let prefix = format!("{key}/.read/");
    agent.keys(&prefix).iter().map(|entry| entry[prefix.len()..].to_owned()).collect()
}

#[track_caller]
fn end(mut holder: Running) {
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
}

#[track_caller]
fn done(mut run: Running) -> Ended {
    let ended = run.wait(PATIENCE);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    ended
}

#[track_caller]
fn expect_held(ended: &Ended) {
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(" is held by sh (pid "), "{}", ended.stderr);
}

#[test]
fn readers_are_inside_together_and_a_writer_alone() {
    let agent = Agent::plain();
    let key = unique_key("rw");
    let both = [(); 2].map(|()| hold(&agent, &["--shared"], &key));
    let ids = readers(&agent, &key);
    assert_eq!((ids.len(), agent.kv(&key)), (2, None));
    let entry = agent.kv(&format!("{key}/.read/{}", ids[0])).unwrap();
    assert_eq!((&entry["Session"], &entry["Flags"]), (&json!(ids[0]), &json!(0x636c_7265_6164_6572_u64)));
    expect_held(&run_on(&agent, &["run", "-n", &key, "-c", "echo ran"]));
    assert_eq!((agent.kv(&key), readers(&agent, &key).len()), (None, 2));

    // A writer has the key at once, and the readers that come now stay outside.
    let (writer, _) = writer_inside(&agent, &[], &key, "echo writes; exec sleep 1000");
    expect_held_by_writer(&run_on(&agent, &["run", "-n", "--shared", &key, "-c", "echo ran"]));
    let late = waiter(&agent, &["--shared"], &key, "echo reads; exec sleep 1000").0;
    let last = waiter(&agent, &[], &key, "echo wrote").0;
    let [first, second] = both;
    end(first);
    assert_eq!((writer.stdout().as_str(), readers(&agent, &key).len()), ("", 1));
    end(second);
    writer.expect_stdout("writes", PATIENCE);
    assert_eq!((readers(&agent, &key).len(), late.stdout().as_str(), line(&agent, &key).len()), (0, "", 2));
    end(writer);
    // The line knows no difference: the reader was first.
    late.expect_stdout("reads", PATIENCE);
    last.expect_stderr("waiting for", PATIENCE);
    end(late);
    assert_eq!(done(last).stdout, "wrote\n");
    agent.expect_nothing_left();
}

#[track_caller]
fn expect_held_by_writer(ended: &Ended) {
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(" is held by "), "{}", ended.stderr);
}

#[test]
fn the_delay_of_a_dead_reader_and_of_a_dead_writer_is_kept() {
    let agent = Agent::plain();
    let keys = ["reader", "newcomer", "writer", "deleting"].map(unique_key);
    let [reader_key, newcomer_key, writer_key, deleting_key] = &keys;
    let shared = [&["--shared"], &LOSSES[..]].concat();
    let deleting = [&["--behavior", "delete"], &LOSSES[..]].concat();
    let note = "echo ran; cut -d' ' -f1 /proc/uptime";
    let holders = [
        (hold(&agent, &shared, reader_key), reader_key),
        (hold(&agent, &shared, newcomer_key), newcomer_key),
        (hold(&agent, &LOSSES, writer_key), writer_key),
        (hold(&agent, &deleting, deleting_key), deleting_key),
    ];
    // Those who see the loss, and those who come later.
    let writes = writer_inside(&agent, &[], reader_key, note).0;
    let reads = waiter(&agent, &["--shared"], writer_key, note).0;
    let mut died = Vec::new();
    for (mut holder, key) in holders {
        let session = agent.holder(key).filter(|_| key != reader_key);
        let session = session.unwrap_or_else(|| readers(&agent, key)[0].clone());
        holder.signal(Signal::SIGKILL);
        assert_eq!(holder.wait(PATIENCE).signal(), Some(9));
        died.push(support::hold::now());
        agent.destroy_session(&session);
    }
    let comes = start(&agent, &[], newcomer_key, note);
    let reads_later = start(&agent, &["--shared"], deleting_key, note);
    for (run, died) in [writes, comes, reads, reads_later].into_iter().zip(died) {
        let ended = done(run);
        let began: f64 = ended.stdout.strip_prefix("ran\n").unwrap().trim().parse().unwrap();
        // Of /proc/uptime there are two digits.
        assert!(began - died >= 6.98, "{:.2} s later: {}", began - died, ended.stderr);
        assert!(ended.stderr.contains("until its lock delay is over"), "{}", ended.stderr);
    }
    agent.expect_nothing_left();
}

#[test]
fn a_reader_that_loses_its_entry_is_killed() {
    let agent = Agent::plain();
    let key = unique_key("lost");
    let mut reader = hold(&agent, &["--shared"], &key);
    let other = hold(&agent, &["--shared"], &key);
    let session = {
        let pid = json!(reader.pid().as_raw());
        let ids = readers(&agent, &key);
        let is_his = |id: &&String| {
            let reply = agent.get(&format!("/v1/kv/{key}/.read/{id}?raw"));
            reply.json()["pid"] == pid
        };
        ids.iter().find(is_his).unwrap().clone()
    };
    agent.destroy_session(&session);
    let ended = reader.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("lost {key}: its session has ended")), "{}", ended.stderr);
    reader.expect_no_survivors(PATIENCE);

    let mut other = other;
    let session = readers(&agent, &key).into_iter().find(|id| *id != session).unwrap();
    agent.ask("DELETE", &format!("/v1/kv/{key}/.read/{session}"), b"", PATIENCE).unwrap();
    let ended = other.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert!(ended.stderr.contains("the key was removed by somebody"), "{}", ended.stderr);
}

#[test]
fn a_writer_that_loses_the_key_while_it_waits_for_readers_starts_over() {
    let agent = Agent::plain();
    let key = unique_key("over");
    let reader = hold(&agent, &["--shared"], &key);
    let (writer, session) = writer_inside(&agent, &LOSSES, &key, "echo writes");
    let destroyed = Instant::now();
    agent.destroy_session(&session);
    writer.expect_stderr("the session ended while waiting for", PATIENCE);
    assert_eq!(writer.stdout(), "");
    // Nobody is told to let it alone but its own delay.
    let again = eventually("the writer has the key again", PATIENCE, || agent.holder(&key));
    assert!(again != session && destroyed.elapsed() >= Duration::from_secs(7), "{:?}", destroyed.elapsed());
    assert_eq!(writer.stdout(), "");
    end(reader);
    assert_eq!(done(writer).stdout, "writes\n");
    agent.expect_nothing_left();
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_in_again() {
    let agent = Agent::plain();
    let key = unique_key("gives-up");
    let reader = hold(&agent, &["--shared"], &key);
    let waits = start(&agent, &["-w", "1"], &key, "echo ran");
    expect_held(&{ waits }.wait(PATIENCE));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mut writer, _) = writer_inside(&agent, &[], &key, "echo ran");
        let next = waiter(&agent, &["--shared"], &key, "echo reads").0;
        writer.signal(signal);
        assert_eq!(writer.wait(PATIENCE).signal(), Some(signal as i32));
        assert_eq!(done(next).stdout, "reads\n");
    }
    assert_eq!(agent.keys(&key), [format!("{key}/.read/{}", readers(&agent, &key)[0])]);
    end(reader);
    agent.expect_nothing_left();
}

/// Runs one after the other, each noting when it comes and when it goes.
fn rounds(agent: &Agent, flags: &str, key: &str, name: &str, file: &Path, rounds: usize) -> Running {
    let lock = consul_lock_on(agent);
    let (binary, file) = (lock.get_program().to_str().unwrap(), file.display());
    let script = format!("echo \"+ {name}\" >>{file}; sleep 0.03; echo \"- {name}\" >>{file}");
    let mut shell = std::process::Command::new("sh");
    shell.env("CONSUL_HTTP_ADDR", agent.http_addr());
    let turns = format!("for i in $(seq {rounds}); do {binary} run {flags} {key} -c '{script}' || exit; done");
    Running::start(shell.args(["-c", &turns]))
}

#[test]
fn in_a_crowd_of_both_no_writer_is_ever_beside_anybody_and_nobody_starves() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (unique_key("crowd"), dir.path().join("diary"));
    let names = ["r1", "r2", "r3", "r4", "r5", "w1", "w2", "w3"];
    let flags = |name: &str| if name.starts_with('r') { "--shared" } else { "" };
    let crowd = names.map(|name| rounds(&agent, flags(name), &key, name, &file, 6));
    crowd.into_iter().map(done).for_each(drop);
    let text = fs::read_to_string(&file).unwrap();
    let (mut inside, mut together, mut entered) = (Vec::new(), 0, 0);
    for line in text.lines() {
        let (what, name) = line.split_once(' ').unwrap();
        if what == "+" {
            let is_writer = |name: &&str| name.starts_with('w');
            assert!(inside.is_empty() || !is_writer(&name) && !inside.iter().any(is_writer), "{line} in {text}");
            inside.push(name);
            (together, entered) = (together.max(inside.len()), entered + 1);
        } else {
            inside.retain(|other| *other != name);
        }
    }
    assert_eq!((entered, inside.len()), (names.len() * 6, 0), "{text}");
    assert!(together >= 2, "readers were never inside together: {text}");
    agent.expect_nothing_left();
}

#[test]
fn a_free_reader_takes_as_few_requests_and_proves_what_it_is_not_sure_of() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let verbs = |body: &str| {
        let ops: Value = serde_json::from_str(body).unwrap();
        let verb = |op: &Value| op["KV"]["Verb"].as_str().unwrap().to_owned();
        ops.as_array().unwrap().iter().map(verb).collect::<Vec<_>>().join(" ")
    };
    let enter = "check-not-exists lock delete check-not-exists lock";
    let prove = "check-session check-not-exists lock delete lock";
    let go = "check-session delete";
    let late = Fault::DelayReply(Duration::from_millis(1300));
    let cases =
        [(Fault::None, vec![enter, go]), (late, vec![enter, prove, go]), (Fault::LoseReply, vec![enter, prove, go])];
    for (fault, expected) in cases {
        let (key, before) = (unique_key("few"), proxy.requests().len());
        proxy.rules(vec![Rule::new(fault.clone()).prefix("/v1/txn").times(1)]);
        let mut command = consul_lock_at(&proxy.addr());
        let ended = Running::start(command.args(["run", "--shared", &key, "-c", "echo once"])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "once\n"), "{}", ended.stderr);
        let asked = proxy.requests().split_off(before);
        let writes: Vec<_> =
            asked.iter().filter(|seen| seen.target == "/v1/txn").map(|seen| verbs(&seen.body)).collect();
        assert_eq!(writes, expected, "{fault:?}");
        agent.expect_nothing_left();
    }
}

#[test]
fn a_run_within_a_run_never_waits_for_what_waits_for_it() {
    let agent = Agent::plain();
    let key = unique_key("nested");
    let lock = consul_lock_on(&agent);
    let binary = lock.get_program().to_str().unwrap();
    let nested = |outer: &str, inner: &str| {
        let script = format!("echo outer; {binary} run {inner} {key} -- echo inner");
        start(&agent, &[outer], &key, &script).wait(PATIENCE)
    };
    assert_eq!(nested("--shared", "--shared").stdout, "outer\ninner\n");
    for (outer, inner) in [("--shared", ""), ("--shared", "-n"), ("-v", "--shared")] {
        let ended = nested(outer, inner);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), "outer\n"), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("the run or the script that started this one holds the same lock"),
            "{}",
            ended.stderr
        );
    }
    // A writer in between waits for the outer reader, and the inner one would wait for the writer.
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!(
        "echo outer; until [ -e {} ]; do sleep 0.02; done; {binary} run --shared {key} -- echo inner",
        go.display()
    );
    let mut outer = start(&agent, &["--shared"], &key, &script);
    outer.expect_stdout("outer", PATIENCE);
    let (writer, _) = writer_inside(&agent, &[], &key, "echo writes");
    fs::write(&go, "").unwrap();
    let ended = outer.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), "outer\n"), "{}", ended.stderr);
    assert_eq!(done(writer).stdout, "writes\n");
    agent.expect_nothing_left();
}

#[test]
fn several_keys_are_taken_from_their_readers_in_order_and_read_together() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let root = |flags: &[&str], keys: &[&str], script: &str| {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", agent.root_token()).arg("run").args(flags).args(keys).args(["-c", script]);
        Running::start(&mut command)
    };
    let names: Vec<String> = (0..32).map(|number| format!("s/{number:02}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let few = &all[..3];
    let both = root(&["--shared"], &all[1..3], "echo started; exec sleep 1000");
    both.expect_stdout("started", PATIENCE);
    let session = readers(&agent, all[1])[0].clone();
    assert_eq!(
        (agent.keys("s/"), agent.kv(all[1])),
        ([1, 2].map(|key| format!("s/0{key}/.read/{session}")).into(), None)
    );
    // In one transaction, or where that is too long for it in the next one.
    for keys in [few, &all] {
        let ended = root(&["-n"], keys, "echo ran").wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
        let held = |key: &str| ended.stderr.contains(&format!("{key} is held by sh (pid {} ", both.pid()));
        assert!(held(all[1]) && held(all[2]) && !held(all[0]), "{}", ended.stderr);
        assert_eq!(agent.keys("s/").len(), 2);
    }
    let ended = root(&["-n", "--shared"], few, "echo reads").wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "reads\n"), "{}", ended.stderr);

    let writer = root(&[], few, "echo writes");
    eventually("it has the first two keys", PATIENCE, || agent.holder(all[0]).and(agent.holder(all[1])));
    writer.expect_stderr(&format!("waiting for {}, held by sh", all[1]), PATIENCE);
    assert_eq!((writer.stdout().as_str(), agent.kv(all[2])), ("", None));
    end(both);
    assert_eq!(done(writer).stdout, "writes\n");
    assert_eq!((agent.keys(""), agent.sessions().len()), (Vec::new(), 0));

    let slots = [(); 2].map(|()| {
        let run = root(&["--limit", "2"], &all[..2], "echo $CONSUL_LOCK_SLOT; exec sleep 1000");
        run.expect_stdout("\n", PATIENCE);
        run
    });
    let ended = root(&["-n", "--limit", "2"], &all[..2], "echo ran").wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("all 2 slots of {} are held", all[0])), "{}", ended.stderr);
    slots.into_iter().for_each(end);

    // With a token that may see the readers and no more, it takes some requests, and no less.
    let rules = |key: &&str| {
        format!("key \"{key}\" {{ policy = \"write\" }}\nkey_prefix \"{key}/.read/\" {{ policy = \"read\" }}\n")
    };
    let session_rule = "session_prefix \"\" { policy = \"write\" }\n".to_owned();
    let sees = agent.token_with(&few.iter().map(rules).fold(session_rule.clone(), |all, one| all + &one));
    let blind = agent.token_with(
        &few[..2].iter().map(rules).fold(session_rule + "key \"s/02\" { policy = \"write\" }\n", |all, one| all + &one),
    );
    for flags in [&["-n"][..], &[]] {
        let run = |token: &str| {
            let mut command = consul_lock_on(&agent);
            command.env("CONSUL_HTTP_TOKEN", token).arg("run").args(flags).args(few).args(["-c", "echo ran"]);
            Running::start(&mut command).wait(PATIENCE)
        };
        assert_eq!((run(&sees).code(), run(&sees).stdout.as_str()), (Some(0), "ran\n"));
        let ended = run(&blind);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(77), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("key_prefix \"s/02/.read/\""), "{}", ended.stderr);
        assert_eq!((agent.keys(""), agent.sessions().len()), (Vec::new(), 0));
    }
}

#[test]
fn what_readers_cannot_have_is_refused() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let long = "x".repeat(1025);
    let cases: [(&[&str], &str); 3] = [
        (&["--behavior", "delete"], "a shared lock needs the behavior \"release\""),
        (&["--keep-key"], "--keep-key has no meaning with --shared"),
        (&["--value", &long], "a shared lock's value has 1025 bytes, 1024 is the most"),
    ];
    for (flags, message) in cases {
        let ended = run_on(&agent, &[&["run", "--shared"], flags, &["key", "--", "true"]].concat());
        assert_eq!(ended.code(), Some(64), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{flags:?}: {}", ended.stderr);
    }
    let run = |token: &str, flags: &[&str]| {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", token).arg("run").args(flags).args(["--shared", "a/b", "--", "echo", "ran"]);
        Running::start(&mut command).wait(PATIENCE)
    };
    // Nothing of a session that takes its keys along when it ends.
    let given = agent.create_session(&json!({ "Behavior": "delete", "LockDelay": "20s" }));
    let ended = run(agent.root_token(), &["--session", &given]);
    assert_eq!(ended.code(), Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("a shared lock needs the behavior"), "{}", ended.stderr);

    let rules = |read: &str| {
        format!(
            "session_prefix \"\" {{ policy = \"write\" }}\nkey \"a/b\" {{ policy = \"write\" }}\n\
             key_prefix \"a/b/.read/\" {{ policy = \"{read}\" }}"
        )
    };
    let ended = run(&agent.token_with(&rules("read")), &[]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(77), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("key_prefix \"a/b/.read/\" { policy = \"write\" }"), "{}", ended.stderr);
    assert_eq!(run(&agent.token_with(&rules("write")), &[]).stdout, "ran\n");

    // A session reads once, and neither reads nor writes beside itself.
    let given = agent.create_session(&json!({ "LockDelay": "20s" }));
    let mut command = consul_lock_on(&agent);
    command.env("CONSUL_HTTP_TOKEN", agent.root_token()).args(["run", "--shared", "--session", &given, "a/b"]);
    let reader = Running::start(command.args(["-c", "echo reads; exec sleep 1000"]));
    reader.expect_stdout("reads", PATIENCE);
    for flags in [&["--shared"][..], &[]] {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", agent.root_token()).arg("run").args(flags);
        let ended = Running::start(command.args(["--session", &given, "a/b", "--", "echo", "ran"])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("is held by another run of session"), "{}", ended.stderr);
    }
    end(reader);
    assert_eq!(agent.keys(""), Vec::<String>::new());
}

#[test]
fn more_readers_and_waiters_than_fit_into_four_megabytes_are_seen() {
    let agent = Agent::plain();
    let key = unique_key("crowded");
    // As long as thousands of entries would be, and nobody's: neither is waited for.
    let long = "x".repeat(500_000);
    for number in 0..8 {
        agent.put(&format!("/v1/kv/{key}/.read/{number}"), long.clone());
        agent.put(&format!("/v1/kv/{key}/.queue/{number}"), long.clone());
    }
    let mut holder = hold(&agent, &[], &key);
    let mut waiters = [waiter(&agent, &[], &key, "echo mine").0, waiter(&agent, &[], &key, "echo mine").0];
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    for waiter in &mut waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("no place in the line"), "{}", ended.stderr);
    }
    assert_eq!((agent.keys(&format!("{key}/")).len(), agent.sessions().len()), (16, 0));
}
