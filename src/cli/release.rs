//! `consul-lock release`: the end of a lock that a script has acquired.

use clap::Args;
use consul_lock::lock::{Detached, Stop};

use super::connection::Connection;
use super::detached::{NotHere, Which, refuse_a_runs, with_lock};
use super::exit::Exit;
use super::output::Output;
use crate::run::Note;

pub(super) const ABOUT: &str = "\
Release a lock that `acquire` has acquired.

Without arguments it is the lock of CONSUL_LOCK_KEY and CONSUL_LOCK_SESSION. The session that acquire made for the lock \
ends with it, and so does the process of acquire --hold. Exits 76 when the session is gone or the key is not, or no \
longer, its.";

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    which: Which,
    /// Leave the key in place, with its value; so does a lock that was acquired with --keep-key.
    #[arg(long)]
    keep_key: bool,
    #[command(flatten)]
    not_here: NotHere,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Releases a lock.
pub(crate) fn release(args: ReleaseArgs) -> Exit {
    let keep_key = args.keep_key;
    with_lock((args.which, args.not_here, args.connection, args.output), "release", |lock, tell| {
        refuse_a_runs(&lock, &std::env::var("CONSUL_LOCK_CHAIN").unwrap_or_default())?;
        Detached { keep_key, ..lock }.release(&Stop::new(), tell)?;
        Ok(Some(Note::Released))
    })
}
