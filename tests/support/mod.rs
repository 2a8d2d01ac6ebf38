//! What the integration tests share: the binary under test, ways to wait for a condition, and the real things around
//! it: Consul agents and clusters, a proxy that misbehaves, a terminal. Everything started here ends with the value
//! that stands for it, and at the latest with the test process, however that ends.

// Each file of tests/ is a crate of its own that compiles this module anew and uses a part of it only.
#![allow(dead_code, unreachable_pub)]

pub mod agent;
pub mod cluster;
pub mod findings;
pub mod hold;
pub mod http;
pub mod line;
pub mod page;
pub mod proxy;
pub mod pty;
pub mod running;
pub mod shell;
pub mod tls;
pub mod ward;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use agent::{Agent, PATIENCE};
use running::{Ended, Running};

/// The variable that marks every process of one run, see [`marker`].
pub const MARK: &str = "CONSUL_LOCK_TEST_MARK";

/// The binary under test with a clean environment: nothing of Consul's and no proxy from whoever runs the tests.
/// Without CONSUL_HTTP_ADDR it would go to Consul's default port: give it one, or use [`consul_lock_at`].
pub fn consul_lock() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("consul-lock"));
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("CONSUL_") || upper.ends_with("_PROXY") || upper == "NO_COLOR" {
            command.env_remove(&name);
        }
    }
    command
}

/// [`consul_lock`] for the Consul at `addr`, spelled as in CONSUL_HTTP_ADDR.
pub fn consul_lock_at(addr: &str) -> Command {
    let mut command = consul_lock();
    command.env("CONSUL_HTTP_ADDR", addr);
    command
}

/// [`consul_lock`] for an agent's plain HTTP port, without a token.
pub fn consul_lock_on(agent: &Agent) -> Command {
    consul_lock_at(&agent.http_addr())
}

/// Runs the binary under test to its end, with these arguments.
#[track_caller]
pub fn run_on(agent: &Agent, args: &[&str]) -> Ended {
    Running::start(consul_lock_on(agent).args(args)).wait(PATIENCE)
}

/// A run that holds `key`, with these flags, until it is signalled or dropped. Its command is `sleep`.
#[track_caller]
pub fn hold(agent: &Agent, flags: &[&str], key: &str) -> Running {
    let mut command = consul_lock_on(agent);
    command.arg("run").args(flags).args([key, "--", "sh", "-c", "echo started; exec sleep 1000"]);
    let holder = Running::start(&mut command);
    holder.expect_stdout("started\n", PATIENCE);
    holder
}

/// Asks `look` until it finds something, and panics with `what` when it has not within `bound`.
#[track_caller]
pub fn eventually<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        // The time is taken first, so that a slow machine gets one look after the bound.
        let late = start.elapsed() > bound;
        if let Some(found) = look() {
            return found;
        }
        assert!(!late, "not within {bound:?}: {what}");
        thread::sleep(Duration::from_millis(if start.elapsed().as_millis() < 50 { 2 } else { 15 }));
    }
}

/// A key that no other test and no earlier run uses.
pub fn unique_key(name: &str) -> String {
    format!("test/{name}/{:012x}", fastrand::u64(..1 << 48))
}

/// A value for [`MARK`] that nothing else on this machine has. Processes inherit it, so that whatever is left of a run
/// can be found by [`survivors`], wherever in the process tree it has gone.
pub fn marker() -> String {
    format!("{}-{:016x}", std::process::id(), fastrand::u64(..))
}

/// The processes alive with this mark in the environment that they were executed with: pid and name. Zombies have no
/// environment and do not count; a process that was executed with a cleaned environment (`env -i`) is not found.
pub fn survivors(mark: &str) -> Vec<(i32, String)> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Whatever cannot be read is gone by now, or another user's.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((pid, name.trim_end().to_owned()));
        }
    }
    found
}

/// Kills whatever has this mark until nothing has; quietly gives up after five seconds, since it runs in drops.
pub fn kill_survivors(mark: &str) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let left = survivors(mark);
        if left.is_empty() {
            return;
        }
        for (pid, _) in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The state letter of a process as in proc_pid_stat(5): `R`, `S`, `T` stopped, `Z` zombie; none if it is gone.
pub fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether the process exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    !matches!(process_state(pid), None | Some('Z' | 'X'))
}
