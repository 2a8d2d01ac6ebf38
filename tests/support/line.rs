//! The line of those who wait for a key, as Consul has it: entries `KEY/.queue/SESSION`.

use std::process::Command;

use super::agent::{Agent, PATIENCE};
use super::running::Running;
use super::{consul_lock_on, eventually};

/// The sessions in line before a key, the first of the line first. Entries of dead waiters do not count.
#[track_caller]
pub fn line(agent: &Agent, key: &str) -> Vec<String> {
    let reply = agent.get(&format!("/v1/kv/{key}/.queue/?recurse&consistent"));
    let listed = reply.json();
    let mut entries: Vec<_> = listed.as_array().into_iter().flatten().collect();
    entries.sort_by_key(|entry| entry["CreateIndex"].as_u64());
    entries.iter().filter_map(|entry| entry["Session"].as_str()).map(str::to_owned).collect()
}

/// Starts a run and returns when it is the last of the line, with its session there.
#[track_caller]
pub fn queue(agent: &Agent, command: &mut Command, key: &str) -> (Running, String) {
    let before = line(agent, key);
    let running = Running::start(command);
    let session = eventually("the run has a place in the line", PATIENCE, || {
        line(agent, key).pop().filter(|last| !before.contains(last))
    });
    (running, session)
}

/// [`queue`] of `consul-lock run FLAGS KEY -c SCRIPT` at the agent itself.
#[track_caller]
pub fn waiter(agent: &Agent, flags: &[&str], key: &str, script: &str) -> (Running, String) {
    queue(agent, consul_lock_on(agent).arg("run").args(flags).args([key, "-c", script]), key)
}
