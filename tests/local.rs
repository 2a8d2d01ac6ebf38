//! `--local`: the same command line on one machine, without Consul.

mod support;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::agent::PATIENCE;
use support::running::{Ended, Running};
use support::{consul_lock, eventually, is_alive, unique_key};
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

/// A run that holds the key `k` until it is signalled or dropped.
#[track_caller]
fn hold(dir: &Path, flags: &[&str]) -> Running {
    let holder = start(dir, &[flags, &["k", "--", "sh", "-c", "echo started; exec sleep 1000"]].concat());
    holder.expect_stdout("started\n", PATIENCE);
    holder
}

/// The keeper is waiting in flock(2): /proc/locks has waiters behind an arrow, and inode numbers.
fn await_waiter(file: &Path) {
    let inode = format!(":{} ", fs::metadata(file).unwrap().ino());
    let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
    eventually("somebody waits in flock(2)", PATIENCE, || {
        fs::read_to_string("/proc/locks").unwrap().lines().any(waits).then_some(())
    });
}

fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

#[test]
fn a_run_needs_no_consul_and_asks_none() {
    let dir = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut command = consul_lock();
    command.env("CONSUL_HTTP_ADDR", listener.local_addr().unwrap().to_string()).env("CONSUL_HTTP_TOKEN", "s3cret");
    command.arg("run").arg(format!("--local={}", dir.path().display())).args(["a/b", "-c", "echo ran; exit 3"]);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(3), "ran\n", ""));
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn the_usual_directory_is_the_users_own_and_no_variable_moves_it() {
    let key = unique_key("own");
    let holder = Running::start(consul_lock().args(["run", "--local", &key, "-c", "echo started; exec sleep 1000"]));
    holder.expect_stdout("started\n", PATIENCE);
    let elsewhere = TempDir::new().unwrap();
    let mut other = consul_lock();
    for variable in ["TMPDIR", "XDG_RUNTIME_DIR", "HOME", "PWD", "USER", "LOGNAME"] {
        other.env(variable, elsewhere.path());
    }
    let ended = Running::start(other.args(["run", "--local", "-n", &key, "-c", "echo ran"])).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(75), ""), "{}", ended.stderr);

    let user = nix::unistd::geteuid();
    let file = key.replace('/', "%2F") + ".consul-lock";
    let dirs = ["/run/lock", "/tmp"].map(|base| PathBuf::from(base).join(format!("consul-lock-{user}")));
    let dir = dirs.iter().find(|dir| dir.join(&file).exists()).expect("the lock file is in one of the two places");
    let status = fs::symlink_metadata(dir).unwrap();
    assert!(status.is_dir());
    assert_eq!((status.mode() & 0o7777, status.uid()), (0o700, user.as_raw()));
    assert_eq!(fs::metadata(dir.join(&file)).unwrap().mode() & 0o7777, 0o600);
    fs::remove_file(dir.join(&file)).unwrap();
}

#[test]
fn a_directory_is_used_as_it_is_or_refused_with_78() {
    let base = TempDir::new().unwrap();
    let path = |name: &str| base.path().join(name);
    fs::write(path("file"), "").unwrap();
    symlink(base.path(), path("link")).unwrap();
    for (name, message) in [("missing", "there is no such directory"), ("file", "it is no directory")] {
        let ended = run(&path(name), &["k", "-c", "echo ran"]);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(message) && ended.stderr.contains(name), "{}", ended.stderr);
    }
    let ended = run(Path::new(""), &["k", "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    fs::create_dir(path("taken")).unwrap();
    fs::create_dir(path("taken/k.consul-lock")).unwrap();
    let ended = run(&path("taken"), &["k", "-c", "echo ran"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);

    // By whatever name, it is the same lock.
    let _holder = hold(base.path(), &[]);
    assert_eq!(run(&path("link"), &["-n", "k", "--", "true"]).code(), Some(75));
    let mut relative = consul_lock();
    relative.args(["run", "--local=.", "-n", "k", "--", "true"]).current_dir(base.path());
    assert_eq!(Running::start(&mut relative).wait(PATIENCE).code(), Some(75));
}

#[test]
fn a_folder_without_its_equals_sign_is_not_taken_for_a_second_key() {
    let (dir, key) = (TempDir::new().unwrap(), unique_key("folder"));
    let (folder, other) = (format!("locks-{}", key.replace('/', "-")), unique_key("other"));
    std::fs::create_dir(dir.path().join(&folder)).unwrap();
    let run = |args: &[&str]| {
        let mut command = consul_lock();
        command.current_dir(dir.path()).arg("run").args(args).args(["-c", "echo ran"]);
        Running::start(&mut command).wait(PATIENCE)
    };
    let refused = run(&["--local", &folder, &key]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(64), ""), "{}", refused.stderr);
    let meant = format!("\"{folder}\" is a folder here: did you mean --local={folder} {key}?");
    assert!(refused.stderr.contains(&meant), "{}", refused.stderr);

    // What is meant can be said: the folder, a key that is called like it, both as keys.
    let named = format!("--local={folder}");
    for args in [[named.as_str(), &key].as_slice(), &["--local", &folder], &["--local", &key, &folder]] {
        let ended = run(args);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    // Two keys where there is no such folder.
    assert_eq!(run(&["--local", &other, &key]).code(), Some(0));
    assert!(dir.path().join(&folder).join(key.replace('/', "%2F") + ".consul-lock").exists());
}

#[test]
fn files_have_the_keys_name_and_stay() {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    for (key, file) in [("k", "k"), ("Jobs/a b", "%4Aobs%2Fa%20b"), (".hidden", "%2Ehidden"), ("a+b", "a%2Bb")] {
        assert_eq!(run(dir.path(), &[key, "--", "true"]).code(), Some(0));
        let path = dir.path().join(format!("{file}.consul-lock"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600, "{key}");
    }
    assert_eq!(run(dir.path(), &[&"x".repeat(400), "--", "true"]).code(), Some(0));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 5);
}

#[test]
fn the_directory_is_kept_from_being_cleaned_while_somebody_holds_or_waits() {
    let dir = TempDir::new().unwrap();
    let clean = || Flock::lock(File::open(&dir).unwrap(), FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno);
    let mut holder = hold(dir.path(), &[]);
    assert_eq!(clean().unwrap_err(), Errno::EWOULDBLOCK);
    let mut waiter = start(dir.path(), &["k", "--", "true"]);
    await_waiter(&dir.path().join("k.consul-lock"));
    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    assert_eq!(waiter.wait(PATIENCE).code(), Some(0));
    drop(eventually("the directory may be cleaned", PATIENCE, || clean().ok()));
}

#[test]
fn the_command_finds_its_lock_in_the_environment_and_the_fence_grows() {
    let dir = TempDir::new().unwrap();
    let micros = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let before = micros();
    let say = r#"echo "$CONSUL_LOCK_HELD $CONSUL_LOCK_KEY $CONSUL_LOCK_FENCE""#;
    let mut last = before - 1;
    for _ in 0..3 {
        let said = run(dir.path(), &["k", "-c", say]).stdout;
        let words: Vec<_> = said.split_whitespace().collect();
        let fence = words[2].parse().unwrap();
        assert_eq!(words[..2], ["true", "k"]);
        assert!(fence > last && fence <= micros(), "{fence} after {last}");
        last = fence;
    }
    // A fence beyond the clock, as after a clock was set back: one more than the last.
    let file = dir.path().join("k.consul-lock");
    fs::write(&file, format!("{:020} {:010}\n", 9_000_000_000_000_000_000_u64, 0)).unwrap();
    for next in [9_000_000_000_000_000_001_u64, 9_000_000_000_000_000_002] {
        assert_eq!(run(dir.path(), &["k", "-c", "echo $CONSUL_LOCK_FENCE"]).stdout, format!("{next}\n"));
        assert!(fs::read_to_string(&file).unwrap().starts_with(&format!("{next:020} ")));
    }
}

#[test]
fn who_holds_the_lock_is_named_and_codes_are_as_with_consul() {
    let dir = TempDir::new().unwrap();
    let mut holder = hold(dir.path(), &[]);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let named = format!("k is held by sh (pid {} of {} on {host})", holder.pid(), user());
    let cases: [(&[&str], i32, u64); 6] = [
        (&["-n"], 75, 0),
        (&["-w0"], 75, 0),
        (&["-nE9"], 9, 0),
        (&["-n", "-E0"], 0, 0),
        (&["-w0.6"], 75, 600),
        (&["-w1s", "-E4"], 4, 1000),
    ];
    for (flags, code, least) in cases {
        let begun = Instant::now();
        let ended = run(dir.path(), &[flags, &["k", "-c", "echo ran"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&named), "{flags:?}: {}", ended.stderr);
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(least) && took < Duration::from_millis(least + 8000),
            "{flags:?}: {took:?}"
        );
    }
    let record = fs::read_to_string(dir.path().join("k.consul-lock")).unwrap();
    let record: Value = serde_json::from_str(record.split_once('\n').unwrap().1).unwrap();
    assert_eq!((&record["pid"], &record["command"]), (&holder.pid().as_raw().into(), &"sh".into()));
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait(PATIENCE).signal(), Some(15));
    assert_eq!(
        fs::metadata(dir.path().join("k.consul-lock")).unwrap().len(),
        32,
        "the record is gone, the fence stays"
    );

    for (script, code, signal) in
        [("exit 7", Some(7), None), ("kill -9 $$", Some(137), None), ("kill -INT $$", None, Some(2))]
    {
        let ended = run(dir.path(), &["-n", "k", "-c", script]);
        assert_eq!((ended.code(), ended.signal()), (code, signal), "{script}: {}", ended.stderr);
    }
    assert_eq!(run(dir.path(), &["-n", "k", "--", "/nonexistent"]).code(), Some(127));
    assert_eq!(run(dir.path(), &["-n", "k", "--", "/tmp"]).code(), Some(126));
}

#[test]
fn a_value_of_the_users_own_is_stored() {
    let dir = TempDir::new().unwrap();
    let _holder = hold(dir.path(), &["--value", "run 17"]);
    let stored = fs::read_to_string(dir.path().join("k.consul-lock")).unwrap();
    assert!(stored.ends_with("\nrun 17"), "{stored}");
    let ended = run(dir.path(), &["-n", "k", "--", "true"]);
    assert_eq!(ended.code(), Some(75));
    assert!(ended.stderr.contains("k is held by another process on this machine"), "{}", ended.stderr);
}

/// How often all threads of a process have been given a processor, more or less.
fn switches(pid: Pid) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).map(count).sum()
}

#[test]
fn a_waiter_sleeps_until_the_lock_is_free() {
    let dir = TempDir::new().unwrap();
    let mut holder = hold(dir.path(), &[]);
    let mut waiter = start(dir.path(), &["-w", "1h", "k", "-c", "echo mine"]);
    waiter.expect_stderr(&format!("waiting for k, held by sh (pid {} of ", holder.pid()), PATIENCE);
    await_waiter(&dir.path().join("k.consul-lock"));
    let keeper = waiter.pid();
    let guard = waiter.expect_process("lock-guard", PATIENCE);
    let before = switches(keeper) + switches(guard);
    // Nothing to await: it is the absence of work that is looked for.
    std::thread::sleep(Duration::from_secs(2));
    let woken = switches(keeper) + switches(guard) - before;
    assert!(woken < 20, "woken {woken} times in two seconds");

    holder.signal(Signal::SIGTERM);
    holder.wait(PATIENCE);
    let ended = waiter.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "mine\n"));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_waiter_that_is_told_to_stop_stops_at_once() {
    let dir = TempDir::new().unwrap();
    let _holder = hold(dir.path(), &[]);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut waiter = start(dir.path(), &["k", "-c", "echo ran"]);
        waiter.expect_stderr("waiting for k", PATIENCE);
        waiter.signal(signal);
        let ended = waiter.wait(Duration::from_secs(10));
        assert_eq!((ended.signal(), ended.stdout.as_str()), (Some(signal as i32), ""));
        waiter.expect_no_survivors(PATIENCE);
    }
}

#[test]
fn contenders_get_the_lock_one_at_a_time_and_all_of_them() {
    let dir = TempDir::new().unwrap();
    let script = format!("mkdir {0}/in && rmdir {0}/in && echo $CONSUL_LOCK_FENCE >> {0}/fences", dir.path().display());
    let mut contenders: Vec<_> = (0..20).map(|_| start(dir.path(), &["-q", "k", "-c", &script])).collect();
    for contender in &mut contenders {
        let ended = contender.wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    }
    let said = fs::read_to_string(dir.path().join("fences")).unwrap();
    let fences: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(fences.len() == 20 && fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

#[test]
fn the_tree_keeps_the_lock_when_keeper_and_guard_are_both_killed() {
    let dir = TempDir::new().unwrap();
    // The command itself dies with the guard; its child is what is left.
    let script = "sleep 1000 & echo child $!; wait";
    let holder = start(dir.path(), &["k", "-c", script]);
    holder.expect_stdout("\n", PATIENCE);
    let child: i32 = holder.stdout().trim().strip_prefix("child ").unwrap().parse().unwrap();
    let (keeper, guard) = (holder.pid(), holder.expect_process("lock-guard", PATIENCE));
    // Stopped, neither can do anything about the other's death.
    for pid in [keeper, guard] {
        kill(pid, Signal::SIGSTOP).unwrap();
    }
    for pid in [keeper, guard] {
        eventually("it is stopped", PATIENCE, || (support::process_state(pid.as_raw()) == Some('T')).then_some(()));
    }
    for pid in [keeper, guard] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    eventually("both are dead", PATIENCE, || [keeper, guard].iter().all(|pid| !is_alive(pid.as_raw())).then_some(()));
    assert!(is_alive(child));
    let refused = run(dir.path(), &["-n", "k", "-c", "echo ran"]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(75), ""), "{}", refused.stderr);
    let mut waiter = start(dir.path(), &["k", "-c", "echo mine"]);
    await_waiter(&dir.path().join("k.consul-lock"));
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    assert_eq!(waiter.wait(PATIENCE).stdout, "mine\n");
}

#[test]
fn a_killed_keeper_takes_the_tree_with_it_and_frees_the_lock() {
    let dir = TempDir::new().unwrap();
    let holder = hold(dir.path(), &["-k", "1"]);
    holder.signal(Signal::SIGKILL);
    holder.expect_no_survivors(PATIENCE);
    assert_eq!(run(dir.path(), &["-w", "10", "k", "--", "true"]).code(), Some(0));

    let mut holder = hold(dir.path(), &[]);
    kill(holder.expect_process("lock-guard", PATIENCE), Signal::SIGKILL).unwrap();
    assert_eq!(holder.wait(PATIENCE).code(), Some(70));
    holder.expect_no_survivors(PATIENCE);
    assert_eq!(run(dir.path(), &["-n", "k", "--", "true"]).code(), Some(0));
}

#[test]
fn what_the_command_leaves_behind_is_killed_waited_for_or_left_as_chosen() {
    let dir = TempDir::new().unwrap();
    // It is a shell until it has executed, and would be named so.
    let leaves = "sleep 1000 >/dev/null 2>&1 & echo $!; until grep -q sleep /proc/$!/comm; do :; done; exit 4";

    let mut killed = start(dir.path(), &["-q", "-k", "0.1", "k", "-c", leaves]);
    let ended = killed.wait(PATIENCE);
    assert_eq!(ended.code(), Some(4));
    assert!(ended.stderr.contains(&format!("ended sleep (pid {})", ended.stdout.trim())), "{}", ended.stderr);
    assert!(ended.stderr.contains("--background"), "{}", ended.stderr);
    killed.expect_no_survivors(PATIENCE);

    let mut left = start(dir.path(), &["--background=leave", "k", "-c", leaves]);
    let ended = left.wait(PATIENCE);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(4), ""));
    assert!(is_alive(ended.stdout.trim().parse().unwrap()), "it lives on");
    assert_eq!(run(dir.path(), &["-n", "k", "--", "true"]).code(), Some(0), "and has no part in the lock");

    let mut waited = start(dir.path(), &["--background=wait", "-v", "k", "-c", leaves]);
    waited.expect_stderr("ended with code 4", PATIENCE);
    assert_eq!(run(dir.path(), &["-n", "k", "--", "true"]).code(), Some(75));
    assert_eq!(waited.try_wait(), None);
    kill(Pid::from_raw(waited.stdout().trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(waited.wait(PATIENCE).code(), Some(4));
    assert_eq!(run(dir.path(), &["-n", "k", "--", "true"]).code(), Some(0));
}

#[test]
fn the_lock_is_the_one_descriptor_more_that_the_command_has() {
    let dir = TempDir::new().unwrap();
    let list = "for f in /proc/$$/fd/*; do readlink $f; done | grep -c consul-lock; true";
    assert_eq!(run(dir.path(), &["k", "-c", list]).stdout, "1\n");
    assert_eq!(run(dir.path(), &["--background=leave", "k", "-c", list]).stdout, "0\n");
}

#[test]
fn a_run_within_a_run_of_the_same_key_is_an_error_and_no_deadlock() {
    let dir = TempDir::new().unwrap();
    let lock = consul_lock();
    let binary = lock.get_program().to_str().unwrap();
    let local = format!("--local={}", dir.path().display());
    let inner = |key: &'static str| ["--", binary, "run", &local, key, "--", "echo", "ran"].map(str::to_owned);
    let nested = |key| {
        let inner = inner(key);
        run(dir.path(), &[&["k"], &inner.each_ref().map(String::as_str)[..]].concat())
    };
    let ended = nested("k");
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the run or the script that started this one holds the same lock"),
        "{}",
        ended.stderr
    );
    let ended = nested("other");
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "ran\n", ""));
}

#[test]
fn flags_that_speak_of_consul_are_refused() {
    let dir = TempDir::new().unwrap();
    let flags: [&[&str]; 22] = [
        &["--session=00000000-1111-2222-3333-444444444444"],
        &["--session-name=x"],
        &["--ttl=15s"],
        &["--lock-delay=30s"],
        &["--behavior=delete"],
        &["--check=x"],
        &["--no-checks"],
        &["--keep-key"],
        &["--monitor-retries=3"],
        &["--monitor-retry-time=1s"],
        &["--retry-for=1s"],
        &["--http-addr=127.0.0.1:1"],
        &["--token=x"],
        &["--token-file=/x"],
        &["--ca-file=/x"],
        &["--ca-path=/x"],
        &["--client-cert=/x"],
        &["--client-key=/x"],
        &["--tls-server-name=x"],
        &["--datacenter=x"],
        &["--namespace=x"],
        &["--partition=x"],
    ];
    for flag in flags {
        let ended = run(dir.path(), &[flag, &["k", "-c", "echo ran"]].concat());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{flag:?}: {}", ended.stderr);
        let name = flag[0].split('=').next().unwrap();
        assert!(ended.stderr.contains(&format!("{name} has no meaning with --local")), "{flag:?}: {}", ended.stderr);
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing was made");
}
