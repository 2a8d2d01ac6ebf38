//! `consul-lock list`: every lock below a prefix, a line each.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use clap::Args;
use consul_lock::Client;
use consul_lock::duration;
use consul_lock::lock::{self, Key, Stop, retry};
use consul_lock::plain::plain;

use super::args::Local;
use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use super::refusal::Refusal;
use super::report::Remarks;
use super::shown::Shown;
use super::source::{Retrying, Source};
use super::stdout;
use super::table::Table;
use crate::local::{self, Locks};

/// Longest wait for the list, which may be long.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// What the keys begin with, such as cron/ [default: all keys].
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    retrying: Retrying,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Lists locks.
pub(crate) fn list(args: ListArgs) -> Exit {
    let remarks = Remarks::new(args.output, &args.prefix);
    let found = check(&args.prefix)
        .and_then(|()| Source::open(args.local, args.connection, args.retrying.retry_for))
        .and_then(|source| match source {
            Source::Consul(client, retry_for) => {
                let look = || in_consul(&client, &args.prefix, &remarks);
                Ok(retry(retry_for, None, &Stop::new(), &remarks.teller(), look)?)
            }
            Source::Here(locks) => Ok(here(&locks, &args.prefix)?),
        });
    let found = match found {
        Ok(found) => found,
        Err(refusal) => return remarks.refuse(&refusal),
    };
    let now = SystemTime::now();
    let text = if args.json {
        found.iter().map(|shown| shown.json(now) + "\n").collect()
    } else {
        table(&found, now, std::io::stdout().is_terminal())
    };
    match stdout::write(&text) {
        Ok(()) => Exit::Code(0),
        Err(unwritten) => unwritten.exit(|refusal| remarks.refuse(refusal)),
    }
}

/// A prefix is the beginning of a key: what no key may have, it may not have either.
fn check(prefix: &str) -> Result<(), Refusal> {
    let beginning = prefix.strip_suffix('/').unwrap_or(prefix);
    if beginning.is_empty() && prefix.is_empty() {
        return Ok(());
    }
    beginning.parse::<Key>().map(drop).map_err(Refusal::usage)
}

fn in_consul(client: &Client, prefix: &str, remarks: &Remarks) -> Result<Vec<Shown>, lock::Error> {
    let list = client.lock_views(prefix, TIMEOUT)?;
    if !list.is_complete {
        remarks.remark(&format!(
            "the token may not read all keys that begin with \"{prefix}\", so that there may be more locks than these: \
             key_prefix \"{prefix}\" {{ policy = \"read\" }}"
        ));
    }
    // Sessions tell who it is that has left no record.
    let strangers = list.locks.iter().flat_map(|lock| &lock.holders).any(|holder| holder.record.is_none());
    let mut sessions = if strangers { client.holders_sessions(TIMEOUT)? } else { Vec::new() };
    sessions.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(list.locks.iter().map(|lock| Shown::in_consul(lock, &sessions)).collect())
}

fn here(locks: &Locks, prefix: &str) -> Result<Vec<Shown>, local::Error> {
    let table = local::Table::read();
    let mut found = Vec::new();
    for key in locks.keys(prefix)? {
        let seen = locks.look(&key, &table)?;
        // Lock files stay for ever: only those in use are locks to anybody.
        if !seen.holdings.is_empty() || !seen.waiters.is_empty() {
            found.push(Shown::here(&key, seen));
        }
    }
    Ok(found)
}

fn table(found: &[Shown], now: SystemTime, terminal: bool) -> String {
    let mut table = Table::new(["KEY", "STATE", "HOLDER", "AGE", "WAITERS"]);
    for shown in found {
        let age = shown.age(now).map(|age| Duration::from_secs(age.as_secs()));
        let age = match age {
            None => "-".to_owned(),
            Some(age) if terminal => duration::show(age),
            Some(age) => age.as_secs().to_string(),
        };
        let waiters = shown.queue.as_ref().map_or_else(|| "?".to_owned(), |queue| queue.len().to_string());
        table.add([plain(&shown.key).into_owned(), shown.state(), shown.holder(), age, waiters]);
    }
    if terminal { table.aligned() } else { table.tabbed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_beginning_of_a_key() {
        for good in ["", "cron", "cron/", "cron/b", "a b/"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["/", "/cron", "cron//", "a/../b", "a\nb", "a/.queue/"] {
            assert_eq!(check(bad).map_err(|refusal| refusal.code), Err(64), "{bad:?}");
        }
    }
}
