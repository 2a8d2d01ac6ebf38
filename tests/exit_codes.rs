//! The table of exit codes, row by row.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use support::agent::{Agent, Options, PATIENCE};
use support::proxy::{Fault, Proxy, Rule};
use support::running::Running;
use support::{consul_lock, consul_lock_at, consul_lock_on, hold, run_on, unique_key};

#[test]
fn the_commands_own_code_is_ours() {
    let agent = Agent::plain();
    let key = unique_key("own");
    for code in [0, 1, 2, 64, 75, 76, 126, 127, 128, 137, 255] {
        let ended = run_on(&agent, &["run", &key, "-c", &format!("exit {code}")]);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(code), ""));
    }
}

#[test]
fn a_signal_that_the_command_dies_of_is_ours_or_its_number() {
    let agent = Agent::plain();
    let key = unique_key("signal");
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
        let ended = run_on(&agent, &["run", &key, "-c", &format!("kill -{} $$", signal as i32)]);
        assert_eq!((ended.code(), ended.signal()), (None, Some(signal as i32)), "{}", ended.stderr);
        assert_eq!(ended.stderr, "");
    }
    for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGUSR1, Signal::SIGALRM, Signal::SIGXCPU]
    {
        let ended = run_on(&agent, &["run", &key, "-c", &format!("ulimit -c 0; kill -{} $$", signal as i32)]);
        assert_eq!((ended.code(), ended.signal()), (Some(128 + signal as i32), None), "{}", ended.stderr);
    }
    let ended = run_on(&agent, &["run", &key, "-c", "kill -40 $$"]);
    assert_eq!(ended.code(), Some(168), "a real-time signal: {}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn dying_of_a_signal_leaves_no_core_file() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let mut command = consul_lock_on(&agent);
    command.args(["run", &unique_key("core"), "-c", "ulimit -c 0; kill -QUIT $$"]).current_dir(&dir);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!(ended.signal(), Some(Signal::SIGQUIT as i32));
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended.status));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn wrong_words_are_64_and_help_is_0() {
    for args in
        [&[][..], &["run"], &["nope"], &["run", "--nope", "k", "--", "true"], &["run", "k", "/extra", "--", "true"]]
    {
        let ended = Running::start(consul_lock().args(args)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{args:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
    for args in [&["--help"][..], &["-h"], &["run", "--help"], &["--version"], &["run", "-V"]] {
        let ended = Running::start(consul_lock().args(args)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(ended.stdout.contains("consul-lock"), "{args:?}: {}", ended.stdout);
    }
}

#[test]
fn a_consul_that_is_not_there_is_69_after_the_time_allowed() {
    let nobody = support::agent::free_port(std::net::Ipv4Addr::LOCALHOST);
    let cases: [(&[&str], u64); 3] = [(&["--retry-for=1s"], 1000), (&["--retry-for=0"], 0), (&["-w=0.7"], 700)];
    for (flags, least) in cases {
        let start = Instant::now();
        let mut command = consul_lock_at(&format!("127.0.0.1:{nobody}"));
        let ended = Running::start(command.arg("run").args(flags).args(["k", "-c", "echo ran"])).wait(PATIENCE);
        let took = start.elapsed();
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(69), ""), "{flags:?}: {}", ended.stderr);
        assert!(
            took >= Duration::from_millis(least) && took < Duration::from_millis(least + 8000),
            "{flags:?}: {took:?}"
        );
        let message = format!("connection refused at http://127.0.0.1:{nobody} (CONSUL_HTTP_ADDR)");
        assert!(ended.stderr.contains(&message) && ended.stderr.contains("--local"), "{}", ended.stderr);
    }
}

#[test]
fn a_consul_without_a_leader_is_69_and_one_that_hangs_too() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let faults = [
        (Fault::Status(500, "No cluster leader".into()), "wait for the election"),
        (Fault::Status(503, "no upstream".into()), "503"),
        (Fault::Drop, "no answer"),
    ];
    for (fault, message) in faults {
        proxy.set(fault.clone());
        let mut command = consul_lock_at(&proxy.addr());
        let ended = Running::start(command.args(["run", "--retry-for=1s", "k", "-c", "echo ran"])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(69), ""), "{fault:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{fault:?}: {}", ended.stderr);
    }
    agent.expect_nothing_left();
}

#[test]
fn a_guard_that_is_killed_is_70() {
    let agent = Agent::plain();
    let key = unique_key("guard");
    let mut holder = hold(&agent, &[], &key);
    let guard = holder.expect_process("lock-guard", PATIENCE);
    kill(guard, Signal::SIGKILL).unwrap();
    let ended = holder.wait(PATIENCE);
    assert_eq!(ended.code(), Some(70));
    assert!(ended.stderr.contains("lock-guard was killed from outside"), "{}", ended.stderr);
    holder.expect_no_survivors(PATIENCE);
    agent.expect_nothing_left();
}

#[test]
fn a_lost_lock_is_76_or_as_chosen_whatever_the_command_returned() {
    let agent = Agent::plain();
    let command = "trap 'exit 0' TERM; echo started; while :; do sleep 0.01; done";
    for (flags, code) in [(&[][..], 76), (&["--lost-exit-code=3"], 3), (&["--lost-exit-code", "0", "-q"], 0)] {
        let key = unique_key("lost");
        let args = [&["run"], flags, &[&key, "-c", command]].concat();
        let mut running = Running::start(consul_lock_on(&agent).args(args));
        running.expect_stdout("started", PATIENCE);
        agent.destroy_session(&agent.holder(&key).unwrap());
        let ended = running.wait(PATIENCE);
        assert_eq!((ended.code(), ended.signal()), (Some(code), None), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("lost {key}: its session has ended")), "{}", ended.stderr);
        assert!(ended.stderr.contains("before anybody else could hold the lock"), "{}", ended.stderr);
        assert!(agent.sessions().is_empty());
    }
}

#[test]
fn a_loss_that_only_the_release_shows_changes_no_code() {
    let agent = Agent::plain();
    let mut proxy = Proxy::start(&agent.http_addr());
    let key = unique_key("unseen");
    let mut command = consul_lock_at(&proxy.addr());
    command.args(["run", &key, "-c", "echo started; read line; exit 5"]);
    let mut running = Running::start_with_stdin(&mut command, std::process::Stdio::piped());
    running.expect_stdout("started", PATIENCE);
    proxy.rules(vec![Rule::new(Fault::Drop).method("GET")]);
    // What is on its way already must not tell.
    proxy.reset_connections();
    agent.destroy_session(&agent.holder(&key).unwrap());
    drop(running.take_stdin());
    let ended = running.wait(PATIENCE);
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("was not ours any more when it was released"), "{}", ended.stderr);
}

#[test]
fn what_consul_denies_is_77_with_the_rule_that_is_missing() {
    let agent = Agent::start(Options { acl: true, ..Options::default() });
    let session = r#"session_prefix "" { policy = "write" }"#;
    let cases = [
        (
            r#"key_prefix "" { policy = "write" }"#.to_owned(),
            "making a session",
            r#"session_prefix "" { policy = "write" }"#,
        ),
        (session.to_owned(), "the key", r#"key "jobs/a" { policy = "write" }"#),
        (
            format!(r#"{session} key "jobs/a" {{ policy = "read" }}"#),
            "writing the key",
            r#"key "jobs/a" { policy = "write" }"#,
        ),
        (
            format!(r#"{session} key "jobs/b" {{ policy = "write" }}"#),
            "the key",
            r#"key "jobs/a" { policy = "write" }"#,
        ),
        (
            format!(r#"{session} key "jobs/a" {{ policy = "write" }}"#),
            "writing the key",
            r#"key_prefix "jobs/a/.read/" { policy = "write" }"#,
        ),
    ];
    for (rules, what, missing) in cases {
        let token = agent.token_with(&rules);
        let mut command = consul_lock_on(&agent);
        command.env("CONSUL_HTTP_TOKEN", &token).args(["run", "jobs/a", "-c", "echo ran"]);
        let ended = Running::start(&mut command).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(77), ""), "{rules}: {}", ended.stderr);
        assert!(ended.stderr.contains(what) && ended.stderr.contains(missing), "{rules}: {}", ended.stderr);
        assert!(!ended.stderr.contains(&token), "{}", ended.stderr);
        agent.expect_nothing_left();
    }
    // And with just the rules that the messages name it works.
    let below = r#"key_prefix "jobs/a/.read/" { policy = "write" }"#;
    let token = agent.token_with(&format!(r#"{session} key "jobs/a" {{ policy = "write" }} {below}"#));
    let mut command = consul_lock_on(&agent);
    command.env("CONSUL_HTTP_TOKEN", &token).args(["run", "jobs/a", "--", "true"]);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
}

/// An executable file with this text.
fn script(dir: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_command_that_cannot_be_executed_is_126_or_127_before_anything_is_locked() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let no_permission = script(dir.path(), "no-permission", b"#!/bin/sh\n", 0o644);
    let no_interpreter = script(dir.path(), "no-interpreter", b"#!/nonexistent/interpreter -x\n", 0o755);
    let windows = script(dir.path(), "windows", b"#!/bin/sh\r\necho\r\n", 0o755);
    let within = dir.path().join("no-permission/within");
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let cases = [
        (path(&no_permission), 126, "may not execute it"),
        ("no-permission".to_owned(), 126, "may not execute it"),
        (path(&dir.path().to_owned()), 126, "it is a directory"),
        ("/dev/null".to_owned(), 126, "it is no regular file"),
        ("nonexistent-command".to_owned(), 127, "no such command along PATH"),
        ("./nonexistent-command".to_owned(), 127, "no such command"),
        (path(&within), 127, "no such command"),
        (path(&no_interpreter), 127, "its interpreter \"/nonexistent/interpreter\" does not exist"),
        (path(&windows), 127, "Windows line ends"),
        (String::new(), 127, "the command's name is empty"),
    ];
    let path_variable = format!("{}:/usr/bin:/bin", dir.path().display());
    for (name, code, message) in cases {
        let mut command = consul_lock_on(&agent);
        command.args(["run", &unique_key("exec"), "--", &name, "argument"]).env("PATH", &path_variable);
        let ended = Running::start(command.current_dir(&dir)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{name}: {}", ended.stderr);
    }
    assert_eq!(agent.requests(), [""; 0]);
}

#[test]
fn what_only_execve_can_tell_comes_after_the_lock_and_is_126() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let busy = dir.path().join("busy");
    std::fs::copy("/bin/true", &busy).unwrap();
    let open = std::fs::OpenOptions::new().append(true).open(&busy).unwrap();
    let ended = run_on(&agent, &["run", &unique_key("busy"), "--", busy.to_str().unwrap()]);
    assert_eq!(ended.code(), Some(126));
    assert!(ended.stderr.contains("cannot be executed") && ended.stderr.contains("released"), "{}", ended.stderr);
    agent.expect_nothing_left();
    drop(open);
}

#[test]
fn a_script_without_a_first_line_is_run_by_the_shell() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let plain = script(dir.path(), "plain", b"echo \"$0 $1\"; exit 9\n", 0o755);
    let name = plain.to_str().unwrap();
    let ended = run_on(&agent, &["run", &unique_key("plain"), "--", name, "one"]);
    assert_eq!((ended.code(), ended.stdout), (Some(9), format!("{name} one\n")), "{}", ended.stderr);
}
