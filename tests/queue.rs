//! The line of those who wait for a lock: who comes first is first, a hand-over costs the same however long the line is,
//! and whoever leaves it, by whatever way, leaves nothing behind.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use support::agent::{Agent, Options, PATIENCE};
use support::line::{line, queue, waiter};
use support::proxy::{Proxy, Seen};
use support::running::Running;
use support::{consul_lock_at, eventually, hold, process_state, unique_key};

/// With a TTL of an hour nobody renews, and a query waits for a minute: what is asked then has another cause.
const QUIET: &str = "--ttl=1h";

/// A script that writes down its number.
fn sign(file: &Path, number: usize) -> String {
    format!("echo {number} >>{}", file.display())
}

/// The numbers in the order in which they were written down.
fn signed(file: &Path) -> Vec<usize> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[track_caller]
fn end(mut holder: Running) {
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
}

#[track_caller]
fn expect_all_done(waiters: Vec<Running>) {
    for mut waiter in waiters {
        let ended = waiter.wait(PATIENCE);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
}

#[test]
fn who_came_first_is_first_and_a_hand_over_costs_the_same_however_many_wait() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let costs = [10, 40].map(|count| {
        let key = unique_key("fifo");
        let file = dir.path().join(count.to_string());
        let holder = hold(&agent, &[QUIET], &key);
        let (waiters, sessions): (Vec<_>, Vec<_>) =
            (0..count).map(|number| waiter(&agent, &[QUIET], &key, &sign(&file, number))).unzip();
        assert_eq!(line(&agent, &key), sessions);
        let before = agent.requests().len();
        end(holder);
        expect_all_done(waiters);
        assert_eq!(signed(&file), Vec::from_iter(0..count));
        agent.expect_nothing_left();
        // Consul writes the last line a moment after its answer.
        let last = |requests: &[String]| requests.iter().filter(|line| line.contains("/session/destroy/")).count();
        let all = eventually("the last request is in the log", PATIENCE, || {
            let asked = agent.requests().split_off(before);
            (last(&asked) == count + 1).then_some(asked)
        });
        (all.len() / count, all)
    });
    let [(few, _), (many, all)] = costs;
    // What differs is a confirmation here and there, where a slow machine makes a command last.
    assert!(few.abs_diff(many) <= 2 && few.max(many) <= 14, "{few}, then {many}: {all:#?}");
}

#[test]
fn whoever_waits_asks_one_question_over_one_connection() {
    let agent = Agent::plain();
    let key = unique_key("one");
    let holder = hold(&agent, &[QUIET], &key);
    let first = waiter(&agent, &[QUIET], &key, "true").0;
    let second = waiter(&agent, &[QUIET], &key, "true").0;
    let proxy = Proxy::start(&agent.http_addr());
    let mut command = consul_lock_at(&proxy.addr());
    let third = queue(&agent, command.args(["run", QUIET, &key, "--", "true"]), &key).0;
    let blocks = |asked: &[Seen]| asked.iter().filter(|seen| seen.target.contains("index=")).count();
    eventually("it waits", PATIENCE, || (blocks(&proxy.requests()) == 1).then_some(()));
    // Nothing to await: it is the absence of requests that is looked for.
    std::thread::sleep(Duration::from_secs(3));
    let asked = proxy.requests();
    assert_eq!((blocks(&asked), proxy.open_connections()), (1, 1), "{asked:#?}");
    let last = &asked.last().unwrap().target;
    // For as long as a minute: nobody reads along who would want to know of each holder.
    assert!(last.contains("/.queue/") && last.contains("wait=60"), "{asked:#?}");
    end(holder);
    expect_all_done(vec![first, second, third]);
    agent.expect_nothing_left();
}

#[test]
fn the_dead_are_passed_over_and_leave_nothing() {
    let agent = Agent::plain();
    let key = unique_key("dead");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order");
    let holder = hold(&agent, &[], &key);
    let mut waiters: Vec<_> = (0..7).map(|number| Some(waiter(&agent, &[], &key, &sign(&file, number)))).collect();
    // The head, two in a row in the middle, and the last.
    for number in [0, 2, 3, 6] {
        let (mut dead, session) = waiters[number].take().unwrap();
        dead.signal(Signal::SIGKILL);
        assert_eq!(dead.wait(PATIENCE).signal(), Some(9));
        dead.expect_no_survivors(PATIENCE);
        agent.destroy_session(&session);
    }
    end(holder);
    expect_all_done(waiters.into_iter().flatten().map(|(waiter, _)| waiter).collect());
    assert_eq!(signed(&file), [1, 4, 5]);
    assert_eq!(agent.sessions().len(), 0);

    // All at once, by each signal; whoever waits next finds the line empty.
    let holder = hold(&agent, &[], &key);
    let waiters: Vec<_> = (0..9).map(|number| waiter(&agent, &[], &key, &sign(&file, number))).collect();
    let signals = [Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM];
    for (number, (waiter, _)) in waiters.iter().enumerate() {
        waiter.signal(signals[number % 3]);
    }
    for (number, (mut waiter, session)) in waiters.into_iter().enumerate() {
        assert_eq!(waiter.wait(PATIENCE).signal(), Some(signals[number % 3] as i32));
        if number % 3 == 1 {
            agent.destroy_session(&session);
        }
    }
    assert_eq!((line(&agent, &key), agent.sessions().len()), (Vec::new(), 1));
    let (last, session) = waiter(&agent, &[], &key, &sign(&file, 100));
    eventually("the dead ones' entries are gone", PATIENCE, || {
        (agent.keys(&format!("{key}/.queue/")) == [format!("{key}/.queue/{session}")]).then_some(())
    });
    end(holder);
    expect_all_done(vec![last]);
    assert_eq!(signed(&file), [1, 4, 5, 100]);
    agent.expect_nothing_left();
}

#[test]
fn a_head_that_is_stopped_is_passed_and_goes_on_when_it_may() {
    let agent = Agent::plain();
    let key = unique_key("stopped");
    let holder = hold(&agent, &[], &key);
    let (first, session) = waiter(&agent, &[], &key, "echo first");
    let second = waiter(&agent, &[], &key, "echo second; exec sleep 1000").0;
    let third = waiter(&agent, &[], &key, "echo third").0;
    first.signal(Signal::SIGSTOP);
    eventually("it is stopped", PATIENCE, || (process_state(first.pid().as_raw()) == Some('T')).then_some(()));
    end(holder);
    second.expect_stdout("second", PATIENCE);
    // It was passed, and did not die: its session ends 20 s after its last renewal at the soonest.
    assert_eq!(line(&agent, &key)[0], session);
    first.signal(Signal::SIGCONT);
    first.expect_stderr("waiting for", PATIENCE);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((first.stdout().as_str(), third.stdout().as_str()), ("", ""));
    end(second);
    expect_all_done(vec![first, third]);
    agent.expect_nothing_left();
}

#[test]
fn during_a_lock_delay_only_the_first_asks() {
    let agent = Agent::plain();
    let key = unique_key("delay");
    // A Go program leaves no record, so that nobody knows how long the delay is.
    let theirs = agent.create_session(&json!({ "LockDelay": "3s" }));
    assert!(agent.acquire_as_go(&key, &theirs, ""));
    let proxies = [(); 4].map(|()| Proxy::start(&agent.http_addr()));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order");
    let waiters: Vec<_> = (proxies.iter().enumerate())
        .map(|(number, proxy)| {
            let script = sign(&file, number);
            queue(&agent, consul_lock_at(&proxy.addr()).args(["run", QUIET, &key, "-c", &script]), &key).0
        })
        .collect();
    for proxy in &proxies {
        let blocks = || proxy.requests().iter().any(|seen| seen.target.contains("index="));
        eventually("it waits", PATIENCE, || blocks().then_some(()));
    }
    let begun = Instant::now();
    agent.destroy_session(&theirs);
    eventually("the delay is over", PATIENCE, || signed(&file).first().copied());
    let over = Instant::now();
    assert!(over - begun >= Duration::from_secs(3), "{:?}", over - begun);
    let during = |seen: &Seen| seen.at > begun && seen.at < begun + Duration::from_millis(2900);
    let asked = proxies.each_ref().map(|proxy| Vec::from_iter(proxy.requests().into_iter().filter(during)));
    let attempts = asked[0].iter().filter(|seen| seen.target.starts_with("/v1/txn")).count();
    assert!((3..=13).contains(&attempts), "{attempts}: {:#?}", asked[0]);
    // The second looks at the key every 5 s; nobody else says anything but that he is waiting.
    assert!(asked[1].iter().all(|seen| seen.method == "GET"), "{:#?}", asked[1]);
    for others in &asked[2..] {
        assert!(others.iter().all(|seen| seen.target.contains("index=")), "{others:#?}");
    }
    expect_all_done(waiters);
    assert_eq!(signed(&file), [0, 1, 2, 3]);
    agent.expect_nothing_left();
}

#[test]
fn a_waiter_whose_session_is_destroyed_goes_to_the_end_of_the_line() {
    let agent = Agent::plain();
    let key = unique_key("requeued");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order");
    let holder = hold(&agent, &[], &key);
    let (waiters, sessions): (Vec<_>, Vec<_>) =
        (0..4).map(|number| waiter(&agent, &["--ttl=10s"], &key, &sign(&file, number))).unzip();
    agent.destroy_session(&sessions[1]);
    waiters[1].expect_stderr("the session ended while waiting for", PATIENCE);
    let now = eventually("it has a place again", PATIENCE, || Some(line(&agent, &key)).filter(|now| now.len() == 4));
    assert_eq!(now[..3], [0, 2, 3].map(|number: usize| sessions[number].clone()));
    assert_eq!(agent.keys(&format!("{key}/.queue/")).len(), 4);
    end(holder);
    expect_all_done(waiters);
    assert_eq!(signed(&file), [0, 2, 3, 1]);
    agent.expect_nothing_left();
}

#[test]
fn the_line_outlasts_a_restart_of_the_agent() {
    let mut agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("restart");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order");
    let holder = hold(&agent, &[], &key);
    let (waiters, sessions): (Vec<_>, Vec<_>) =
        (0..4).map(|number| waiter(&agent, &[], &key, &sign(&file, number))).unzip();
    agent.restart();
    assert_eq!(line(&agent, &key), sessions);
    end(holder);
    expect_all_done(waiters);
    assert_eq!(signed(&file), [0, 1, 2, 3]);
    agent.expect_nothing_left();
}

#[test]
fn whoever_gives_up_names_the_holder_and_leaves_the_line() {
    let agent = Agent::plain();
    let key = unique_key("leave");
    let holder = hold(&agent, &[], &key);
    let first = waiter(&agent, &[], &key, "true").0;
    let (mut patient, theirs) = waiter(&agent, &["-w", "1.5"], &key, "echo ran");
    let (mut interrupted, its) = waiter(&agent, &[], &key, "echo ran");
    let last = waiter(&agent, &[], &key, "true").0;

    let ended = patient.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    let named = format!("{key} is held by sh (pid {} ", holder.pid());
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    interrupted.signal(Signal::SIGINT);
    assert_eq!(interrupted.wait(PATIENCE).signal(), Some(2));
    let left = line(&agent, &key);
    assert!(left.len() == 2 && !left.contains(&theirs) && !left.contains(&its), "{left:?}");
    assert_eq!((agent.keys(&format!("{key}/")).len(), agent.sessions().len()), (2, 3));

    let proxy = Proxy::start(&agent.http_addr());
    let mut command = consul_lock_at(&proxy.addr());
    let ended = Running::start(command.args(["run", "-n", &key, "-c", "echo ran"])).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    let asked = proxy.requests();
    assert!(!asked.iter().any(|seen| seen.target.contains("/txn")), "it never queues: {asked:#?}");
    end(holder);
    expect_all_done(vec![first, last]);
    agent.expect_nothing_left();
}

#[test]
fn under_a_given_session_the_place_in_the_line_is_one_of_our_own() {
    let agent = Agent::plain();
    let key = unique_key("given");
    let given = agent.create_session(&json!({ "LockDelay": "10s", "TTL": "60s" }));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order");
    let holder = hold(&agent, &[], &key);
    let first = waiter(&agent, &[], &key, &sign(&file, 0)).0;
    let (second, place) = waiter(&agent, &["--session", &given], &key, &sign(&file, 1));
    let third = waiter(&agent, &[], &key, &sign(&file, 2)).0;
    assert_ne!(place, given);
    assert_eq!(agent.sessions().len(), 5);
    // One that gives up leaves only what was given.
    let (mut fourth, _) = waiter(&agent, &["--session", &given], &key, "true");
    fourth.signal(Signal::SIGTERM);
    assert_eq!(fourth.wait(PATIENCE).signal(), Some(15));
    assert_eq!((agent.sessions().len(), line(&agent, &key).len()), (5, 3));
    end(holder);
    expect_all_done(vec![first, second, third]);
    assert_eq!(signed(&file), [0, 1, 2]);
    assert_eq!((agent.keys(""), agent.sessions().len()), (Vec::new(), 1));
    assert_eq!(agent.sessions()[0]["ID"], given.as_str());
}
