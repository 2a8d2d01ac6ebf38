//! Semaphores: up to so many holders at once, each in a slot that is a lock by itself.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use support::agent::{Agent, LOCK_FLAGS, Options, PATIENCE, consul_binary};
use support::line::{line, queue, waiter};
use support::proxy::Proxy;
use support::running::Running;
use support::{consul_lock, consul_lock_at, consul_lock_on, eventually, hold, run_on, unique_key};

/// A script that notes its slot when it comes and when it goes.
fn noting(file: &Path, seconds: f32) -> String {
    let file = file.display();
    format!("echo \"+ $CONSUL_LOCK_SLOT\" >>{file}; sleep {seconds}; echo \"- $CONSUL_LOCK_SLOT\" >>{file}")
}

/// The most that were there at a time, by what was noted, and the slots; no slot had two at a time.
#[track_caller]
fn most(file: &Path) -> (usize, BTreeSet<String>) {
    let text = fs::read_to_string(file).unwrap();
    let (mut inside, mut most, mut slots) = (BTreeSet::new(), 0, BTreeSet::new());
    for line in text.lines() {
        let (what, slot) = line.split_once(' ').unwrap();
        if what == "+" {
            assert!(inside.insert(slot), "two in slot {slot}: {text}");
            most = most.max(inside.len());
            slots.insert(slot.to_owned());
        } else {
            assert!(inside.remove(slot), "{text}");
        }
    }
    assert!(inside.is_empty(), "{text}");
    (most, slots)
}

fn start(agent: &Agent, flags: &[&str], key: &str, script: &str) -> Running {
    Running::start(consul_lock_on(agent).arg("run").args(flags).args([key, "-c", script]))
}

/// A run that holds a slot until it is told otherwise, and which one.
#[track_caller]
fn hold_slot(agent: &Agent, flags: &[&str], key: &str) -> (Running, String) {
    let running = start(agent, flags, key, "echo slot $CONSUL_LOCK_SLOT.; exec sleep 1000");
    running.expect_stdout(".\n", PATIENCE);
    let slot = running.stdout().trim().trim_end_matches('.').strip_prefix("slot ").unwrap().to_owned();
    (running, slot)
}

fn path(key: &str, slot: &str) -> String {
    if slot == "1" { key.to_owned() } else { format!("{key}/.slot/{slot}") }
}

#[track_caller]
fn end(mut holder: Running) {
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
}

#[track_caller]
fn expect_done(runs: Vec<Running>) {
    for mut run in runs {
        let ended = run.wait(PATIENCE);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
}

#[test]
fn as_many_run_at_once_as_the_limit_says_and_never_one_more() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (unique_key("limit"), dir.path().join("three"));
    expect_done((0..12).map(|_| start(&agent, &["--limit", "3"], &key, &noting(&file, 0.25))).collect());
    let (together, slots) = most(&file);
    assert_eq!((together, slots), (3, ["1", "2", "3"].map(str::to_owned).into()));
    agent.expect_nothing_left();

    // While the limit is changed, the greatest in use counts.
    let (key, file) = (unique_key("limit"), dir.path().join("mixed"));
    let limits = ["2", "4", "2", "4", "4", "2", "4", "2", "2", "4", "2", "4"];
    expect_done(limits.map(|limit| start(&agent, &["--limit", limit], &key, &noting(&file, 0.15))).into());
    let (together, slots) = most(&file);
    assert!((2..=4).contains(&together) && slots.iter().all(|slot| ["1", "2", "3", "4"].contains(&slot.as_str())));
    agent.expect_nothing_left();

    // Any free slot is as good as another.
    let seen: BTreeSet<_> =
        (0..16).map(|_| run_on(&agent, &["run", "--limit=2", &key, "-c", "echo $CONSUL_LOCK_SLOT"]).stdout).collect();
    assert_eq!(seen, ["1\n", "2\n"].map(str::to_owned).into());
    let plain = run_on(&agent, &["run", &key, "-c", "env | grep -c CONSUL_LOCK_SLOT"]);
    assert_eq!((plain.stdout.as_str(), plain.stderr.as_str()), ("0\n", ""));
    let one = run_on(&agent, &["run", "--limit=1", &key, "-c", "echo $CONSUL_LOCK_SLOT"]);
    assert_eq!((one.stdout.as_str(), one.stderr.as_str()), ("1\n", ""));
    agent.expect_nothing_left();
}

#[test]
fn the_first_slot_is_the_key_to_those_without_a_limit_and_to_consul_lock() {
    let agent = Agent::plain();
    let prefix = unique_key("first");
    let key = format!("{prefix}/.lock");
    let mut command = Command::new(consul_binary());
    command.env("CONSUL_HTTP_ADDR", agent.http_addr()).args(["lock", &prefix, "echo started; sleep 1000"]);
    let mut theirs = Running::start(&mut command);
    theirs.expect_stdout("started", PATIENCE);
    let (second, slot) = hold_slot(&agent, &["--limit", "2"], &key);
    assert_eq!(slot, "2");
    let refused = run_on(&agent, &["run", "-n", "--limit", "2", &key, "-c", "echo ran"]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(75), ""));
    let named = format!("all 2 slots of {key} are held, one of them by session {}", agent.holder(&key).unwrap());
    assert!(refused.stderr.contains(&named), "{}", refused.stderr);
    let refused = run_on(&agent, &["run", "-n", &key, "-c", "echo ran"]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(75), ""));

    // A slot of three is still free; whose limit is another is told once, and that of no record is not known.
    let (third, slot) = hold_slot(&agent, &["--limit", "3"], &key);
    assert_eq!(
        (slot.as_str(), third.stderr().matches("is held with another limit, 2 and not 3, by sh").count()),
        ("3", 1)
    );
    theirs.signal(Signal::SIGTERM);
    theirs.wait(PATIENCE);
    let (one, slot) = hold_slot(&agent, &["--limit", "1"], &key);
    assert_eq!((slot.as_str(), one.stderr().as_str()), ("1", ""));
    [one, second, third].into_iter().for_each(end);
    assert_eq!(agent.sessions().len(), 0);
    assert_eq!(agent.keys(""), Vec::<String>::new());
}

#[test]
fn a_slot_that_was_lost_waits_for_its_delay_while_the_others_go_on() {
    let agent = Agent::plain();
    // The line is strict: behind one who wants the first slot alone nobody takes another.
    let strict = unique_key("strict");
    let first = hold(&agent, &[], &strict);
    let second = hold_slot(&agent, &["--limit", "2"], &strict).0;
    let one = waiter(&agent, &[], &strict, "true").0;
    let two = waiter(&agent, &["--limit", "2"], &strict, "echo $CONSUL_LOCK_SLOT").0;
    let waits_since = Instant::now();
    end(second);

    let key = unique_key("lost");
    let flags = ["--limit", "2", "--lock-delay", "7s", "-k", "1s"];
    let (mut lost, slot) = hold_slot(&agent, &flags, &key);
    let (other, other_slot) = hold_slot(&agent, &flags, &key);
    let session = agent.holder(&path(&key, &slot)).unwrap();
    let (head, _) = waiter(&agent, &flags, &key, "echo $CONSUL_LOCK_SLOT");
    let destroyed = Instant::now();
    agent.destroy_session(&session);
    let ended = lost.wait(PATIENCE);
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    lost.expect_no_survivors(PATIENCE);
    end(other);
    // One after the other, they all go through the slot that is left.
    let mut head = head;
    assert_eq!(head.wait(PATIENCE).stdout.trim(), other_slot);
    for _ in 0..3 {
        let ended = run_on(&agent, &[&["run"], &flags[..], &[&key, "-c", "echo $CONSUL_LOCK_SLOT"]].concat());
        let is_over = destroyed.elapsed() >= Duration::from_secs(7);
        assert!(is_over || ended.stdout.trim() == other_slot, "{ended:?}");
    }
    let (keeps, kept) = hold_slot(&agent, &flags, &key);
    let (after, slot_after) = hold_slot(&agent, &flags, &key);
    assert_eq!(BTreeSet::from([kept, slot_after]), BTreeSet::from([slot, other_slot]));
    assert!(destroyed.elapsed() >= Duration::from_secs(7), "{:?}", destroyed.elapsed());
    [keeps, after].into_iter().for_each(end);

    // The second in line has looked twice by now at the slot that is free.
    std::thread::sleep(Duration::from_millis(11_500).saturating_sub(waits_since.elapsed()));
    assert_eq!((two.stdout().as_str(), line(&agent, &strict).len()), ("", 2));
    end(first);
    expect_done(vec![one, two]);
    agent.expect_nothing_left();
}

#[test]
fn who_came_first_is_first_and_the_first_asks_two_questions_whatever_the_limit() {
    const QUIET: &str = "--ttl=1h";
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (unique_key("fifo"), dir.path().join("order"));
    let flags = ["--limit", "8", QUIET];
    let mut holders: Vec<_> = (0..8).map(|_| hold_slot(&agent, &flags, &key)).collect();
    let proxy = Proxy::start(&agent.http_addr());
    let sign = |number: usize| format!("echo {number} >>{}", file.display());
    let mut command = consul_lock_at(&proxy.addr());
    let head = queue(&agent, command.arg("run").args(flags).args([&key, "-c", &sign(0)]), &key).0;
    let mut waiters: Vec<_> = (1..6).map(|number| Some(waiter(&agent, &flags, &key, &sign(number)).0)).collect();
    let blocks = || proxy.requests().into_iter().filter(|seen| seen.target.contains("index=")).collect::<Vec<_>>();
    // The first look at the slots has no index, so that the second question is asked twice.
    eventually("the head watches", PATIENCE, || (blocks().len() >= 3).then_some(()));
    let before = blocks().len();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(blocks().len(), before, "{:#?}", blocks());
    assert!(proxy.open_connections() <= 3, "{}", proxy.open_connections());

    let mut gone = waiters[2].take().unwrap();
    gone.signal(Signal::SIGINT);
    assert_eq!(gone.wait(PATIENCE).signal(), Some(2));
    assert_eq!(line(&agent, &key).len(), 5);
    // Through one slot, below the key or not.
    end(holders.swap_remove(3).0);
    expect_done(vec![head]);
    expect_done(waiters.into_iter().flatten().collect());
    assert_eq!(fs::read_to_string(&file).unwrap(), "0\n1\n2\n4\n5\n");
    for (holder, _) in holders {
        end(holder);
    }
    agent.expect_nothing_left();
}

#[test]
fn what_is_no_slot_is_left_as_it_is() {
    let agent = Agent::plain();
    let key = unique_key("foreign");
    let run = |limit: &str| run_on(&agent, &["run", "--limit", limit, &key, "-c", "echo ran"]);
    agent.put(&format!("/v1/kv/{key}/.slot/3"), "somebody's data");
    let refused = run("3");
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(78), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("{key}/.slot/3 at ")), "{}", refused.stderr);
    assert_eq!(run("2").stdout, "ran\n");
    assert_eq!((agent.keys("").len(), agent.sessions().len()), (1, 0));
    agent.ask("DELETE", &format!("/v1/kv/{key}/.slot/3"), b"", PATIENCE).unwrap();

    // What a holder left in place is a slot like any other.
    let session = agent.create_session(&json!({}));
    for slot in ["2", "3"] {
        assert!(
            agent.acquire_as_go(&path(&key, slot), &session, "left over") && agent.release(&path(&key, slot), &session)
        );
    }
    agent.destroy_session(&session);
    let keep = run_on(&agent, &["run", "--keep-key", "--limit", "3", &key, "-c", "echo $CONSUL_LOCK_SLOT"]);
    let kept = agent.kv(&path(&key, keep.stdout.trim())).unwrap();
    assert_eq!((&kept["Flags"], &kept["Session"]), (&json!(LOCK_FLAGS), &json!(null)));
    let all: Vec<_> = (0..3).map(|_| hold_slot(&agent, &["--limit", "3"], &key)).collect();
    assert_eq!(all.iter().map(|(_, slot)| slot.as_str()).collect::<BTreeSet<_>>(), ["1", "2", "3"].into());
    for (holder, _) in all {
        end(holder);
    }
    agent.expect_nothing_left();

    // Consul's own semaphore on the same prefix knows nothing of ours, nor we of it.
    let mut command = Command::new(consul_binary());
    command.env("CONSUL_HTTP_ADDR", agent.http_addr()).args(["lock", "-n", "2", &key, "echo started; sleep 1000"]);
    let theirs = Running::start(&mut command);
    theirs.expect_stdout("started", PATIENCE);
    let refused = run("2");
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(78), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("{key}/.lock at ")), "{}", refused.stderr);
    assert!(refused.stderr.contains("a semaphore of Consul's Go client"), "{}", refused.stderr);
}

#[test]
fn a_run_within_a_run_takes_another_slot_until_none_is_left() {
    let agent = Agent::plain();
    let key = unique_key("nested");
    let lock = consul_lock_on(&agent);
    let run = [lock.get_program().to_str().unwrap(), "run", "--limit", "2", &key, "--"];
    let twice = [&run[1..], &run, &["echo", "ran"]].concat();
    let ended = run_on(&agent, &twice);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
    let thrice = [&run[1..], &run, &run, &["echo", "ran"]].concat();
    let ended = run_on(&agent, &thrice);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    // Somebody else's slot may come free.
    let (holder, _) = hold_slot(&agent, &["--limit", "2"], &key);
    let waiting = queue(&agent, consul_lock_on(&agent).args(&twice), &key).0;
    end(holder);
    expect_done(vec![waiting]);
    agent.expect_nothing_left();
}

#[test]
fn a_token_that_may_not_write_the_slots_is_told_the_rule_whichever_slot_is_free() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let key = unique_key("acl");
    let rules = |below: &str| {
        format!(
            "session_prefix \"\" {{ policy = \"write\" }}\nkey \"{key}\" {{ policy = \"write\" }}\n\
             key_prefix \"{key}/{below}\" {{ policy = \"write\" }}"
        )
    };
    let run = |token: &str| {
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", token).args(["run", "--limit", "2", &key, "--", "echo", "ran"]);
        Running::start(&mut command).wait(PATIENCE)
    };
    let too_few = agent.token_with(&rules(".read/"));
    for _ in 0..6 {
        let ended = run(&too_few);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(77), ""), "{}", ended.stderr);
        let rule = format!("the token needs key_prefix \"{key}/.slot/\" {{ policy = \"write\" }}");
        assert!(ended.stderr.trim_end().ends_with(&rule), "{}", ended.stderr);
        agent.expect_nothing_left();
    }
    let ended = run(&agent.token_with(&rules("")));
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_before_anything_is_asked() {
    let cases: [(&[&str], &str); 6] = [
        (&["--limit", "0"], "a limit is 1 at least and 1000 at most, not 0"),
        (&["--limit", "1001"], "not 1001"),
        (&["--limit", "3.5"], "3.5"),
        (&["--limit", "2", "--shared"], "cannot be used with"),
        (&["-n", "3"], "did you mean --limit 3"),
        (&["--local", "--limit", "65"], "--limit"),
    ];
    for (flags, message) in cases {
        let mut command = consul_lock_at("127.0.0.1:1");
        let ended = Running::start(command.arg("run").args(flags).args(["key", "--", "true"])).wait(PATIENCE);
        assert_eq!(ended.code(), Some(64), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{flags:?}: {}", ended.stderr);
    }
    let help = Running::start(consul_lock().args(["run", "--help"])).wait(PATIENCE);
    assert!(help.stdout.contains("--limit <N>"), "{}", help.stdout);
}
