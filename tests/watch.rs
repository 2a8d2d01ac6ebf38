//! `consul-lock status --watch`: the lock again whenever it changes.

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use support::agent::{Agent, Options, PATIENCE};
use support::line::waiter;
use support::pty::Pty;
use support::running::Running;
use support::{consul_lock, consul_lock_on, eventually, hold, unique_key};

/// The objects that a watch has written, once there are so many.
#[track_caller]
fn objects(watch: &Running, count: usize) -> Vec<Value> {
    eventually(&format!("{count} changes"), PATIENCE, || {
        let text = watch.stdout();
        let lines: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        (lines.len() >= count).then(|| lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect())
    })
}

#[test]
fn each_change_is_told_once_and_a_loss_with_what_is_left_of_its_delay() {
    let agent = Agent::start(Options { durable: true, ..Options::default() });
    let key = unique_key("watch");
    let mut command = consul_lock_on(&agent);
    let mut watch = Running::start(command.args(["status", "--watch", "--json", &key]));
    assert_eq!(objects(&watch, 1)[0]["held"], false);

    let holder = hold(&agent, &["--no-checks", "--lock-delay", "40s"], &key);
    let session = agent.holder(&key).expect("it is held");
    assert_eq!(objects(&watch, 2)[1]["holders"][0]["session"], json!(session));
    let (waiting, _) = waiter(&agent, &[], &key, "true");
    assert_eq!(objects(&watch, 3)[2]["queue"].as_array().map(Vec::len), Some(1));
    drop(waiting);
    // A write beside it is no change of it.
    agent.put(&format!("/v1/kv/{key}-and-more"), "");
    agent.put(&format!("/v1/kv/{key}/below"), "");

    // An outage is told once and ridden out, and what happened meanwhile is not missed.
    let mut agent = agent;
    agent.kill9();
    watch.expect_stderr("trying again", PATIENCE);
    agent.restart();
    agent.destroy_session(&session);
    let lost = eventually("the loss", PATIENCE, || {
        objects(&watch, 3).into_iter().find(|object| object["held"] == false && !object["lock_delay"].is_null())
    });
    assert_eq!(lost["lock_delay"]["at_most"], json!(40.0));
    let left = lost["lock_delay"]["left"].as_f64().expect("it saw the loss");
    assert!((0.0..=40.0).contains(&left), "{lost}");
    assert_eq!(lost["lock_delay"]["last_holder"]["pid"], json!(holder.pid().as_raw()));
    assert_eq!(watch.stderr().lines().count(), 1, "{}", watch.stderr());

    watch.signal(Signal::SIGINT);
    assert_eq!(watch.wait(PATIENCE).signal(), Some(2));
    // No two lines in a row say the same, but for times.
    let mut told = objects(&watch, 4);
    for object in &mut told {
        object["ts"] = Value::Null;
        for list in ["holders", "queue"] {
            for one in object[list].as_array_mut().expect("a list") {
                one["held_for"] = Value::Null;
                one["waiting_for"] = Value::Null;
            }
        }
    }
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:#?}");
}

#[test]
fn a_terminal_is_painted_in_place_and_a_pipe_gets_blocks() {
    let agent = Agent::plain();
    let key = unique_key("screen");
    let binary = assert_cmd::cargo::cargo_bin!("consul-lock").display().to_string();
    let mut command = consul_lock_on(&agent);
    let mut pipe = Running::start(command.args(["status", "--watch", &key]));
    pipe.expect_stdout(&format!("{key}: free\n"), PATIENCE);

    // Without a terminal's TERM there is nothing to paint with.
    let mut bash = Pty::bash();
    bash.send(format!("TERM=xterm CONSUL_HTTP_ADDR={} {binary} status --watch {key}\n", agent.http_addr()));
    bash.expect(&format!("\x1b[2J\x1b[H{key}: free\x1b[K\r\n\x1b[J"), PATIENCE);
    let holder = hold(&agent, &[], &key);
    bash.expect(&format!("\x1b[H{key}: held\x1b[K\r\n  holder   sh (pid {} of ", holder.pid()), PATIENCE);
    // Times go on though nothing changes, and without a look: each asks for the holder's session, which nobody else does.
    let looks = || agent.requests().iter().filter(|request| request.contains("/v1/session/info/")).count();
    bash.expect(" (1 s)\x1b[K", PATIENCE);
    let before = eventually("the looks are in the log", PATIENCE, || Some(looks()).filter(|looks| *looks > 0));
    bash.expect(" (2 s)\x1b[K", PATIENCE);
    bash.expect(" (3 s)\x1b[K", PATIENCE);
    let after = looks();
    assert!(after <= before + 1, "{before} looks became {after}");
    // A lost one counts down.
    agent.destroy_session(&agent.holder(&key).expect("it is held"));
    bash.expect("s left: sh (pid", PATIENCE);
    bash.expect("\x1b[H", PATIENCE);
    bash.expect_foreground("consul-lock", PATIENCE);
    bash.send("\x03");
    bash.expect("$ ", PATIENCE);
    bash.send("echo code''=$?\n");
    bash.expect("code=130", PATIENCE);

    pipe.expect_stdout(&format!("\n\n{key}: free\n  delay    "), PATIENCE);
    assert!(!pipe.stdout().contains('\x1b') && pipe.stdout().contains(&format!("\n\n{key}: held\n")));
    // Nobody reads any more: it ends at the next change.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = consul_lock_on(&agent);
    let mut unread = command.args(["status", "--watch", "--json", "other"]).stdout(writer).spawn().expect("started");
    drop(command);
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut &reader, &mut first).expect("the first line");
    drop(reader);
    let _other = hold(&agent, &[], "other");
    let status = eventually("it has ended", PATIENCE, || unread.try_wait().expect("our child"));
    assert_eq!(status.to_string(), "signal: 13 (SIGPIPE)");
    pipe.signal(Signal::SIGINT);
    assert_eq!(pipe.wait(PATIENCE).signal(), Some(2));
}

#[test]
fn a_lock_of_this_machine_is_watched_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let local = format!("--local={}", folder.path().display());
    let mut watch = Running::start(consul_lock().args(["status", "--watch", "--json", &local, "k"]));
    assert_eq!(objects(&watch, 1)[0]["held"], false);
    let mut command = consul_lock();
    let mut run = Running::start(command.args(["run", &local, "k", "-c", "echo started; exec sleep 1000"]));
    run.expect_stdout("started", PATIENCE);
    assert_eq!(objects(&watch, 2)[1]["holders"][0]["pid"], json!(run.pid().as_raw()));
    run.signal(Signal::SIGTERM);
    run.wait(PATIENCE);
    assert_eq!(objects(&watch, 3)[2]["held"], false);
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.wait(PATIENCE).signal(), Some(2));
}
