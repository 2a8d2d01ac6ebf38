//! `--local` with semaphores, readers and writers, and several keys.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::agent::PATIENCE;
use support::running::{Ended, Running};
use support::{consul_lock, eventually, is_alive};
use tempfile::TempDir;

/// Starts `run --local=DIR` with these arguments.
fn start(dir: &Path, args: &[&str]) -> Running {
    Running::start(consul_lock().arg("run").arg(format!("--local={}", dir.display())).args(args))
}

/// The same, to its end.
#[track_caller]
fn run(dir: &Path, args: &[&str]) -> Ended {
    start(dir, args).wait(PATIENCE)
}

/// A run with these flags and keys that holds until it is signalled or dropped.
#[track_caller]
fn hold(dir: &Path, args: &[&str]) -> Running {
    let holder = start(dir, &[args, &["-c", "echo started $CONSUL_LOCK_SLOT; exec sleep 1000"]].concat());
    holder.expect_stdout("\n", PATIENCE);
    holder
}

/// The command line of [`start`] for a shell.
fn in_shell(dir: &Path, args: &str) -> String {
    let lock = consul_lock();
    format!("{} run --local={} {args}", lock.get_program().to_str().unwrap(), dir.display())
}

/// So many wait in flock(2) for this file: /proc/locks has waiters behind an arrow, and inode numbers.
#[track_caller]
fn await_waiters(dir: &Path, file: &str, count: usize) {
    eventually(&format!("{count} wait for {file}"), PATIENCE, || {
        let inode = format!(":{} ", fs::metadata(dir.join(file)).ok()?.ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waiters = locks.lines().filter(|line| line.contains("-> FLOCK") && line.contains(&inode)).count();
        (waiters == count).then_some(())
    });
}

/// Kills keeper and guard of a run such that neither can do anything about the other's death.
fn kill_keeper_and_guard(run: &Running) {
    let both = [run.pid(), run.expect_process("lock-guard", PATIENCE)];
    for pid in both {
        kill(pid, Signal::SIGSTOP).unwrap();
        eventually("it is stopped", PATIENCE, || (support::process_state(pid.as_raw()) == Some('T')).then_some(()));
    }
    both.into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).unwrap());
    eventually("both are dead", PATIENCE, || both.iter().all(|pid| !is_alive(pid.as_raw())).then_some(()));
}

#[track_caller]
fn end(mut run: Running) {
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait(PATIENCE).signal(), Some(15));
}

#[test]
fn a_semaphore_of_three_has_three_holders_at_most_each_in_a_slot_of_its_own() {
    let dir = TempDir::new().unwrap();
    // A slot that somebody has is a folder that cannot be made, and a fourth holder would see three beside himself.
    let script = format!(
        "cd {} && mkdir in.$CONSUL_LOCK_SLOT && set -- in.* && test $# -le 3 && echo $# >> seen && rmdir in.$CONSUL_LOCK_SLOT",
        dir.path().display()
    );
    let once = in_shell(dir.path(), "-q --limit 3 k -c \"$SCRIPT\"");
    let mut contenders: Vec<_> = (0..8)
        .map(|_| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-ec", &format!("for i in 1 2 3 4; do {once}; done")]).env("SCRIPT", &script);
            Running::start(&mut shell)
        })
        .collect();
    for contender in &mut contenders {
        let ended = contender.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(fs::read_to_string(dir.path().join("seen")).unwrap().lines().count(), 32);

    // Full: refused, given up in time, interrupted, and then served when a slot comes free.
    let holders = [(); 3].map(|()| hold(dir.path(), &["--limit", "3", "k"]));
    let mut slots = holders.each_ref().map(Running::stdout);
    slots.sort();
    assert_eq!(slots, ["started 1\n", "started 2\n", "started 3\n"]);
    for flag in ["-n", "-w0.3"] {
        let ended = run(dir.path(), &[flag, "--limit=3", "k", "-c", "echo ran"]);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("all 3 slots of k are held, one of them by sh (pid "), "{}", ended.stderr);
    }
    // Whoever is stopped by another limit is told of it.
    let ended = run(dir.path(), &["-w0.3", "--limit=2", "k", "-c", "echo ran"]);
    let hint = "k is held with another limit, 3 and not 2, by sh (pid ";
    assert!(ended.code() == Some(75) && ended.stderr.matches(hint).count() == 1, "{}", ended.stderr);
    let mut interrupted = start(dir.path(), &["--limit", "3", "k", "-c", "echo ran"]);
    let mut waiter = start(dir.path(), &["--limit", "3", "k", "-c", "echo slot $CONSUL_LOCK_SLOT"]);
    await_waiters(dir.path(), "k.consul-lock+3", 2);
    interrupted.signal(Signal::SIGINT);
    assert_eq!(interrupted.wait(PATIENCE).signal(), Some(2));
    interrupted.expect_no_survivors(PATIENCE);
    await_waiters(dir.path(), "k.consul-lock+3", 1);
    let look = |args: &[&str]| {
        Running::start(consul_lock().args(args).arg(format!("--local={}", dir.path().display()))).wait(PATIENCE)
    };
    let status = look(&["status", "k", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let seen = ["limit", "held"].map(|name| shown[name].clone());
    assert_eq!(seen, [serde_json::json!(3), serde_json::json!(true)], "{shown}");
    let numbers: Vec<_> =
        shown["holders"].as_array().unwrap().iter().map(|one| one["slot"].as_u64().unwrap()).collect();
    assert_eq!((numbers, shown["queue"].as_array().unwrap().len()), (vec![1, 2, 3], 1), "{shown}");

    let [first, others @ ..] = holders;
    let slot = first.stdout().trim().replace("started", "slot");
    end(first);
    let ended = waiter.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.trim()), (Some(0), slot.as_str()), "{}", ended.stderr);
    assert!(!ended.stderr.contains("another limit"), "{}", ended.stderr);

    // The lock is held by whoever has any slot of it, the first or not.
    let mut others = others.map(|other| (other.stdout(), other));
    others.sort_by(|one, next| one.0.cmp(&next.0));
    let [(_, lower), (number, higher)] = others;
    end(lower);
    assert_ne!(number, "started 1\n");
    let (status, list) = (look(&["status", "k"]), look(&["list"]));
    assert!(status.code() == Some(0) && status.stdout.starts_with("k: 1 of 3 slots held\n"), "{}", status.stdout);
    assert!(list.stdout.contains("\t1 of 3 slots held\tsh (pid "), "{}", list.stdout);
    assert_eq!(look(&["wait", "-w0", "k"]).code(), Some(75));
    let mut waiting = Running::start(consul_lock().args(["wait", "k", &format!("--local={}", dir.path().display())]));
    await_waiters(dir.path(), &format!("k.consul-lock+{}", number.trim_start_matches("started ").trim()), 1);
    end(higher);
    assert_eq!(waiting.wait(PATIENCE).code(), Some(0));
    assert_eq!((look(&["status", "k"]).code(), look(&["wait", "-w0", "k"]).code()), (Some(1), Some(0)));
}

#[test]
fn the_tree_keeps_its_slot_when_keeper_and_guard_are_both_killed() {
    let dir = TempDir::new().unwrap();
    let holder = start(dir.path(), &["--limit=2", "k", "-c", "sleep 1000 & echo $!; wait"]);
    holder.expect_stdout("\n", PATIENCE);
    let child: i32 = holder.stdout().trim().parse().unwrap();
    let _other = hold(dir.path(), &["--limit=2", "k"]);
    kill_keeper_and_guard(&holder);
    assert!(is_alive(child));
    assert_eq!(run(dir.path(), &["-n", "--limit=2", "k", "--", "true"]).code(), Some(75));
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    assert_eq!(run(dir.path(), &["-w20", "--limit=2", "k", "--", "true"]).code(), Some(0));

    // What --background leave leaves behind has no part in the slot.
    let leaves = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let mut leaver = start(dir.path(), &["--limit=2", "--background=leave", "k", "-c", leaves]);
    let left: i32 = leaver.wait(PATIENCE).stdout.trim().parse().unwrap();
    assert!(is_alive(left));
    assert_eq!(run(dir.path(), &["-n", "--limit=2", "k", "--", "true"]).code(), Some(0));
}

#[test]
fn readers_run_together_and_a_writer_alone_each_in_turn() {
    let dir = TempDir::new().unwrap();
    let [one, other] = [(); 2].map(|()| hold(dir.path(), &["--shared", "-n", "k"]));
    let refused = run(dir.path(), &["-n", "k", "--", "true"]);
    assert_eq!(refused.code(), Some(75));
    assert!(refused.stderr.contains(&format!("k is held by sh (pid {} of ", other.pid())), "{}", refused.stderr);
    end(other);
    let writer = start(dir.path(), &["k", "-c", "echo writer; exec sleep 1000"]);
    writer.expect_stderr(&format!("waiting for k, held by sh (pid {} of ", one.pid()), PATIENCE);
    await_waiters(dir.path(), "k.consul-lock", 1);
    // A reader that comes later waits behind the writer, and one that may not wait is refused.
    assert_eq!(run(dir.path(), &["--shared", "-n", "k", "--", "true"]).code(), Some(75));
    assert_eq!(run(dir.path(), &["--shared", "-w0.3", "k", "--", "true"]).code(), Some(75));
    let mut later = start(dir.path(), &["--shared", "k", "-c", "echo reader"]);
    await_waiters(dir.path(), "k.consul-lock+gate", 1);
    end(one);
    writer.expect_stdout("writer\n", PATIENCE);
    await_waiters(dir.path(), "k.consul-lock", 1);
    assert_eq!(later.stdout(), "");
    end(writer);
    assert_eq!(later.wait(PATIENCE).stdout, "reader\n");
}

#[test]
fn a_killed_reader_or_waiter_leaves_nothing_in_the_way() {
    let dir = TempDir::new().unwrap();
    let reader = start(dir.path(), &["--shared", "k", "-c", "sleep 1000 & echo $!; wait"]);
    reader.expect_stdout("\n", PATIENCE);
    let child: i32 = reader.stdout().trim().parse().unwrap();
    kill_keeper_and_guard(&reader);
    assert!(is_alive(child));
    let waiter = start(dir.path(), &["k", "--", "true"]);
    await_waiters(dir.path(), "k.consul-lock", 1);
    assert_eq!(run(dir.path(), &["--shared", "-n", "k", "--", "true"]).code(), Some(75));
    // The waiter dies at the gate, and readers get in beside the tree.
    waiter.signal(Signal::SIGKILL);
    waiter.expect_no_survivors(PATIENCE);
    assert_eq!(run(dir.path(), &["--shared", "-n", "k", "--", "true"]).code(), Some(0));
    assert_eq!(run(dir.path(), &["-n", "k", "--", "true"]).code(), Some(75));
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    assert_eq!(run(dir.path(), &["-w20", "k", "--", "true"]).code(), Some(0));
}

#[test]
fn neither_readers_nor_writers_that_keep_coming_starve_the_other_side() {
    let dir = TempDir::new().unwrap();
    for (crowd, single) in [("-q --shared", "--"), ("-q", "--shared")] {
        let key = if single == "--" { "k" } else { "l" };
        let (begun, over) = (dir.path().join(format!("{key}.begun")), dir.path().join(format!("{key}.over")));
        // Each begins before the last one has ended, so that without turns the key would never be free.
        let script = format!("touch {}; test -e {} || exec sleep 0.1", begun.display(), over.display());
        let once = in_shell(dir.path(), &format!("{crowd} {key} -c '{script}'"));
        let crowd_of = format!("until test -e {}; do {once} || exit 1; done", over.display());
        let mut crowd: Vec<_> =
            (0..4).map(|_| Running::start(std::process::Command::new("sh").args(["-c", &crowd_of]))).collect();
        eventually("the first has begun", PATIENCE, || begun.exists().then_some(()));
        let flags: &[&str] = if single == "--" { &[] } else { &[single] };
        for _ in 0..3 {
            let ended = run(dir.path(), &[flags, &["-q", "-w20", key, "-c", "echo mine"]].concat());
            assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"), "{key}: {}", ended.stderr);
        }
        fs::write(&over, "").unwrap();
        for shell in &mut crowd {
            assert_eq!(shell.wait(PATIENCE).code(), Some(0));
        }
    }
}

#[test]
fn several_keys_are_held_all_or_none() {
    let dir = TempDir::new().unwrap();
    let say =
        r#"echo "$CONSUL_LOCK_KEY"; echo "$CONSUL_LOCK_FENCE" | grep -c .; ls -l /proc/$$/fd | grep -c consul-lock"#;
    assert_eq!(run(dir.path(), &["c", "a", "b", "a", "-c", say]).stdout, "a\nb\nc\n3\n3\n");
    let slots = run(dir.path(), &["--limit=1", "a", "b", "-c", r#"echo "$CONSUL_LOCK_SLOT""#]);
    assert_eq!(slots.stdout, "1\n1\n", "{}", slots.stderr);

    let holder = hold(dir.path(), &["b"]);
    let named = format!("held by sh (pid {} of ", holder.pid());
    for flag in ["-n", "-w0.3"] {
        let ended = run(dir.path(), &[flag, "a", "b", "c", "-c", "echo ran"]);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("b is {named}")), "{}", ended.stderr);
        assert_eq!(run(dir.path(), &["-n", "a", "c", "--", "true"]).code(), Some(0), "nothing is left of it");
    }
    let mut interrupted = start(dir.path(), &["a", "b", "--", "true"]);
    interrupted.expect_stderr(&format!("waiting for b, {named}"), PATIENCE);
    assert_eq!(run(dir.path(), &["-n", "a", "--", "true"]).code(), Some(75), "it has what comes before");
    interrupted.signal(Signal::SIGINT);
    assert_eq!(interrupted.wait(PATIENCE).signal(), Some(2));
    assert_eq!(run(dir.path(), &["-n", "a", "--", "true"]).code(), Some(0));
    let mut waiter = start(dir.path(), &["c", "b", "a", "-c", "echo mine"]);
    await_waiters(dir.path(), "b.consul-lock", 1);
    end(holder);
    assert_eq!(waiter.wait(PATIENCE).stdout, "mine\n");

    // A tree that lost its keeper and guard keeps every one of them.
    let holder = start(dir.path(), &["a", "b", "-c", "sleep 1000 & echo $!; wait"]);
    holder.expect_stdout("\n", PATIENCE);
    kill_keeper_and_guard(&holder);
    for key in ["a", "b"] {
        assert_eq!(run(dir.path(), &["-n", key, "--", "true"]).code(), Some(75), "{key}");
    }
}

#[test]
fn ten_philosophers_eat_a_hundred_meals_with_five_forks() {
    let dir = TempDir::new().unwrap();
    let meal = format!("cd {} && mkdir $A $B && echo meal >> meals && rmdir $A $B", dir.path().display());
    let once = in_shell(dir.path(), "-q $A $B -c \"$MEAL\"");
    let mut philosophers: Vec<_> = (0..10)
        .map(|seat| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-ec", &format!("for i in 1 2 3 4 5 6 7 8 9 10; do {once}; done")]).env("MEAL", &meal);
            Running::start(shell.env("A", format!("fork{}", seat % 5)).env("B", format!("fork{}", (seat + 1) % 5)))
        })
        .collect();
    for philosopher in &mut philosophers {
        let ended = philosopher.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(fs::read_to_string(dir.path().join("meals")).unwrap().lines().count(), 100);
}

#[test]
fn a_run_within_a_run_is_refused_where_it_would_wait_for_ever_and_only_there() {
    let dir = TempDir::new().unwrap();
    let nested = |outer: &str, inner: &str| {
        let inner = in_shell(dir.path(), &format!("{inner} -c 'echo ran'"));
        let outer: Vec<_> = outer.split(' ').collect();
        run(dir.path(), &[&outer[..], &["-c", &inner]].concat())
    };
    // Beside the inner runs there is another reader, and another holder of a slot, who are not waited for for ever.
    let reader = hold(dir.path(), &["--shared", "r"]);
    for (outer, inner) in [("a b", "b c"), ("--shared r", "r"), ("--limit=1 s", "--limit=1 s"), ("a", "--shared a")] {
        let ended = nested(outer, inner);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{outer}, {inner}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("the run or the script that started this one holds the same lock"),
            "{}",
            ended.stderr
        );
    }
    for (outer, inner) in [("a b", "c d"), ("--shared r", "--shared r"), ("--limit=2 s", "--limit=2 s")] {
        let ended = nested(outer, inner);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{outer}, {inner}: {}", ended.stderr);
    }
    let _slot = hold(dir.path(), &["--limit=2", "s"]);
    let ended = nested("--limit=2 s", "-w0.3 --limit=2 s");
    assert_eq!(ended.code(), Some(75), "the other slot may come free: {}", ended.stderr);
    end(reader);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["--limit=65"], "64 is the most"),
        (&["--limit=0"], "a limit is 1 at least"),
        (&["--limit=2", "--shared"], "--shared"),
        (&["--shared", "--keep-key"], "--keep-key has no meaning with --local"),
    ];
    for (flags, message) in cases {
        let ended = run(dir.path(), &[flags, &["k", "-c", "echo ran"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{flags:?}: {}", ended.stderr);
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing was made");
    assert_eq!(run(dir.path(), &["--limit=64", "k", "-c", "exit $CONSUL_LOCK_SLOT"]).code().filter(|c| *c > 64), None);
}
