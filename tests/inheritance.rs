//! The command runs as it would without us: arguments, standard streams, descriptors, directory, signals.

mod support;

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use support::agent::{Agent, PATIENCE};
use support::running::Running;
use support::{MARK, consul_lock_on, eventually, kill_survivors, marker, unique_key};

/// The binary under test under a shell script, in which `"$@"` is `consul-lock run KEY --`, or nothing.
fn scripted(agent: &Agent, script: &str, locked: bool) -> Command {
    let lock = consul_lock_on(agent);
    let mut shell = Command::new("bash");
    shell.args(["-c", script, "bash"]).env("CONSUL_HTTP_ADDR", agent.http_addr());
    if locked {
        shell.arg(lock.get_program()).args(["run", &unique_key("script"), "--"]);
    }
    shell
}

/// What the script writes with the lock and without.
fn with_and_without(agent: &Agent, script: &str) -> [String; 2] {
    [true, false].map(|locked| {
        let ended = Running::start(&mut scripted(agent, script, locked)).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{script}");
        ended.stdout
    })
}

#[test]
fn arguments_arrive_as_given() {
    let agent = Agent::plain();
    let odd: [&[u8]; 11] = [
        b"",
        b" ",
        b"two words",
        b"\xff\xfe\x80",
        b"--",
        b"-n",
        b"--help",
        b"$HOME * ;",
        b"new\nline",
        b"\xc3\xbc",
        b"",
    ];
    let args: Vec<OsString> = odd.iter().map(|bytes| OsStr::from_bytes(bytes).to_owned()).collect();
    let mut command = consul_lock_on(&agent);
    command.args(["run", &unique_key("argv"), "--", "sh", "-c", r#"for a; do printf '%s\0' "$a"; done"#, "sh"]);
    let output = command.args(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let arrived: Vec<_> = output.stdout.split(|byte| *byte == 0).collect();
    assert_eq!(arrived[..odd.len()], odd);
    assert_eq!(arrived.len(), odd.len() + 1, "the last one is what follows the last NUL");
}

#[test]
fn a_string_is_run_by_the_shell() {
    let agent = Agent::plain();
    let mut command = consul_lock_on(&agent);
    command
        .args(["run", &unique_key("shell"), "-c"])
        .arg(OsStr::from_bytes(b"echo a && printf '\xff' | wc -c; exit 5"));
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(5), "a\n1\n"));
}

#[test]
fn what_a_script_writes_through_a_process_that_outlives_it_all_arrives() {
    let agent = Agent::plain();
    // All is in the pipe, and the script at its end, before its reader begins.
    let script = r#"exec > >(sleep 0.5; while read -r line; do echo "got $line"; done); seq 3000; exit 5"#;
    let key = unique_key("outlived");
    let mut run = Running::start(consul_lock_on(&agent).args(["run", "-v", &key, "--", "bash", "-c", script]));
    run.expect_stderr("the command ended with code 5", PATIENCE);
    run.expect_stdout("got 1\n", PATIENCE);
    let ended = run.wait(PATIENCE);
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
    assert!(ended.stdout.lines().eq((1..=3000).map(|number| format!("got {number}"))), "{}", ended.stdout.len());
    assert!(!ended.stderr.contains("ended bash"), "{}", ended.stderr);
    agent.expect_nothing_left();
}

#[test]
fn standard_streams_and_directory_are_the_callers() {
    let agent = Agent::plain();
    let dir = tempfile::tempdir().unwrap();
    let mut command = consul_lock_on(&agent);
    command.args(["run", &unique_key("streams"), "--", "sh", "-c", "pwd; cat; echo to stderr >&2; echo $MINE"]);
    command.current_dir(&dir).env("MINE", "mine");
    let mut running = Running::start_with_stdin(&mut command, Stdio::piped());
    running.take_stdin().unwrap().write_all(b"from stdin\n").unwrap();
    let ended = running.wait(PATIENCE);
    let here = dir.path().canonicalize().unwrap();
    assert_eq!(ended.stdout, format!("{}\nfrom stdin\nmine\n", here.display()));
    assert_eq!(ended.stderr, "to stderr\n");
}

#[test]
fn descriptors_that_were_handed_on_reach_the_command_and_no_others() {
    let agent = Agent::plain();
    let [locked, bare] =
        with_and_without(&agent, r#"exec 3<<<three 17<<<seventeen; "$@" bash -c 'cat <&3 <&17; cat <&3'"#);
    assert_eq!(locked, bare);
    let [locked, bare] = with_and_without(
        &agent,
        r#"exec 5</dev/null; "$@" bash -c 'echo /proc/$$/fd/*' | tr -dc '/0-9a-z \n' | sed 's,/proc/[0-9]*/,,g'"#,
    );
    assert_eq!(locked, bare);
    assert!(locked.contains("fd/5"), "{locked}");
}

/// The ignored signals in a text of proc_pid_status(5), as a mask.
fn ignored(status: &str) -> u64 {
    let (_, rest) = status.split_once("SigIgn:\t").expect("a line of ignored signals");
    u64::from_str_radix(&rest[..16], 16).expect("a mask")
}

#[test]
fn signal_dispositions_and_mask_are_the_callers_but_for_the_broken_pipe() {
    let agent = Agent::plain();
    let show = r#"grep -E "^Sig(Blk|Ign|Cgt)" /proc/self/status"#;
    for trap in ["", "trap '' HUP USR1;", "trap '' INT QUIT TERM CHLD;"] {
        let [locked, bare] = with_and_without(&agent, &format!(r#"{trap} "$@" {show}"#));
        if trap.contains("CHLD") {
            // Without a SIGCHLD of its own no program can wait for its children; it is default again.
            assert_eq!(ignored(&locked), ignored(&bare) & !(1 << 16), "{locked}{bare}");
        } else {
            assert_eq!(locked, bare, "{trap}");
        }
    }
    let [locked, bare] = with_and_without(&agent, &format!(r#"trap '' PIPE; "$@" {show}"#));
    assert_eq!(ignored(&locked), ignored(&bare) & !(1 << 12), "{locked}{bare}");
    let [locked, bare] = with_and_without(&agent, r#""$@" bash -c 'yes | head -n 1; echo ${PIPESTATUS[0]}'"#);
    assert_eq!((locked.as_str(), bare.as_str()), ("y\n141\n", "y\n141\n"));
}

#[test]
fn a_pipe_that_the_command_closes_is_closed() {
    let agent = Agent::plain();
    let closings = [
        (r#"exec "$@" sh -c 'echo on; exec >&-; exec sleep 1000'"#, "standard output"),
        (r#"exec 3>&1 >/dev/null; exec "$@" sh -c 'echo on >&3; exec 3>&-; exec sleep 1000'"#, "descriptor 3"),
    ];
    for (script, what) in closings {
        let mark = marker();
        let mut command = scripted(&agent, script, true);
        let mut child = command.env(MARK, &mark).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        // Comes to an end only when keeper, guard and command have all closed it.
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "on\n", "{what}");
        assert_eq!(child.try_wait().unwrap(), None, "{what}");
        kill_survivors(&mark);
        child.wait().unwrap();
    }
    let mark = marker();
    let mut command = scripted(&agent, r#"exec "$@" sh -c 'exec <&-; exec sleep 1000'"#, true);
    let mut child = command.env(MARK, &mark).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    eventually("nobody reads standard input any more", PATIENCE, || stdin.write_all(b"x").err());
    assert_eq!(child.try_wait().unwrap(), None);
    kill_survivors(&mark);
    child.wait().unwrap();
}
