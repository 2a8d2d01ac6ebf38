//! `consul-lock evict`: takes a lock from its holder by ending the session that it is held under. The holder sees that at
//! once and kills its command, and Consul gives the lock to nobody for the session's lock delay.

use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use clap::Args;
use consul_lock::consul::SessionId;
use consul_lock::lock::view::Holding;
use consul_lock::lock::{self, Key, LockDelay, Stop, retry};
use consul_lock::plain::plain;
use consul_lock::{Client, duration};

use super::connection::Connection;
use super::exit::{Exit, code};
use super::output::Output;
use super::refusal::Refusal;
use super::report::Remarks;
use super::shown::Shown;
use super::source::{RETRY_FOR, Retrying};
use super::status::look;

/// Longest wait for the reply to a request that Consul answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct EvictArgs {
    /// The lock.
    #[arg(value_name = "KEY")]
    key: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Only if this session holds it; one of several that do. Else the exit code is 75.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    #[command(flatten)]
    retrying: Retrying,
    /// Refused with the reason.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, hide = true)]
    local: Option<Option<OsString>>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Evicts a holder.
pub(crate) fn evict(args: EvictArgs) -> Exit {
    let remarks = Remarks::new(args.output, &args.key);
    match attempt(args, &remarks) {
        Ok(done) => {
            remarks.remark(&done);
            Exit::Code(0)
        }
        Err(refusal) => remarks.refuse(&refusal),
    }
}

/// What was done, in words.
fn attempt(args: EvictArgs, remarks: &std::sync::Arc<Remarks>) -> Result<String, Refusal> {
    if args.local.is_some() {
        return Err(Refusal::usage(
            "evict has no meaning with --local: no session holds such a lock but processes do; consul-lock status --local names \
             the first of them, to be ended by kill",
        ));
    }
    let key: Key = args.key.parse().map_err(Refusal::usage)?;
    let wanted = args.session.as_deref().map(str::parse::<SessionId>).transpose().map_err(Refusal::usage)?;
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !asks {
        return Err(Refusal::usage("there is no terminal to ask at: --yes evicts without a question"));
    }
    let client = args.connection.client()?;
    let retry_for = args.retrying.retry_for.unwrap_or(RETRY_FOR);
    let (stop, tell) = (Stop::new(), remarks.teller());
    let (view, shown) = retry(retry_for, None, &stop, &tell, || look(&client, &key))?;
    let Some(holding) = choose(&key, &view.holders, wanted.as_ref())? else {
        return Ok(format!("{key} is free: there is nobody to evict"));
    };
    if !args.yes {
        ask(&question(&key, &shown, holding))?;
        // Reading takes its time.
        let (view, _) = retry(retry_for, None, &stop, &tell, || look(&client, &key))?;
        if choose(&key, &view.holders, Some(&holding.session))?.is_none() {
            return Ok(format!("{key} is free by now: there is nobody to evict"));
        }
    }
    end(&client, &key, &shown, holding, retry_for, remarks)
}

/// The one to evict; nobody if nobody holds it.
fn choose<'a>(key: &Key, holders: &'a [Holding], wanted: Option<&SessionId>) -> Result<Option<&'a Holding>, Refusal> {
    let names = || holders.iter().map(name).collect::<Vec<_>>().join(", ");
    match (holders, wanted) {
        ([], _) => Ok(None),
        (_, Some(wanted)) => match holders.iter().find(|holder| holder.session == *wanted) {
            Some(holder) => Ok(Some(holder)),
            None => {
                let message =
                    format!("session {wanted} does not hold {key}: by now {} does; nobody was evicted", names());
                Err(Refusal { code: code::CONFLICT, message })
            }
        },
        ([holder], None) => Ok(Some(holder)),
        (_, None) => Err(Refusal::usage(format!("{key} has several holders, choose one with --session: {}", names()))),
    }
}

fn name(holding: &Holding) -> String {
    match &holding.record {
        Some(record) => format!("{record}, session {}", holding.session),
        None => format!("session {}", holding.session),
    }
}

fn question(key: &Key, shown: &Shown, holding: &Holding) -> String {
    let mut lines = shown.lines(SystemTime::now());
    lines.push(format!(
        "End session {} and with it all locks that it holds, so that {} loses {key}? [y/N] ",
        holding.session,
        holding.record.as_ref().map_or_else(|| "its holder".to_owned(), ToString::to_string),
    ));
    lines.join("\n")
}

/// Asks at the terminal; anything but a yes is no.
fn ask(question: &str) -> Result<(), Refusal> {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(question.as_bytes());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    if !answer.ends_with('\n') {
        // The end of the input, which has not moved the cursor.
        let _ = stderr.write_all(b"\n");
    }
    Err(Refusal { code: code::CONFLICT, message: "nobody was evicted".to_owned() })
}

fn end(
    client: &Client,
    key: &Key,
    shown: &Shown,
    holding: &Holding,
    retry_for: Duration,
    remarks: &std::sync::Arc<Remarks>,
) -> Result<String, Refusal> {
    let session = holding.session.as_str();
    let info = shown.holders.iter().find(|holder| holder.session.as_deref() == Some(session));
    let info = info.and_then(|holder| holder.info.as_ref());
    let node = info.map(|info| plain(&info.node));
    retry(retry_for, None, &Stop::new(), &remarks.teller(), || {
        client.evict_session(&holding.session, node.as_deref(), TIMEOUT)
    })?;
    // A session that is not there any more is no holder's: whoever has the key now has it under another.
    let left = retry(retry_for, None, &Stop::new(), &remarks.teller(), || client.lock_view(key, TIMEOUT))?;
    if left.holders.iter().any(|holder| holder.session == holding.session) {
        return Err(lock::Error::InUse(key.clone()).into());
    }
    let delay = info.map(|info| info.lock_delay).or_else(|| holding.record.as_ref()?.lock_delay());
    let delay = match delay.map(|delay| LockDelay::shown(delay).get()) {
        Some(delay) if delay.is_zero() => ": its lock delay is 0, so that the next one may have it at once".to_owned(),
        Some(delay) => format!("; nobody can have it for the lock delay of {}", duration::show(delay)),
        None => String::new(),
    };
    Ok(format!("{} was evicted from {key}{delay}", name(holding)))
}
