//! `acquire` in scripts: what it prints and what a shell makes of it, as a lease and with a keeper.

mod support;

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::agent::{Agent, LOCK_FLAGS, PATIENCE};
use support::running::Running;
use support::shell::{SHELLS, script};
use support::{consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

/// Both kinds of a detached lock.
const KINDS: [&[&str]; 2] = [&["--ttl=20s"], &["--hold", "--max=10m"]];

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

fn value(entry: &Value) -> Vec<u8> {
    STANDARD.decode(entry["Value"].as_str().expect("a value")).expect("base64")
}

#[test]
fn every_shell_reads_the_variables_as_they_are_and_a_trap_releases_the_lock() {
    let agent = Agent::plain();
    let key = format!("{} it's \"$(touch pwned)\" `id` ; & * ! \\n ~ü", unique_key("quoting"));
    let stored = "a 'value'\n$(id) `id` \"\\\n\n";
    for shell in SHELLS {
        for kind in ["--ttl 20s --value \"$VALUE\"", "--hold --pid $$ --value \"$VALUE\""] {
            let text = format!(
                "set -eu; eval \"$(consul-lock acquire --export {kind} \"$KEY\")\"; trap 'consul-lock release' EXIT
                 consul-lock renew; test \"$CONSUL_LOCK_KEY\" = \"$KEY\"
                 printf '%s\\n' \"$CONSUL_LOCK_SESSION\" \"$CONSUL_LOCK_FENCE\" \"e$CONSUL_LOCK_EXPIRES\" held; read line"
            );
            let mut command = script(&agent, shell, &text);
            command.env("KEY", &key).env("VALUE", stored);
            let mut running = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
            running.expect_stdout("held\n", PATIENCE);
            let said = running.stdout();
            let [session, fence, expires, _] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
            // The key is in a path below, where it would have to be encoded.
            let entries = agent.get("/v1/kv/test/quoting/?recurse").json();
            let entry = &entries[0];
            assert_eq!((&entry["Key"], &entry["Session"]), (&json!(key), &json!(session)), "{shell}");
            assert_eq!((value(entry), entry["Flags"].as_u64()), (stored.as_bytes().to_vec(), Some(LOCK_FLAGS)));
            assert_eq!(entry["ModifyIndex"].to_string(), fence);
            let left = expires.strip_prefix('e').unwrap().parse::<u64>().map(|at| at.saturating_sub(now()));
            assert!(if kind.contains("hold") { left.is_err() } else { left.is_ok_and(|left| left <= 20) }, "{said}");
            drop(running.take_stdin());
            let ended = running.wait(PATIENCE);
            // `read` at the end of the input fails, and `set -e` ends the script there; the trap comes all the same.
            assert_eq!((ended.code(), ended.stderr.as_str()), (Some(1), ""), "{shell}");
            running.expect_no_survivors(PATIENCE);
            agent.expect_nothing_left();
        }
    }
    assert!(!std::path::Path::new("pwned").exists());
}

#[test]
fn a_failure_ends_a_script_with_its_code() {
    let agent = Agent::plain();
    let key = unique_key("failure");
    let _holder = hold(&agent, &[], &key);
    let cases = [
        (format!("-n --ttl 10s {key}"), 75, "is held by sh"),
        (format!("-n -E 9 --hold --max 1h {key}"), 9, "is held by sh"),
        (format!("-q -n --ttl 10s {key}"), 75, ""),
        ("--ttl 10s a//b".into(), 64, "empty segment"),
        ("--bogus a".into(), 64, "--bogus"),
        ("--hold --pid nobody a".into(), 64, "nobody"),
        ("--ttl 10s --http-addr http://[ a".into(), 64, "--http-addr"),
        ("--ttl 10s --token-file /nowhere a".into(), 78, "/nowhere"),
        ("--hold --max 1h --retry-for 0 --http-addr 127.0.0.1:1 a".into(), 69, "connection refused"),
        ("--ttl 10s --retry-for 0 --http-addr 127.0.0.1:1 a".into(), 69, "connection refused"),
    ];
    for (number, (arguments, code, message)) in cases.iter().enumerate() {
        let shell = SHELLS[number % SHELLS.len()];
        let forms = [
            format!("set -e; eval \"$(consul-lock acquire --export {arguments})\"; echo went on"),
            format!("set -e; lock=$(consul-lock acquire --export {arguments}); eval \"$lock\"; echo went on"),
            format!(
                "out=$(consul-lock acquire --export {arguments}); echo \"$?=$out\" | grep -xF '{code}=(exit {code})'"
            ),
        ];
        for (form, expected) in forms.iter().zip([*code, *code, 0]) {
            let ended = Running::start(&mut script(&agent, shell, form)).wait(PATIENCE);
            assert_eq!(ended.code(), Some(expected), "{shell}: {form}: {}", ended.stderr);
            assert!(!ended.stdout.contains("went on") && ended.stderr.contains(message), "{form}: {}", ended.stderr);
        }
    }
    // What is no command at all, too.
    for line in ["aquire --export", "-q acquire --export --ttl 10s"] {
        let text = format!("set -e; eval \"$(consul-lock {line} {key})\"; echo went on");
        let ended = Running::start(&mut script(&agent, "dash", &text)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{line}: {}", ended.stderr);
    }
    let ended = run_on(&agent, &["acquire", "-n", "--ttl=10s", &key]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""));
    assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1));
}

#[test]
fn without_export_the_session_alone_is_printed_and_its_flags_are_those_of_run() {
    let agent = Agent::plain();
    let key = unique_key("flags");
    for kind in [&["--ttl=20s"][..], &["--ttl=20s", "--hold", "--max=10m"]] {
        let flags = ["--session-name=ours", "--lock-delay=7s", "--behavior=delete", "--no-checks", "--keep-key"];
        let mut command = consul_lock_on(&agent);
        let mut acquiring = Running::start(command.arg("acquire").args(kind).args(flags).arg(&key));
        let ended = acquiring.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
        let session = ended.stdout.strip_suffix('\n').expect("a line");
        let expected = json!({
            "ID": session, "Name": "ours", "TTL": "20s", "LockDelay": 7_000_000_000_u64, "Behavior": "delete", "NodeChecks": [],
        });
        let made = agent.sessions().remove(0);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&made[name], value, "{name}");
        }
        let entry = agent.kv(&key).unwrap();
        let record: Value = serde_json::from_slice(&value(&entry)).unwrap();
        assert_eq!(record["detached"], json!({ "own_session": true, "keep_key": true, "keys": 1 }));
        assert_eq!(record["lock_delay"], "7s");
        let released = run_on(&agent, &["release", &key, "--session", session]);
        assert_eq!((released.code(), released.stdout.as_str(), released.stderr.as_str()), (Some(0), "", ""));
        // What --keep-key asked for is remembered.
        let entry = agent.kv(&key).expect("the key was kept");
        let record: Value = serde_json::from_slice(&value(&entry)).unwrap();
        assert_eq!((entry["Session"].as_str(), entry["Flags"].as_u64()), (None, Some(LOCK_FLAGS)));
        assert!(record["released_at"].is_string());
        acquiring.expect_no_survivors(PATIENCE);
        assert_eq!(agent.sessions().len(), 0);
    }
}

#[test]
fn a_waiting_acquire_takes_its_turn_in_the_line_or_gives_up_and_leaves_nothing() {
    let agent = Agent::plain();
    let key = unique_key("waiting");
    let holder = hold(&agent, &[], &key);
    for kind in KINDS {
        for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
            let mut command = consul_lock_on(&agent);
            let mut waiter = Running::start(command.args(["acquire", "--export"]).args(kind).arg(&key));
            waiter.expect_stderr("waiting for", PATIENCE);
            waiter.signal(signal);
            let ended = waiter.wait(PATIENCE);
            assert_eq!(ended.signal(), Some(signal as i32), "{ended:?}");
            assert_eq!(ended.stdout, format!("(exit {code})\n"));
            waiter.expect_no_survivors(PATIENCE);
            assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1), "{kind:?} {signal}");
        }
    }
    // Killed, it cannot clean up, but its keeper hears of it.
    let mut command = consul_lock_on(&agent);
    let mut waiter = Running::start(command.args(["acquire", "--hold", "--max=1h", &key]));
    waiter.expect_stderr("waiting for", PATIENCE);
    waiter.signal(Signal::SIGKILL);
    waiter.wait(PATIENCE);
    waiter.expect_no_survivors(PATIENCE);
    assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1));

    let late = run_on(&agent, &["acquire", "--ttl=10s", "-w", "100ms", &key]);
    assert_eq!((late.code(), late.stdout.as_str()), (Some(75), ""));
    let mut waiters = Vec::new();
    for kind in KINDS {
        waiters.push(Running::start(consul_lock_on(&agent).arg("acquire").args(kind).arg(&key)));
        eventually("it has its place in the line", PATIENCE, || {
            (agent.keys(&format!("{key}/.queue/")).len() == waiters.len()).then_some(())
        });
    }
    holder.signal(Signal::SIGTERM);
    for waiter in &mut waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!((ended.code(), agent.holder(&key).as_deref()), (Some(0), ended.stdout.lines().next()));
        let released = run_on(&agent, &["release", &key, "--session", ended.stdout.trim_end()]);
        assert_eq!(released.code(), Some(0), "{}", released.stderr);
        waiter.expect_no_survivors(PATIENCE);
    }
    agent.expect_nothing_left();
}

#[test]
fn a_lock_that_nobody_can_be_told_of_is_given_back() {
    let agent = Agent::plain();
    let key = unique_key("full");
    for kind in KINDS {
        for redirection in [">/dev/full", "| true"] {
            let text = format!("(consul-lock acquire --export {} '{key}'; echo $? >&2) {redirection}", kind.join(" "));
            let mut running = Running::start(&mut script(&agent, "bash", &text));
            // Whether `true` has ended already when the line is written, nobody knows; if not, there is nothing to tell.
            let ended = running.wait(PATIENCE);
            if redirection.contains("full") {
                assert!(ended.stderr.contains("standard output") && ended.stderr.ends_with("70\n"), "{}", ended.stderr);
                running.expect_no_survivors(PATIENCE);
                agent.expect_nothing_left();
            } else if ended.stderr.ends_with("70\n") {
                assert_eq!(agent.holder(&key), None);
            }
            if let Some(session) = agent.holder(&key) {
                assert_eq!(run_on(&agent, &["release", &key, "--session", &session]).code(), Some(0));
            }
            running.expect_no_survivors(PATIENCE);
        }
        // One that is closed from the start is like /dev/null: nobody wants to know.
        let text = format!("consul-lock acquire {} '{key}' >&-", kind.join(" "));
        let mut running = Running::start(&mut script(&agent, "dash", &text));
        assert_eq!(running.wait(PATIENCE).code(), Some(0));
        let session = agent.holder(&key).expect("it is held");
        assert_eq!(run_on(&agent, &["release", &key, "--session", &session]).code(), Some(0));
        running.expect_no_survivors(PATIENCE);
    }
    agent.expect_nothing_left();
}

#[test]
fn a_given_session_is_renewed_for_the_script_and_outlives_the_lock() {
    let agent = Agent::plain();
    let key = unique_key("given");
    let given = agent.create_session(&json!({ "TTL": "60s", "LockDelay": "20s" }));
    let endless = agent.create_session(&json!({ "LockDelay": "20s" }));
    for (session, has_end) in [(&given, true), (&endless, false)] {
        let text = format!(
            "set -e; eval \"$(consul-lock acquire --export --session {session} {key})\"; echo \"$CONSUL_LOCK_SESSION\"
             echo \"${{CONSUL_LOCK_EXPIRES:-never}}\"; eval \"$(consul-lock renew --export)\"; echo \"${{CONSUL_LOCK_EXPIRES:-never}}\"
             consul-lock release"
        );
        let before = now();
        let ended = Running::start(&mut script(&agent, "dash", &text)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
        let [printed, first, second] = ended.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{ended:?}") };
        assert_eq!(printed, session);
        for expires in [first, second] {
            if has_end {
                let expires: u64 = expires.parse().expect("a number");
                assert!(expires >= before + 59 && expires <= now() + 60, "{expires}");
            } else {
                assert_eq!(expires, "never");
            }
        }
    }
    assert_eq!((agent.sessions().len(), agent.keys("").len()), (2, 0));
    let refused = run_on(&agent, &["acquire", "--session", &given, "--ttl=20s", &key]);
    assert_eq!(refused.code(), Some(64), "{}", refused.stderr);
}

#[test]
fn a_script_that_would_wait_for_itself_is_told() {
    let agent = Agent::plain();
    let key = unique_key("itself");
    let text = format!(
        "eval \"$(consul-lock acquire --export --ttl 20s {key})\"
         consul-lock acquire --ttl 20s {key}; echo $?; consul-lock acquire --hold --max 1h {key}; echo $?; consul-lock release"
    );
    let ended = Running::start(&mut script(&agent, "dash", &text)).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "64\n64\n"), "{}", ended.stderr);
    let text = format!(
        "consul-lock acquire -n --ttl 20s {key}; echo $?; consul-lock acquire --hold --max 1h {key}; echo $?
         consul-lock release; echo $?; consul-lock renew; echo $?"
    );
    let ended =
        Running::start(&mut script(&agent, "dash", &format!("consul-lock run {key} -c '{text}'"))).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "64\n64\n64\n0\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the run that this script runs in"), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn a_run_in_a_script_that_holds_its_lock_is_told() {
    let agent = Agent::plain();
    let [key, other] = ["script", "other"].map(unique_key);
    for (shell, kind) in SHELLS.into_iter().zip(KINDS.into_iter().cycle()) {
        let text = format!(
            r#"eval "$(consul-lock acquire --export {} {key})"; trap 'consul-lock release' EXIT
             consul-lock run {key} -- echo never; echo $?
             consul-lock run --shared {key} -- echo never; echo $?
             consul-lock run {other} {key} -- echo never; echo $?
             consul-lock run {other} -- consul-lock run {key} -- echo never; echo $?
             consul-lock run {other} -c 'test "$CONSUL_LOCK_SESSION" != '"$CONSUL_LOCK_SESSION"' && printf "%s\n" "$CONSUL_LOCK_CHAIN"' |
                 grep -c .
             consul-lock run --session "$CONSUL_LOCK_SESSION" {key} -- echo never; echo $?
             SESSION=$CONSUL_LOCK_SESSION consul-lock run {other} -c 'consul-lock release {key} --session "$SESSION"'; echo $?
             consul-lock release; consul-lock run {key} -- echo free
             eval "$(consul-lock acquire --export {} {key})""#,
            kind.join(" "),
            kind.join(" ")
        );
        let ended = Running::start(&mut script(&agent, shell, &text)).wait(PATIENCE);
        let expected = (Some(0), "64\n64\n64\n64\n2\n75\n64\nfree\n");
        assert_eq!((ended.code(), ended.stdout.as_str()), expected, "{shell}: {}", ended.stderr);
        agent.expect_nothing_left();
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_asked() {
    let mut ended_process = std::process::Command::new("true").spawn().expect("true is there");
    let gone = ended_process.id().to_string();
    ended_process.wait().expect("it ends");
    let key = unique_key("usage");
    let cases: [(&[&str], &str); 19] = [
        (&["acquire", &key], "by --ttl"),
        (&["acquire", "--ttl=5s", &key], "10 s at least"),
        (&["acquire", "--hold", &key], "--pid PID"),
        (&["acquire", "--ttl=20s", "--pid=1", &key], "--hold"),
        (&["acquire", "--ttl=20s", "--max=1h", &key], "--hold"),
        (&["acquire", "--hold", "--pid", &gone, &key], "there is no process"),
        (&["acquire", "--hold", "--pid=0", &key], "--pid"),
        (&["acquire", "--hold", "--max=0", &key], "--max 0"),
        (&["acquire", "--ttl=20s", "--lock-delay=0", &key], "--no-guarantee"),
        (&["acquire", "--ttl=20s", "--keep-key", "--value=x", &key], "consul-lock release"),
        (&["acquire", "--ttl=20s", "-n", "3", &key], "--limit 3"),
        (&["acquire", "--ttl=20s", "--local", &key], "consul-lock run --local"),
        (&["renew", "--local=/tmp", &key], "consul-lock run --local"),
        (&["release", "--local"], "consul-lock run --local"),
        (&["release"], "acquire --export"),
        (&["renew", &key], "which lock?"),
        (&["release", "--session", "nobody", &key], "is no session"),
        (&["renew", "--session", "00000000-1111-2222-3333-444444444444"], "which lock?"),
        (&["release", "--session", "00000000-1111-2222-3333-444444444444", &key, "a//b"], "empty segment"),
    ];
    for (arguments, message) in cases {
        // Nobody listens there.
        let ended = Running::start(consul_lock_at("127.0.0.1:1").args(arguments)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{arguments:?}: {}", ended.stderr);
    }
    let help = Running::start(consul_lock_at("127.0.0.1:1").args(["acquire", "--help"])).wait(PATIENCE);
    assert!(help.stdout.replace('\n', " ").contains("nobody is killed"), "{}", help.stdout);
}
