//! The `consul-lock` command.

// Until the run command uses the guard.
#![allow(dead_code, unused_imports)]

mod guard;
mod sys;

fn main() {}
