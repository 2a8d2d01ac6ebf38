//! What cannot be meant is refused before anything is asked of Consul, each thing by a message of its own.

mod support;

use std::fs;

use support::agent::{Agent, PATIENCE};
use support::running::Running;
use support::{consul_lock_on, hold, unique_key};

/// Flags and key, variables, exit code, and a part of the message.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);

/// Tries each case on a fresh agent, which must not hear of any.
#[track_caller]
fn refused(cases: &[Case<'_>]) {
    let agent = Agent::plain();
    for (args, variables, code, message) in cases {
        let mut command = consul_lock_on(&agent);
        command.envs(variables.iter().copied()).arg("run").args(*args);
        if !args.contains(&"--") && !args.contains(&"-c") {
            command.args(["--", "echo", "ran"]);
        }
        let ended = Running::start(&mut command).wait(PATIENCE);
        assert_eq!(
            (ended.code(), ended.stdout.as_str()),
            (Some(*code), ""),
            "{args:?} {variables:?}: {}",
            ended.stderr
        );
        assert!(ended.stderr.contains(message), "{args:?} {variables:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{args:?} {variables:?}: {}", ended.stderr);
    }
    agent.expect_nothing_left();
    assert_eq!(agent.requests(), [""; 0]);
}

#[test]
fn keys_that_consul_could_not_carry() {
    let long = "x".repeat(401);
    refused(&[
        (&[""], &[], 64, "the key is empty"),
        (&[&long], &[], 64, "the key has 401 bytes, 400 is the most"),
        (&["/a"], &[], 64, "begins with a slash"),
        (&["a/"], &[], 64, "ends with a slash"),
        (&["/"], &[], 64, "begins with a slash"),
        (&["a//b"], &[], 64, "empty segment"),
        (&["."], &[], 64, "\".\" segment"),
        (&[".."], &[], 64, "\"..\" segment"),
        (&["a/./b"], &[], 64, "\".\" segment"),
        (&["a/../b"], &[], 64, "\"..\" segment"),
        (&["a\nb"], &[], 64, "control character '\\n'"),
        (&["a\tb"], &[], 64, "control character '\\t'"),
        (&["a\x1b[2J"], &[], 64, "control character"),
        (&["a/.queue/b"], &[], 64, "\".queue\", which consul-lock keeps for itself"),
        (&["a/.slot"], &[], 64, "\".slot\", which consul-lock keeps for itself"),
        (&[".read/b"], &[], 64, "\".read\", which consul-lock keeps for itself"),
    ]);
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let agent = Agent::plain();
    let mut command = consul_lock_on(&agent);
    command.arg("run").arg(std::ffi::OsStr::from_bytes(b"a\xff")).args(["--", "echo", "ran"]);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("UTF-8"), "{}", ended.stderr);
}

#[test]
fn keys_as_people_write_them_are_taken() {
    let agent = Agent::plain();
    for key in ["a", "spaces are fine", "ünï/cödé", "a/.b/..c", "100%?#&", "a+b", "-", &"x".repeat(400)] {
        let mut command = consul_lock_on(&agent);
        let ended = Running::start(command.args(["run", key, "-c", "echo \"$CONSUL_LOCK_KEY\""])).wait(PATIENCE);
        assert_eq!((ended.code(), ended.stdout), (Some(0), format!("{key}\n")), "{}", ended.stderr);
    }
    agent.expect_nothing_left();
}

#[test]
fn times_that_consul_would_not_keep() {
    refused(&[
        (&["--ttl=9.999s", "k"], &[], 64, "10 s at least and 24 h at most, not 9.999s"),
        (&["--ttl=0", "k"], &[], 64, "10 s at least and 24 h at most, not 0"),
        (&["--ttl=24h1s", "k"], &[], 64, "10 s at least and 24 h at most, not 86401s"),
        (&["--lock-delay=60.001s", "k"], &[], 64, "a lock delay is 60 s at most, not 60.001s"),
        (&["--lock-delay=0", "k"], &[], 64, "--no-guarantee"),
        (&["--lock-delay=0", "k"], &[], 64, "choose a lock delay up to 60s"),
    ]);
}

#[test]
fn a_grace_that_leaves_no_time_shows_the_sum() {
    refused(&[
        (&["-k", "28s", "k"], &[], 64, "lock delay 30s - margin 1.5s - grace 28s leaves 500ms"),
        (&["-k", "40s", "k"], &[], 64, "lock delay 30s - margin 1.5s - grace 40s leaves -11.5s"),
        (&["--lock-delay=6s", "k"], &[], 64, "lock delay 6s - margin 500ms - grace 5s leaves 500ms"),
        (&["--lock-delay=1s", "-k", "0", "k"], &[], 64, "lock delay 1s - margin 500ms - grace 0s leaves 500ms"),
        (&["-k", "1h", "k"], &[], 64, "at least 1s is needed"),
    ]);
}

#[test]
fn durations_that_are_none() {
    refused(&[
        (&["-w", "", "k"], &[], 64, "the duration is empty"),
        (&["-w=-1", "k"], &[], 64, "has a sign"),
        (&["-w=+1s", "k"], &[], 64, "has a sign"),
        (&["--wait=abc", "k"], &[], 64, "no number at \"abc\""),
        (&["--ttl=15", "--wait=1m30", "k"], &[], 64, "a number without a unit, 30"),
        (&["--ttl=1d", "k"], &[], 64, "the unit \"d\""),
        (&["--kill-after=5S", "k"], &[], 64, "the unit \"S\""),
        (&["--retry-for=1 s", "k"], &[], 64, "the unit \" s\""),
        (&["--lock-delay=1e3s", "k"], &[], 64, "the unit \"e\""),
        (&["--monitor-retry-time=99999999999h", "k"], &[], 64, "longer than 2562047h"),
    ]);
}

#[test]
fn signals_codes_and_numbers_that_are_none() {
    refused(&[
        (&["-s", "FOO", "k"], &[], 64, "there is no signal \"FOO\""),
        (&["-s", "", "k"], &[], 64, "there is no signal \"\""),
        (&["-s", "0", "k"], &[], 64, "there is no signal \"0\""),
        (&["-s", "STOP", "k"], &[], 64, "SIGSTOP does not end a process"),
        (&["--kill-signal=WINCH", "k"], &[], 64, "SIGWINCH does not end a process"),
        (&["-E", "300", "k"], &[], 64, "300 is not in 0..=255"),
        (&["-E=-1", "k"], &[], 64, "-1"),
        (&["--lost-exit-code=256", "k"], &[], 64, "256 is not in 0..=255"),
        (&["--monitor-retries=many", "k"], &[], 64, "many"),
        (&["--behavior=nope", "k"], &[], 64, "release, delete"),
        (&["--background=nope", "k"], &[], 64, "kill, wait, leave"),
        (&["--log-format=xml", "k"], &[], 64, "text, json"),
        (&["--color=sometimes", "k"], &[], 64, "auto, always, never"),
    ]);
}

#[test]
fn flags_that_are_unknown_or_do_not_go_together() {
    refused(&[
        (&["--nope", "k"], &[], 64, "--nope"),
        (&["--ttl", "15s", "--ttl", "20s", "k"], &[], 64, "--ttl"),
        (&["-n", "-w", "5", "k"], &[], 64, "--wait"),
        (&["-q", "-v", "k"], &[], 64, "--quiet"),
        (&["--check=a", "--no-checks", "k"], &[], 64, "--no-checks"),
        (&["k", "-c", "true", "--", "true"], &[], 64, "-c"),
        (&["k", "--"], &[], 64, "no command"),
        (&["-n", "3", "k"], &[], 64, "did you mean --limit 3?"),
        (&["k", "-n", "3"], &[], 64, "did you mean --limit 3?"),
        // As Go's flags may be written, and flock's.
        (&["-n=3", "k"], &[], 64, "did you mean --limit 3?"),
        (&["-n3", "k"], &[], 64, "did you mean --limit 3?"),
        (&["-nx3", "k"], &[], 64, "unexpected argument '-x' found\n"),
        (&["--local", "/tmp", "k"], &[], 64, "did you mean --local=/tmp k?"),
        (&["--local", "/tmp"], &[], 64, "did you mean --local=/tmp"),
        (&["k", "--local", "/tmp"], &[], 64, "did you mean --local=/tmp k?"),
        (&["--local=/tmp", "/k"], &[], 64, "begins with a slash"),
        (&["--session=mine", "k"], &[], 64, "\"mine\" is no session"),
        (&["--session=", "k"], &[], 64, "\"\" is no session"),
    ]);
}

#[test]
fn no_key_and_no_command() {
    let agent = Agent::plain();
    for (args, message) in [
        (&["run"][..], "KEY"),
        (&["run", "k"], "no command"),
        (&["run", "k", "./true"], "--"),
        (&["run", "--", "true"], "KEY"),
    ] {
        let ended = Running::start(consul_lock_on(&agent).args(args)).wait(PATIENCE);
        assert_eq!(ended.code(), Some(64), "{args:?}");
        assert!(ended.stderr.contains(message), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(agent.requests(), [""; 0]);
}

#[test]
fn addresses_that_are_none() {
    refused(&[
        (&["--http-addr=ftp://a:1", "k"], &[], 64, "the address of --http-addr has the unknown scheme \"ftp\""),
        (
            &["k"],
            &[("CONSUL_HTTP_ADDR", "gopher://a")],
            64,
            "the address of CONSUL_HTTP_ADDR has the unknown scheme \"gopher\"",
        ),
        (&["--http-addr=127.0.0.1:0", "k"], &[], 64, "has the port \"0\": use a number from 1 to 65535"),
        (&["--http-addr=127.0.0.1:65536", "k"], &[], 64, "has the port \"65536\""),
        (&["--http-addr=", "k"], &[], 64, "is empty: write host:port"),
        (&["--http-addr=unix://", "k"], &[], 64, "names no socket"),
        (&[&format!("--http-addr=unix:///{}", "x".repeat(107)), "k"], &[], 64, "names a socket by 108 bytes"),
        (&["--http-addr=http://user:pass@a", "k"], &[], 64, "CONSUL_HTTP_AUTH"),
        (&["k"], &[("CONSUL_HTTP_SSL", "perhaps")], 64, "CONSUL_HTTP_SSL is \"perhaps\": write true or false"),
        (&["--ca-file=/x", "k"], &[], 64, "--ca-file needs TLS"),
    ]);
}

#[test]
fn files_that_cannot_be_used_are_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, folder, no_pem) = (file("empty", "\n"), dir.path().to_str().unwrap(), file("no-pem", "hello"));
    let missing = dir.path().join("missing").to_str().unwrap().to_owned();
    let https = "--http-addr=https://127.0.0.1:1";
    refused(&[
        (&["--token-file", &missing, "k"], &[], 78, &format!("cannot read {missing} (--token-file)")),
        (&["--token-file", folder, "k"], &[], 78, "(--token-file)"),
        (&["--token-file", &empty, "k"], &[], 78, "is empty: put the token into it"),
        (&["k"], &[("CONSUL_HTTP_TOKEN_FILE", &missing)], 78, "(CONSUL_HTTP_TOKEN_FILE)"),
        (&[https, "--ca-file", &missing, "k"], &[], 78, "(--ca-file)"),
        (&[https, "--ca-file", &no_pem, "k"], &[], 78, "in PEM"),
        (&[https, "--ca-path", &missing, "k"], &[], 78, "(--ca-path)"),
        (&[https, "--client-cert", &no_pem, "--client-key", &no_pem, "k"], &[], 78, "in PEM"),
        (&[https, "--client-cert", &no_pem, "k"], &[], 64, "--client-cert without --client-key"),
        (&[https, "k"], &[("CONSUL_CLIENT_KEY", &no_pem)], 64, "CONSUL_CLIENT_KEY without CONSUL_CLIENT_CERT"),
    ]);
}

#[test]
fn a_token_with_a_line_break_is_refused_and_not_shown() {
    let agent = Agent::plain();
    let mut command = consul_lock_on(&agent);
    command.env("CONSUL_HTTP_TOKEN", "s3cret\nmore").args(["run", "k", "--", "echo", "ran"]);
    let ended = Running::start(&mut command).wait(PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("CONSUL_HTTP_TOKEN") && !ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

#[test]
fn a_refusal_does_not_disturb_who_holds_the_lock() {
    let agent = Agent::plain();
    let key = unique_key("held");
    let holder = hold(&agent, &[], &key);
    let before = agent.kv(&key);
    for args in [&["run", "--ttl=1s", &key, "--", "true"][..], &["run", &key, "--", "/tmp"], &["run", &key]] {
        let code = Running::start(consul_lock_on(&agent).args(args)).wait(PATIENCE).code();
        assert!(matches!(code, Some(64 | 126)), "{args:?}: {code:?}");
    }
    assert_eq!((agent.kv(&key), agent.sessions().len()), (before, 1));
    drop(holder);
}
