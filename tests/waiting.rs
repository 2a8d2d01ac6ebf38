//! Waiting for a lock: for how long, by which requests, and how it ends.

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::agent::{Agent, PATIENCE};
use support::proxy::Proxy;
use support::running::Running;
use support::shell::script;
use support::{consul_lock_at, consul_lock_on, eventually, hold, is_alive, run_on, unique_key};

/// A run that finds the lock held and has said so.
fn waiter(agent: &Agent, flags: &[&str], key: &str, command: &str) -> Running {
    let running = Running::start(consul_lock_on(agent).arg("run").args(flags).args([key, "-c", command]));
    running.expect_stderr("waiting for", PATIENCE);
    running
}

#[test]
fn without_patience_a_run_gives_up_at_once_and_names_the_holder() {
    let agent = Agent::plain();
    let key = unique_key("impatient");
    let holder = hold(&agent, &[], &key);
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let named = format!("{key} is held by sh (pid {} of {user} on {host})", holder.pid());
    let cases: [(&[&str], i32); 6] = [
        (&["-n"], 75),
        (&["--no-wait"], 75),
        (&["-w", "0"], 75),
        (&["--wait=0s", "-E", "9"], 9),
        (&["-n", "--conflict-exit-code=0"], 0),
        (&["-n", "-E255"], 255),
    ];
    for (flags, code) in cases {
        let ended = run_on(&agent, &[&["run"], flags, &[&key, "-c", "echo ran"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&named) && ended.stderr.lines().count() == 1, "{flags:?}: {}", ended.stderr);
        assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1), "{flags:?}");
    }
    let ended = run_on(&agent, &["run", "-q", "-n", &key, "--", "true"]);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(75), ""));
}

#[test]
fn patience_ends_when_it_was_said_to() {
    let agent = Agent::plain();
    let key = unique_key("patience");
    let _holder = hold(&agent, &[], &key);
    for (flag, least) in [("-w0.5", 500), ("-w=1200ms", 1200), ("--wait=1s", 1000)] {
        let start = Instant::now();
        let ended = run_on(&agent, &["run", flag, &key, "-c", "echo ran"]);
        let took = start.elapsed();
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{flag}: {}", ended.stderr);
        assert!(took >= Duration::from_millis(least) && took < Duration::from_millis(least + 8000), "{flag}: {took:?}");
        assert!(ended.stderr.contains("waiting for") && ended.stderr.contains("is held by sh"), "{}", ended.stderr);
        assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1));
    }
}

#[test]
fn a_waiter_is_woken_by_the_release_and_asks_nothing_before() {
    let agent = Agent::plain();
    let proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("woken");
    let mut holder = hold(&agent, &[], &key);
    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", "--ttl=60s", &key, "-c", "echo mine"]);
    let mut waiter = Running::start(&mut command);
    waiter.expect_stderr(&format!("waiting for {key}, held by sh (pid {} of ", holder.pid()), PATIENCE);
    let blocks = |target: &str| target.starts_with(&format!("/v1/kv/{key}?consistent&index="));
    let asked = eventually("it blocks", PATIENCE, || {
        let asked = proxy.requests();
        asked.last().is_some_and(|last| blocks(&last.target)).then_some(asked)
    });
    assert!(asked.len() <= 6, "{asked:#?}");
    // Nothing to await: it is the absence of requests that is looked for.
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(proxy.requests().len(), asked.len(), "{:#?}", proxy.requests());

    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    let ended = waiter.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    // Taking the lock, giving it back, ending the session; a look at the key and a confirmation where they are needed.
    let after = proxy.requests().split_off(asked.len());
    assert!(after.len() <= 6, "{after:#?}");
    agent.expect_nothing_left();
}

#[test]
fn waiters_get_the_lock_one_at_a_time_and_all_of_them() {
    let agent = Agent::plain();
    let key = unique_key("all");
    let dir = tempfile::tempdir().unwrap();
    let count = 12;
    // mkdir fails if two are inside at once.
    let script = format!(
        "mkdir {0}/in && sleep 0.02 && rmdir {0}/in && echo $CONSUL_LOCK_FENCE >> {0}/fences",
        dir.path().display()
    );
    let mut waiters: Vec<_> =
        (0..count).map(|_| Running::start(consul_lock_on(&agent).args(["run", "-q", &key, "-c", &script]))).collect();
    for waiter in &mut waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    }
    let said = std::fs::read_to_string(dir.path().join("fences")).unwrap();
    let fences: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(fences.len(), count);
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
    agent.expect_nothing_left();
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_behind() {
    let agent = Agent::plain();
    let held = unique_key("held");
    let holder = hold(&agent, &[], &held);
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    for round in 0..60 {
        let signal = signals[round % signals.len()];
        // Half of them wait, half of them get as far as running their command.
        let key = if round % 2 == 0 { held.clone() } else { unique_key("free") };
        let mut running = Running::start(consul_lock_on(&agent).args(["run", &key, "--", "sleep", "1000"]));
        std::thread::sleep(Duration::from_micros(fastrand::u64(..70_000)));
        running.signal(signal);
        let ended = running.wait(PATIENCE);
        assert_eq!(ended.signal(), Some(signal as i32), "round {round}: {ended:?}");
        running.expect_no_survivors(PATIENCE);
        assert_eq!((agent.sessions().len(), agent.keys("")), (1, vec![held.clone()]), "round {round}, {signal}");
    }
    drop(holder);
}

#[test]
fn a_waiter_that_is_told_to_stop_stops_at_once() {
    let agent = Agent::plain();
    let key = unique_key("stop");
    let _holder = hold(&agent, &[], &key);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut waiter = waiter(&agent, &["--ttl=1h"], &key, "echo ran");
        let start = Instant::now();
        waiter.signal(signal);
        let ended = waiter.wait(PATIENCE);
        // Its blocking query would go on for 20 minutes; cleaning up may take 2 s.
        assert!(start.elapsed() < Duration::from_secs(10), "{signal}: {:?}", start.elapsed());
        assert_eq!((ended.signal(), ended.stdout.as_str()), (Some(signal as i32), ""));
        assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1));
    }
    // Of others consul-lock does not die itself.
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        let mut waiter = waiter(&agent, &[], &key, "echo ran");
        waiter.signal(signal);
        assert_eq!(waiter.wait(PATIENCE).code(), Some(128 + signal as i32));
        assert_eq!((agent.sessions().len(), agent.keys("").len()), (1, 1));
    }
}

#[test]
fn a_waiter_whose_session_is_destroyed_waits_on_under_a_new_one() {
    let agent = Agent::plain();
    let key = unique_key("replaced");
    let mut holder = hold(&agent, &[], &key);
    let theirs = agent.holder(&key).unwrap();
    let mut waiter = waiter(&agent, &["--ttl=10s"], &key, "echo $CONSUL_LOCK_SESSION");
    let sessions = agent.sessions();
    let own = sessions.iter().filter_map(|session| session["ID"].as_str()).find(|id| *id != theirs).unwrap();
    agent.destroy_session(own);
    waiter.expect_stderr("the session ended while waiting for", PATIENCE);
    assert_eq!(agent.sessions().len(), 2);
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let ended = waiter.wait(PATIENCE);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let new = ended.stdout.trim();
    assert!(new.len() == 36 && new != own && new != theirs, "{new}");
    assert!(ended.stderr.contains(&format!("waiting on under {new}")), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn a_waiter_whose_session_is_destroyed_at_the_last_moment_still_gets_the_lock() {
    let agent = Agent::plain();
    let key = unique_key("late");
    let mut holder = hold(&agent, &[], &key);
    let theirs = agent.holder(&key).unwrap();
    let mut waiter = waiter(&agent, &["--ttl=1h"], &key, "echo mine");
    for session in agent.sessions().iter().filter(|session| session["ID"] != theirs.as_str()) {
        agent.destroy_session(session["ID"].as_str().unwrap());
    }
    // It learns of it by the lock transaction that Consul refuses.
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let ended = waiter.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the session ended while waiting for"), "{}", ended.stderr);
    agent.expect_nothing_left();
}

/// As a subreaper consul-lock is the parent of whatever loses its own below the shell that became it. Only what it has
/// started itself is its to kill.
#[test]
fn giving_up_kills_nobody_who_fell_to_us_from_somebody_else() {
    let agent = Agent::plain();
    let key = unique_key("orphan");
    let _holder = hold(&agent, &[], &key);
    let helper = "read go <&3; sh -c 'sleep 1000 >/dev/null 2>&1 & echo orphan $!.'";
    let text = format!("exec 3<&0; ({helper}) & exec consul-lock run {key} -- true");
    let mut waiter = Running::start_with_stdin(&mut script(&agent, "dash", &text), Stdio::piped());
    waiter.expect_stderr("waiting for", PATIENCE);
    drop(waiter.take_stdin());
    waiter.expect_stdout(".\n", PATIENCE);
    let orphan: i32 = waiter.stdout().trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a pid");
    let parent = || std::fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap_or_default();
    let ours = format!(") S {} ", waiter.pid());
    eventually("it has fallen to us", PATIENCE, || parent().contains(&ours).then_some(()));
    waiter.signal(Signal::SIGTERM);
    assert_eq!(waiter.wait(PATIENCE).signal(), Some(15));
    assert!(is_alive(orphan));
}
