//! `acquire --hold`: the process in the background that keeps a script's lock, and what it leaves to the script.

mod support;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use support::agent::{Agent, PATIENCE};
use support::proxy::{Fault, Proxy};
use support::running::Running;
use support::shell::{SHELLS, script};
use support::{consul_lock_at, eventually, hold, is_alive, run_on, unique_key};

const NAME: &str = "lock-keeper";

/// Acquires `key` at this address, with `--hold`: the finished command, its session, and the keeper.
#[track_caller]
fn acquire_at(addr: &str, flags: &[&str], key: &str) -> (Running, String, Pid) {
    let mut command = consul_lock_at(addr);
    let mut acquiring = Running::start(command.args(["acquire", "--hold"]).args(flags).arg(key));
    let ended = acquiring.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    let keeper = acquiring.expect_process(NAME, PATIENCE);
    (acquiring, ended.stdout.trim_end().to_owned(), keeper)
}

#[track_caller]
fn step(agent: &Agent, command: &str, key: &str, session: &str) -> Option<i32> {
    run_on(agent, &[command, key, "--session", session]).code()
}

/// The parent of a process that lives.
fn parent(pid: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let field = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).expect("proc_pid_stat(5)");
    Pid::from_raw(field.parse().expect("a number"))
}

/// Asserts that the lock can be had at once: it was released, and not lost.
#[track_caller]
fn expect_free(agent: &Agent, key: &str) {
    assert_eq!(run_on(agent, &["run", "-n", key, "--", "true"]).code(), Some(0));
}

#[test]
fn a_keeper_has_nothing_of_the_script_and_ends_when_the_lock_is_released() {
    let agent = Agent::plain();
    for shell in SHELLS {
        let key = unique_key("keeper");
        // A step that reads our output to its end, on all descriptors, as CI runners do, must not wait for the keeper.
        let text = format!(
            "set -e; exec 7>&1 8</etc/passwd; session=$(consul-lock acquire --hold --pid $$ {key} 2>&1); echo \"$session\"
             read line; consul-lock release {key} --session \"$session\"; echo released; read line"
        );
        let mut command = script(&agent, shell, &text);
        command.env("CONSUL_HTTP_TOKEN", "5ecre7");
        let mut running = Running::start_with_stdin(&mut command, Stdio::piped());
        running.expect_stdout("\n", PATIENCE);
        let keeper = running.expect_process(NAME, PATIENCE);
        let proc = format!("/proc/{keeper}");
        assert_eq!(running.stdout().trim_end(), agent.holder(&key).expect("it is held"), "{shell}");
        assert_eq!(getsid(Some(keeper)), Ok(keeper));
        assert_ne!(parent(keeper), running.pid(), "the script would have to reap it");
        assert_eq!(fs::read_link(format!("{proc}/cwd")).expect("it lives").to_str(), Some("/"));
        assert!(!String::from_utf8_lossy(&fs::read(format!("{proc}/cmdline")).expect("it lives")).contains("5ecre7"));
        for descriptor in fs::read_dir(format!("{proc}/fd")).expect("it lives").flatten() {
            // One that is closed by now is none of the script's.
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let (number, target) = (descriptor.file_name(), target.to_string_lossy().into_owned());
            let of_its_own = target.starts_with("socket:") || target.contains("pidfd");
            let is_standard = ["0", "1", "2"].contains(&number.to_str().expect("a number"));
            assert!(if is_standard { target == "/dev/null" } else { of_its_own }, "{shell}: {number:?} is {target}");
        }
        let mut stdin = running.take_stdin().expect("a pipe");
        std::io::Write::write_all(&mut stdin, b"\n").expect("the script reads");
        running.expect_stdout("released", PATIENCE);
        eventually("the keeper ends", PATIENCE, || (!is_alive(keeper.as_raw())).then_some(()));
        // The script goes on, and has no child that it would have to wait for.
        assert_eq!(running.survivors().len(), 1, "{:?}", running.survivors());
        drop(stdin);
        running.wait(PATIENCE);
        agent.expect_nothing_left();
    }
}

#[test]
fn a_keeper_releases_the_lock_when_the_script_is_gone_or_the_time_is_over_or_a_signal_comes() {
    let agent = Agent::plain();
    let key = unique_key("end");
    for (signal, shell) in [(Signal::SIGKILL, "bash"), (Signal::SIGTERM, "zsh")] {
        let text =
            format!("eval \"$(consul-lock acquire --export --hold --pid $$ --max 1h {key})\"; echo held; read line; :");
        let mut running = Running::start_with_stdin(&mut script(&agent, shell, &text), Stdio::piped());
        running.expect_stdout("held", PATIENCE);
        // `env` has become the shell, so that its number is the one that we know.
        running.signal(signal);
        running.wait(PATIENCE);
        running.expect_no_survivors(PATIENCE);
        expect_free(&agent, &key);
    }
    let (running, _, _) = acquire_at(&agent.http_addr(), &["--max=500ms"], &key);
    running.expect_no_survivors(PATIENCE);
    expect_free(&agent, &key);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (running, session, keeper) = acquire_at(&agent.http_addr(), &["--max=1h"], &key);
        kill(keeper, signal).expect("it lives");
        running.expect_no_survivors(PATIENCE);
        assert_eq!(step(&agent, "renew", &key, &session), Some(76));
        expect_free(&agent, &key);
    }
    // The time that a script is told is the keeper's, not the session's.
    let text = format!(
        "eval \"$(consul-lock acquire --export --hold --max 1h {key})\"; echo $((CONSUL_LOCK_EXPIRES - $(date +%s)))"
    );
    let mut running = Running::start(&mut script(&agent, "dash", &text));
    let left: u64 = running.wait(PATIENCE).stdout.trim_end().parse().expect("a number");
    assert!((3500..=3600).contains(&left), "{left}");
    let session = agent.holder(&key).expect("it is held");
    assert_eq!(step(&agent, "release", &key, &session), Some(0));
    running.expect_no_survivors(PATIENCE);
    agent.expect_nothing_left();
}

#[test]
fn a_script_that_ends_while_its_keeper_waits_leaves_the_line() {
    let agent = Agent::plain();
    let key = unique_key("waits");
    let _holder = hold(&agent, &[], &key);
    let mut process = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep is there");
    let mut command = consul_lock_at(&agent.http_addr());
    let mut waiter = Running::start(command.args(["acquire", "--hold", "--pid", &process.id().to_string(), &key]));
    eventually("it waits", PATIENCE, || (!agent.keys(&format!("{key}/.queue/")).is_empty()).then_some(()));
    process.kill().expect("it lives");
    let ended = waiter.wait(PATIENCE);
    process.wait().expect("it is our child");
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""));
    assert!(ended.stderr.contains("--pid has ended"), "{}", ended.stderr);
    waiter.expect_no_survivors(PATIENCE);
    assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1));
}

#[test]
fn a_lost_lock_ends_its_keeper_and_the_script_hears_of_it_when_it_asks() {
    let agent = Agent::plain();
    let key = unique_key("lost");
    // Evicted; taken away by a client that knows no locks; killed by somebody.
    let (running, session, _) = acquire_at(&agent.http_addr(), &["--max=1h", "--lock-delay=1500ms"], &key);
    agent.destroy_session(&session);
    running.expect_no_survivors(PATIENCE);
    assert_eq!((step(&agent, "renew", &key, &session), step(&agent, "release", &key, &session)), (Some(76), Some(76)));
    assert_eq!(run_on(&agent, &["run", &key, "--", "true"]).code(), Some(0));

    let (running, session, _) = acquire_at(&agent.http_addr(), &["--max=1h"], &key);
    agent.ask("DELETE", &format!("/v1/kv/{key}"), b"", PATIENCE).expect("an answer");
    running.expect_no_survivors(PATIENCE);
    assert_eq!(step(&agent, "release", &key, &session), Some(76));
    // The session was made for the lock.
    agent.expect_nothing_left();

    let (running, session, keeper) = acquire_at(&agent.http_addr(), &["--max=1h"], &key);
    kill(keeper, Signal::SIGKILL).expect("it lives");
    running.expect_no_survivors(PATIENCE);
    // What is left is a lease.
    assert_eq!((step(&agent, "renew", &key, &session), step(&agent, "release", &key, &session)), (Some(0), Some(0)));
    agent.expect_nothing_left();
}

#[test]
fn doubt_does_not_end_a_keeper_and_a_given_session_outlives_it() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("doubt");
    let (running, session, keeper) = acquire_at(&proxy.addr(), &["--max=1h", "--ttl=10s", "--lock-delay=1500ms"], &key);
    // Longer than a command under this lock delay would be let live.
    proxy.set(Fault::Refuse);
    let asked = proxy.requests().len();
    std::thread::sleep(Duration::from_secs(2));
    proxy.set(Fault::None);
    eventually("it asks again", PATIENCE, || (proxy.requests().len() > asked + 3).then_some(()));
    let renewal = format!("/v1/session/renew/{session}");
    eventually("it renews", PATIENCE, || proxy.requests().iter().find(|request| request.target == renewal).map(drop));
    assert!(is_alive(keeper.as_raw()));
    assert_eq!(step(&agent, "release", &key, &session), Some(0));
    running.expect_no_survivors(PATIENCE);
    agent.expect_nothing_left();

    let given = agent.create_session(&serde_json::json!({ "TTL": "60s", "LockDelay": "20s" }));
    let (running, session, keeper) = acquire_at(&agent.http_addr(), &["--max=1h", "--session", &given], &key);
    assert_eq!(session, given);
    kill(keeper, Signal::SIGTERM).expect("it lives");
    running.expect_no_survivors(PATIENCE);
    assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 0));
}
