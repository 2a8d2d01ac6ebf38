//! Scripts for the shells that people write them for, with the binary under test on PATH.

use std::path::Path;
use std::process::Command;

use super::agent::Agent;
use super::consul_lock_on;

/// The shells: what `/bin/sh` is on Debian, what it is elsewhere, and the one that differs most.
pub const SHELLS: [&str; 3] = ["dash", "bash", "zsh"];

/// `SHELL -c TEXT`, with `consul-lock` on PATH and the agent's address in its environment. The shell reads no start-up
/// files.
pub fn script(agent: &Agent, shell: &str, text: &str) -> Command {
    let present = Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success());
    assert!(present, "{shell} is needed for the tests and not there: apt-get install {shell}");
    let binary = assert_cmd::cargo::cargo_bin!("consul-lock");
    let folder = Path::new(&binary).parent().expect("a program is in a folder").display().to_string();
    let mut command = Command::new("env");
    for (name, value) in consul_lock_on(agent).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()));
    // No intermediate process: `env` becomes the shell.
    if shell == "zsh" {
        command.args([shell, "-f", "-c", text])
    } else {
        command.args([shell, "-c", text])
    };
    command
}
