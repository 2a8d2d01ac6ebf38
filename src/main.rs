//! The `consul-lock` command.

mod cli;

fn main() {}
