//! The `consul-lock` command.

mod cli;
mod sys;

fn main() {}
