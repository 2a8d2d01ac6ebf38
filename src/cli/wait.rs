//! `consul-lock wait`: returns when nobody holds a lock.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::Args;
use consul_lock::lock::{self, Key, LockOptions, Record, Stop, wait_until_free};
use consul_lock::{Client, duration};
use nix::sys::signal::Signal;

use super::args::Local;
use super::connection::Connection;
use super::exit::{Exit, code};
use super::interrupt;
use super::output::Output;
use super::refusal::Refusal;
use super::report::Remarks;
use super::source::Source;
use crate::guard::Inherited;
use crate::local::{self, Locks, Table};

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The lock: all its slots, and its readers.
    #[arg(value_name = "KEY")]
    key: String,
    /// Give up after this long, with exit code 75; 0 is one look [default: wait for ever].
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Waiting")]
    wait: Option<Duration>,
    /// How long a Consul that does not answer is asked again [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = "Waiting")]
    retry_for: Option<Duration>,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Waits for the end of a lock.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn wait(args: WaitArgs, inherited: &Inherited) -> anyhow::Result<Exit> {
    let (output, wait, retry_for) = (args.output, args.wait, args.retry_for);
    let remarks = Remarks::new(output, &args.key);
    let open = || {
        Ok((args.key.parse::<Key>().map_err(Refusal::usage)?, Source::open(args.local, args.connection, retry_for)?))
    };
    let (key, source) = match open() {
        Ok(opened) => opened,
        Err(refusal) => return Ok(remarks.refuse(&refusal)),
    };
    let waited = match source {
        Source::Consul(client, _) => {
            let retry_for = retry_for.unwrap_or(LockOptions::DEFAULT_RETRY_FOR);
            let stop = Stop::new();
            interrupt::listen(inherited, &stop, || ())?;
            in_consul(&client, &key, wait, retry_for, &stop, &remarks)
        }
        Source::Here(locks) => here(locks, &key, wait, &remarks, inherited)?,
    };
    Ok(match waited {
        Ok(exit) => exit,
        Err(refusal) if output.quiet && refusal.code == code::CONFLICT => Exit::Code(refusal.code),
        Err(refusal) => remarks.refuse(&refusal),
    })
}

fn in_consul(
    client: &Client,
    key: &Key,
    wait: Option<Duration>,
    retry_for: Duration,
    stop: &Stop,
    remarks: &Arc<Remarks>,
) -> Result<Exit, Refusal> {
    match wait_until_free(client, key, wait, retry_for, stop, &remarks.teller()) {
        Ok(view) => {
            if let Some(what) = view.foreign {
                let address = Box::new(client.address().clone());
                return Err(lock::Error::Foreign { key: key.to_string(), address, what }.into());
            }
            for lost in &view.lost {
                if let Some(delay) = lost.record.lock_delay().filter(|delay| !delay.is_zero()) {
                    remarks.remark(&format!(
                        "nobody holds {key}, but {} did not release it: for the lock delay of {} it may still be at work",
                        lost.record,
                        duration::show(delay)
                    ));
                }
            }
            Ok(Exit::Code(0))
        }
        Err(lock::Error::Stopped) => Ok(Exit::Signal(Signal::SIGINT)),
        Err(error) => Err(error.into()),
    }
}

/// A thread sleeps in flock(2), which nothing but the end of the process ends; so the time is kept here.
fn here(
    locks: Locks,
    key: &Key,
    wait: Option<Duration>,
    remarks: &Arc<Remarks>,
    inherited: &Inherited,
) -> anyhow::Result<Result<Exit, Refusal>> {
    let seen = match locks.look(key, &Table::read()) {
        Ok(seen) => seen,
        Err(error) => return Ok(Err(error.into())),
    };
    let Some(holding) = seen.holdings.into_iter().next() else { return Ok(Ok(Exit::Code(0))) };
    let record = holding.record.and_then(|text| Record::read(text.as_bytes()));
    let holder = record.map_or_else(|| "another process on this machine".to_owned(), |record| record.to_string());
    let conflict = Refusal { code: code::CONFLICT, message: format!("{key} is held by {holder}") };
    if wait.is_some_and(|wait| wait.is_zero()) {
        return Ok(Err(conflict));
    }
    remarks.remark(&format!("waiting for {key}, held by {holder}"));
    let (sender, inbox) = channel::<Option<Result<(), local::Error>>>();
    let interrupt = sender.clone();
    interrupt::listen(inherited, &Stop::new(), move || drop(interrupt.send(None)))?;
    let awaited = key.clone();
    std::thread::Builder::new()
        .name("wait".into())
        .spawn(move || drop(sender.send(Some(locks.wait_until_free(&awaited)))))?;
    let first = match wait {
        Some(wait) => inbox.recv_timeout(wait),
        None => inbox.recv().map_err(Into::into),
    };
    Ok(match first {
        Ok(Some(Ok(()))) => Ok(Exit::Code(0)),
        Ok(Some(Err(error))) => Err(error.into()),
        Ok(None) | Err(RecvTimeoutError::Disconnected) => Ok(Exit::Signal(Signal::SIGINT)),
        Err(RecvTimeoutError::Timeout) => Err(conflict),
    })
}
