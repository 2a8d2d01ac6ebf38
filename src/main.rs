//! The `consul-lock` command.

fn main() {}
