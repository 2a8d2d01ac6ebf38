//! The `consul-lock` command: parse, run, turn the outcome into an exit. What it promises is in docs/guarantee.md.

mod cli;
mod guard;
mod hold;
mod local;
mod run;
mod sys;

fn main() {
    match cli::main() {
        Ok(exit) => exit.exit(),
        Err(error) => cli::fail(&error),
    }
}
