//! What is said, to whom, and that saying it delays nothing.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::agent::{Agent, Options, PATIENCE};
use support::hold::full_pipe;
use support::proxy::{Fault, Proxy};
use support::pty::Pty;
use support::running::Running;
use support::{MARK, consul_lock_at, consul_lock_on, eventually, hold, kill_survivors, marker, run_on, unique_key};

/// Each line as the JSON object that it must be.
#[track_caller]
fn objects(said: &str) -> Vec<Value> {
    said.lines()
        .map(|line| {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(object.is_object(), "{line}");
            object
        })
        .collect()
}

/// The first object of this event.
#[track_caller]
fn event<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    objects.iter().find(|object| object["event"] == name).unwrap_or_else(|| panic!("no {name:?} among {objects:#?}"))
}

#[test]
fn success_without_waiting_is_silent() {
    let agent = Agent::plain();
    for flags in
        [&[][..], &["-q"], &["--keep-key"], &["--ttl=30s", "-w", "5"], &["--log-format=text", "--color=always"]]
    {
        let ended = run_on(&agent, &[&["run"], flags, &[&unique_key("silent"), "--", "true"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""), "{flags:?}");
    }
}

#[test]
fn verbose_tells_the_leases_plan() {
    let agent = Agent::plain();
    let key = unique_key("verbose");
    let ended = run_on(&agent, &["run", "-v", &key, "-c", "exit 3"]);
    let plan = "consul-lock: lease: confirmed every 2 s; without a confirmation SIGTERM after 23.5 s, SIGKILL after 28.5 s, \
                nobody else before 30 s";
    let lines: Vec<_> = ended.stderr.lines().collect();
    let [acquired, lease, started, exited, released] = lines[..] else { panic!("{lines:#?}") };
    assert!(acquired.starts_with(&format!("consul-lock: acquired {key} after ")) && acquired.contains("(fence "));
    assert_eq!(lease, plan);
    assert!(started.starts_with("consul-lock: started the command, pid "), "{started}");
    assert_eq!(exited, "consul-lock: the command ended with code 3");
    assert_eq!(released, format!("consul-lock: released {key}"));

    let ended = run_on(&agent, &["run", "-v", "--lock-delay=20s", "-k1", "-s", "INT", &key, "--", "true"]);
    assert!(
        ended.stderr.contains("SIGINT after 18 s, SIGKILL after 19 s, nobody else before 20 s"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_loss_is_told_even_quietly() {
    let agent = Agent::plain();
    let key = unique_key("loss");
    let mut holder = hold(&agent, &["-q", "--lock-delay=20s"], &key);
    agent.destroy_session(&agent.holder(&key).unwrap());
    let ended = holder.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76));
    let lines: Vec<_> = ended.stderr.lines().collect();
    let [lost, dead] = lines[..] else { panic!("{lines:#?}") };
    assert!(
        lost.starts_with(&format!("consul-lock: lost {key}: its session has ended; ending the command, ")),
        "{lost}"
    );
    assert!(dead.contains("was dead ") && dead.ends_with("before anybody else could hold the lock"), "{dead}");
}

#[test]
fn each_line_of_json_is_an_object_that_says_when_and_of_which_lock() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("json");
    let mut first = hold(&agent, &[], &key);
    let mut command = consul_lock_at(&proxy.addr());
    command.args([
        "run",
        "--log-format=json",
        "-vv",
        &key,
        "--",
        "sh",
        "-c",
        "trap '' USR1; echo started; read line; exit 7",
    ]);
    let mut running = Running::start_with_stdin(&mut command, Stdio::piped());
    running.expect_stderr("\"waiting\"", PATIENCE);
    first.signal(Signal::SIGTERM);
    first.wait(PATIENCE);
    running.expect_stdout("started", PATIENCE);
    running.signal(Signal::SIGUSR1);
    running.expect_stderr("\"signal\"", PATIENCE);
    proxy.set(Fault::Status(500, "No cluster leader".into()));
    running.expect_stderr("\"unconfirmed\"", PATIENCE);
    proxy.set(Fault::None);
    let told_again =
        || running.stderr().lines().any(|line| line.contains("\"confirmed\"") && !line.contains("\"after\":null"));
    eventually("the lock is confirmed again", PATIENCE, || told_again().then_some(()));
    drop(running.take_stdin());
    let ended = running.wait(PATIENCE);
    assert_eq!(ended.code(), Some(7), "{}", ended.stderr);

    let objects = objects(&ended.stderr);
    let fence = event(&objects, "acquired")["fence"].as_u64().unwrap();
    let session = event(&objects, "acquired")["session"].as_str().unwrap().to_owned();
    let mut acquired = false;
    for object in &objects {
        acquired |= object["event"] == "acquired";
        humantime::parse_rfc3339(object["ts"].as_str().unwrap()).unwrap();
        assert_eq!(object["key"], key.as_str(), "{object}");
        if acquired {
            assert_eq!(
                (object["session"].as_str(), object["fence"].as_u64()),
                (Some(session.as_str()), Some(fence)),
                "{object}"
            );
        }
    }
    let holder = &event(&objects, "waiting")["holder"];
    assert_eq!(holder["record"]["pid"], first.pid().as_raw());
    assert!(holder["session"].as_str().unwrap().len() == 36 && holder["session"] != session.as_str());
    assert!(event(&objects, "acquired")["after"].as_f64().unwrap() > 0.0);
    assert_eq!(event(&objects, "lease")["kill_after"], 28.5);
    assert!(event(&objects, "started")["pid"].as_i64().unwrap() > 1);
    assert_eq!(
        (&event(&objects, "signal")["signal"], &event(&objects, "signal")["forwarded"]),
        (&"SIGUSR1".into(), &true.into())
    );
    let unconfirmed = event(&objects, "unconfirmed");
    assert!(
        unconfirmed["reason"].as_str().unwrap().contains("No cluster leader")
            && unconfirmed["left"].as_f64().unwrap() > 10.0
    );
    assert_eq!((&event(&objects, "exited")["code"], &event(&objects, "exited")["signal"]), (&7.into(), &Value::Null));
    assert_eq!(objects.last().unwrap()["event"], "released");
}

#[test]
fn losses_and_errors_are_objects_too() {
    let agent = Agent::plain();
    let key = unique_key("json");
    let mut holder = hold(&agent, &["--log-format=json", "-q", "--lock-delay=20s"], &key);
    agent.destroy_session(&agent.holder(&key).unwrap());
    let objects_of_loss = objects(&holder.wait(PATIENCE).stderr);
    let lost = event(&objects_of_loss, "lost");
    assert!(
        lost["reason"] == "its session has ended" && lost["key"] == key.as_str() && lost["fence"].is_u64(),
        "{lost}"
    );
    let killed = event(&objects_of_loss, "killed");
    assert!(killed["left"].as_f64().unwrap() > 5.0 && killed["after"].as_f64().unwrap() < 10.0, "{killed}");

    let refused = run_on(&agent, &["run", "--log-format=json", "-n", &key, "--", "true"]);
    let objects_of_refusal = objects(&refused.stderr);
    let error = event(&objects_of_refusal, "error");
    assert_eq!((refused.code(), &error["exit_code"], &error["key"]), (Some(75), &75.into(), &key.as_str().into()));
    let refused = run_on(&agent, &["run", "--log-format=json", "a//b", "--", "true"]);
    assert_eq!(event(&objects(&refused.stderr), "error")["exit_code"], 64);
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let agent = Agent::plain();
    let coloured = |flags: &[&str], no_color: Option<&str>| {
        let mut command = consul_lock_on(&agent);
        command.arg("run").args(flags).args(["-v", &unique_key("colour"), "--", "true"]);
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        Running::start(&mut command).wait(PATIENCE).stderr.contains('\x1b')
    };
    assert!(!coloured(&[], None), "standard error is a pipe");
    assert!(coloured(&["--color=always"], None));
    assert!(coloured(&["--color=always"], Some("1")), "what is typed goes before what is set");
    assert!(!coloured(&["--color=never"], None));

    let on_terminal = |flags: &[&str], no_color: Option<&str>| {
        let mut command = Command::new("env");
        // The terminal of the tests is a dumb one.
        command.arg("TERM=xterm").arg(consul_lock_on(&agent).get_program()).arg("run").args(flags);
        command.args(["-v", &unique_key("colour"), "--", "true"]).env("CONSUL_HTTP_ADDR", agent.http_addr());
        command.env_remove("NO_COLOR");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let mut terminal = Pty::spawn(&command);
        assert!(terminal.wait(PATIENCE).success());
        eventually("the last line is there", PATIENCE, || terminal.screen_so_far().contains("released").then_some(()));
        terminal.screen_so_far().contains("\x1b[36m")
    };
    assert!(on_terminal(&[], None));
    assert!(on_terminal(&[], Some("")), "an empty NO_COLOR is none");
    assert!(!on_terminal(&[], Some("1")));
    assert!(!on_terminal(&["--color=never"], None));
}

#[test]
fn no_token_is_in_any_message_nor_in_the_list_of_processes() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let token = agent.token_with(r#"session_prefix "" { policy = "write" } key_prefix "" { policy = "write" }"#);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, &token).unwrap();
    for way in ["variable", "file"] {
        let key = unique_key("token");
        let mut proxy = Proxy::start(&agent.http_addr());
        let mut command = consul_lock_at(&proxy.addr());
        if way == "variable" {
            command.env("CONSUL_HTTP_TOKEN", &token);
        } else {
            command.args(["run", "--token-file"]).arg(&file);
        }
        if way == "variable" {
            command.arg("run");
        }
        let mut running = Running::start(command.args(["-vv", &key, "-c", "echo started; exec sleep 1000"]));
        running.expect_stdout("started", PATIENCE);
        for (pid, name) in running.survivors() {
            let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned();
            assert!(!line.contains(&token), "{name}: {line}");
        }
        proxy.set(Fault::Status(403, "Permission denied".into()));
        running.expect_stderr("Permission denied", PATIENCE);
        proxy.set(Fault::None);
        running.signal(Signal::SIGTERM);
        let ended = running.wait(PATIENCE);
        assert_eq!(ended.signal(), Some(15));
        assert!(!ended.stderr.contains(&token) && ended.stderr.lines().count() > 5, "{}", ended.stderr);
    }
    // One that Consul does not know, nor shows.
    let wrong = "11111111-2222-3333-4444-555555555555";
    let mut command = consul_lock_on(&agent);
    command.args(["run", "-vv", "--retry-for=1s", "--token", wrong, &unique_key("token"), "--", "true"]);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!(ended.code(), Some(77), "{}", ended.stderr);
    assert!(!ended.stderr.contains(wrong) && ended.stderr.contains("the token is unknown there"), "{}", ended.stderr);
}

#[test]
fn a_last_word_that_nobody_reads_does_not_keep_the_run_from_ending() {
    let agent = Agent::plain();
    let key = unique_key("full");
    let mut holder = hold(&agent, &[], &key);
    for (words, code) in [(["run", &key, "--", "no-such-command"], 127), (["run", "-n", &key, "true"], 64)] {
        let (reader, stderr) = full_pipe();
        let mut run = Running::start_with_stderr(consul_lock_on(&agent).args(words), stderr);
        assert_eq!(run.wait(PATIENCE).code(), Some(code));
        drop(reader);
    }
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
}

#[test]
fn a_standard_error_that_nobody_reads_delays_and_kills_nothing() {
    let agent = Agent::plain();
    let mark = marker();
    let (reader, stderr) = full_pipe();
    let key = unique_key("full");
    let mut command = consul_lock_on(&agent);
    command.args(["run", "-vv", "--lock-delay=3s", "-k", "0.5", &key, "-c", "sleep 4; echo done"]);
    let start = Instant::now();
    let mut child =
        command.env(MARK, &mark).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let status = eventually("the run is over", PATIENCE, || child.try_wait().unwrap());
    // Four seconds of work outlive the lease of three only if confirmations go on.
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(std::io::read_to_string(child.stdout.take().unwrap()).unwrap(), "done\n");
    agent.expect_nothing_left();
    kill_survivors(&mark);
    drop(reader);
}

#[test]
fn a_loss_kills_in_time_although_nobody_reads_standard_error() {
    let agent = Agent::plain();
    let mark = marker();
    let (reader, stderr) = full_pipe();
    let key = unique_key("full");
    let mut command = consul_lock_on(&agent);
    command.args(["run", "-vv", "--lock-delay=10s", &key, "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    let mut child = command.env(MARK, &mark).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let session = eventually("the lock is held", PATIENCE, || agent.holder(&key));
    let start = Instant::now();
    agent.destroy_session(&session);
    let status = eventually("the run is over", PATIENCE, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(76));
    assert!(start.elapsed() < Duration::from_secs(10), "dead after {:?}", start.elapsed());
    assert_eq!(support::survivors(&mark), []);
    drop(reader);
}

/// An environment in which no thread can be started: none can have a stack of this size.
const NO_THREADS: (&str, &str) = ("RUST_MIN_STACK", "1152921504606846976");

#[test]
fn what_is_wrong_is_told_even_where_no_thread_can_be_had() {
    let agent = Agent::plain();
    let key = unique_key("threads");
    let expect = |words: &[&str], code, message: &str| {
        let ended = Running::start(consul_lock_on(&agent).args(words).env(NO_THREADS.0, NO_THREADS.1)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(message) && ended.stderr.lines().count() == 1, "{words:?}: {}", ended.stderr);
    };
    expect(&["run", "", "--", "echo"], 64, "the key is empty");
    expect(&["run", &key, "--", "no-such-command"], 127, "no such command");
    for lock in [&["run", &key][..], &["run", "--local", &key]] {
        expect(&[lock, &["--", "echo"]].concat(), 70, "cannot start a thread");
    }
    agent.expect_nothing_left();
    // Nor is anybody waited for who does not read.
    let (reader, stderr) = full_pipe();
    let words = ["run", &key, "--", "no-such-command"];
    let mut command = consul_lock_on(&agent);
    let mut run = Running::start_with_stderr(command.args(words).env(NO_THREADS.0, NO_THREADS.1), stderr);
    assert_eq!(run.wait(PATIENCE).code(), Some(127));
    drop(reader);
}

#[test]
fn a_standard_error_that_is_closed_is_no_reason_to_fail() {
    let agent = Agent::plain();
    for redirection in ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"] {
        let mut shell = Command::new("sh");
        let script = format!(r#""$0" run -vv {} -- sh -c 'exit 6' {redirection}"#, unique_key("closed"));
        shell
            .arg("-c")
            .arg(script)
            .arg(consul_lock_on(&agent).get_program())
            .env("CONSUL_HTTP_ADDR", agent.http_addr());
        assert_eq!(Running::start(&mut shell).wait(PATIENCE).code(), Some(6), "{redirection}");
        agent.expect_nothing_left();
    }
}
