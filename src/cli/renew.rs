//! `consul-lock renew`: another TTL for a lock that a script has acquired, or the news that it is lost.

use clap::Args;
use consul_lock::lock::Stop;

use super::connection::Connection;
use super::detached::{NotHere, Which, with_lock};
use super::exit::{Exit, code};
use super::output::Output;
use super::refusal::Refusal;
use super::{shell, stdout};

pub(super) const ABOUT: &str = "\
Renew a lock that `acquire` has acquired, and make sure that it is still held.

Exits 76 when the session is gone or the key is not, or no longer, its: then nobody has stopped the script, and somebody \
else may be at work. 69 when Consul does not answer: the lock may still be held, until CONSUL_LOCK_EXPIRES at least.";

#[derive(Debug, Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    which: Which,
    /// Print CONSUL_LOCK_EXPIRES for `eval`, or `(exit N)`.
    #[arg(long)]
    export: bool,
    #[command(flatten)]
    not_here: NotHere,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Renews a lock.
pub(crate) fn renew(args: RenewArgs) -> Exit {
    let export = args.export;
    let exit = with_lock((args.which, args.not_here, args.connection, args.output), "renew", |lock, tell| {
        let ends_at = lock.renew(&Stop::new(), tell)?;
        if export {
            let text = shell::export(&[("CONSUL_LOCK_EXPIRES", shell::seconds(ends_at))]);
            stdout::put(&text).map_err(|error| Refusal {
                code: code::INTERNAL,
                message: format!("cannot write to standard output ({error}); the lock was renewed"),
            })?;
        }
        Ok(None)
    });
    if export {
        shell::fail(exit);
    }
    exit
}
