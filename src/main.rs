//! The `consul-lock` command.

mod cli;
mod local;
mod sys;

fn main() {}
