//! The `consul-lock` command: parse, run, turn the outcome into an exit. What it promises is in docs/guarantee.md.

#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

mod cli;
mod guard;
mod hold;
mod local;
mod run;
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
mod start;
mod sys;

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(test))))]
fn main() {
    begin()
}

fn begin() -> ! {
    match cli::main() {
        Ok(exit) => exit.exit(),
        Err(error) => cli::fail(&error),
    }
}
