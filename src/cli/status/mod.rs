//! `consul-lock status`: who holds a lock, since when, from where, and who waits.

mod screen;
mod watch;

use std::time::{Duration, SystemTime};

use clap::Args;
use consul_lock::Client;
use consul_lock::consul::Read;
use consul_lock::lock::view::LockView;
use consul_lock::lock::{self, Key, Stop, retry};

use super::args::Local;
use super::connection::Connection;
use super::exit::{Exit, code};
use super::output::Output;
use super::refusal::Refusal;
use super::report::Remarks;
use super::shown::Shown;
use super::source::{Retrying, Source};
use super::stdout::{self, Unwritten};
use crate::guard::Inherited;
use crate::local::Table;

/// Longest wait for the reply to a request that Consul answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

const AFTER_HELP: &str = "Exit code: 0 if somebody holds it, 1 if it is free.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct StatusArgs {
    /// The lock.
    #[arg(value_name = "KEY")]
    key: String,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Go on, and show it again whenever it changes.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    retrying: Retrying,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Shows a lock.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn status(args: StatusArgs, inherited: &Inherited) -> anyhow::Result<Exit> {
    let remarks = Remarks::new(args.output, &args.key);
    let open = || {
        Ok((
            args.key.parse::<Key>().map_err(Refusal::usage)?,
            Source::open(args.local, args.connection, args.retrying.retry_for)?,
        ))
    };
    let (key, source) = match open() {
        Ok(opened) => opened,
        Err(refusal) => return Ok(remarks.refuse(&refusal)),
    };
    if args.watch {
        return watch::watch(&source, &key, args.json, &remarks, inherited);
    }
    let seen = match &source {
        Source::Consul(client, retry_for) => {
            let look = || look(client, &key);
            retry(*retry_for, None, &Stop::new(), &remarks.teller(), look)
                .map(|(_, shown)| shown)
                .map_err(Refusal::from)
        }
        Source::Here(locks) => {
            locks.look(&key, &Table::read()).map(|seen| Shown::here(&key, seen)).map_err(Refusal::from)
        }
    };
    let shown = match seen {
        Ok(shown) => shown,
        Err(refusal) => return Ok(remarks.refuse(&refusal)),
    };
    Ok(match write(&shown, args.json) {
        Ok(()) => Exit::Code(if shown.is_held() { 0 } else { code::FREE }),
        Err(unwritten) => unwritten.exit(|refusal| remarks.refuse(refusal)),
    })
}

fn write(shown: &Shown, json: bool) -> Result<(), Unwritten> {
    let now = SystemTime::now();
    let text = if json { shown.json(now) } else { shown.lines(now).join("\n") };
    stdout::write(&format!("{text}\n"))
}

/// The lock as it stands in Consul, with the sessions of those who hold it.
///
/// # Errors
/// What Consul says; [`lock::Error::Foreign`] for a key with data in it, if nobody holds it.
pub(crate) fn look(client: &Client, key: &Key) -> Result<(LockView, Shown), lock::Error> {
    let view = client.lock_view(key, TIMEOUT)?;
    if let (false, Some(what)) = (view.is_held(), view.foreign) {
        return Err(lock::Error::Foreign { key: key.to_string(), address: Box::new(client.address().clone()), what });
    }
    let mut sessions = Vec::new();
    for holder in &view.holders {
        sessions.extend(client.holders_session(&holder.session, TIMEOUT)?);
    }
    let mut shown = Shown::in_consul(&view, &sessions);
    if !view.is_held() {
        // What `consul lock PREFIX` locks; whoever may not read it is not told.
        let beside = format!("{key}/.lock");
        let entry = client.get(&beside, Read::Default, TIMEOUT).ok().and_then(|reply| reply.entry);
        shown.see_also = entry.and_then(|entry| entry.session).map(|_| beside);
    }
    Ok((view, shown))
}
