//! `consul-lock acquire`: a lock for a script whose steps are separate processes.

use std::time::Duration;

use clap::Args;
use consul_lock::consul::SessionId;
use consul_lock::duration;
use consul_lock::lock::LockOptions;
use nix::sys::signal::Signal;

use super::args::{Session, Waiting};
use super::connection::Connection;
use super::detached::{NotHere, keys};
use super::exit::{Codes, Exit, code};
use super::output::Output;
use super::refusal::Refusal;
use super::report::{self, Report};
use super::run::last_word;
use super::{plan, shell, stdout};
use crate::guard::Inherited;
use crate::hold::{self, Plan, Process, Taken, Until};
use crate::run::Note;

pub(super) const ABOUT: &str = "\
Acquire a lock for a script whose steps are separate processes.

Prints the session that holds the lock, or with --export the variables that `renew` and `release` read. The lock is held \
by that session and by no process of the script: nobody is killed when it is lost. A script that must not go on then has \
to ask, by `consul-lock renew`, before each step that matters; a single command is safer under `consul-lock run`.

Without --hold the lock is a lease: it has to be renewed before CONSUL_LOCK_EXPIRES (in seconds since 1970), and is free \
some time after that, when twice the TTL and the lock delay are over at the latest. With --hold a process in the \
background renews it, until it is released, until the process of --pid has ended, or for as long as --max says.";

#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    /// A key in Consul's KV, such as deploy/web.
    ///
    /// Several are held together, all or none.
    #[arg(required = true, num_args = 1.., value_name = "KEY")]
    keys: Vec<String>,

    /// Print shell variables for `eval`.
    ///
    /// They are CONSUL_LOCK_KEY, _SESSION, _FENCE and _EXPIRES; or `(exit N)`, so that the shell fails as we do.
    #[arg(long)]
    export: bool,
    /// Renew it in the background (--pid or --max).
    ///
    /// A process is left behind for that, which ends with the lock.
    #[arg(long)]
    hold: bool,
    /// With --hold: until this process has ended.
    ///
    /// The lock is released then; `--pid $$` is the script's own shell.
    #[arg(long, value_name = "PID", requires = "hold", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// With --hold: release it after this long.
    #[arg(long, value_name = "DURATION", requires = "hold", value_parser = duration::parse)]
    max: Option<Duration>,
    /// Allow a lock delay of 0, with which the next holder may start while this one's script still works.
    #[arg(long, hide_short_help = true)]
    no_guarantee: bool,

    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    not_here: NotHere,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// An acquisition as it was meant.
struct Meant {
    plan: Plan,
    /// With a keeper: for how long.
    until: Option<Until>,
}

/// Acquires a lock and leaves it.
///
/// # Errors
/// Faults of our own or of the machine, which nothing in the table of exit codes foresees.
pub(crate) fn acquire(args: AcquireArgs, inherited: Inherited) -> anyhow::Result<Exit> {
    let export = args.export;
    let result = try_to_acquire(args, inherited);
    if export {
        shell::fail(*result.as_ref().unwrap_or(&Exit::Code(code::INTERNAL)));
    }
    result
}

fn try_to_acquire(args: AcquireArgs, inherited: Inherited) -> anyhow::Result<Exit> {
    let (output, export) = (args.output, args.export);
    let codes = Codes { conflict: args.waiting.conflict_exit_code, ..Codes::default() };
    let meant = match make(args, inherited) {
        Ok(meant) => meant,
        Err(refusal) => {
            Report::error(output, &[], refusal.code, &refusal.message);
            return Ok(Exit::Code(refusal.code));
        }
    };
    let keys: Vec<_> = meant.plan.options.keys().into_iter().cloned().collect();
    let mut report = Some(Report::new(output, keys.clone(), Signal::SIGTERM));
    let tell = move |note: Option<Note>| match (note, report.as_mut()) {
        (Some(note), Some(report)) => report.tell(&note),
        _ => report.take().into_iter().for_each(Report::finish),
    };
    let deliver = |taken: &Taken| stdout::put(&said(taken, export));
    let result = match meant.until {
        Some(until) => hold::acquire_with_keeper(meant.plan, until, tell, deliver)?,
        None => hold::acquire(&meant.plan, tell, deliver)?,
    };
    let Err(outcome) = result else { return Ok(Exit::Code(0)) };
    let exit = Exit::of(&outcome, codes);
    if let Some(message) = last_word(&outcome, output.quiet) {
        let code = if let Exit::Code(code) = exit { code } else { code::INTERNAL };
        Report::error(output, &keys, code, &message);
    }
    Ok(exit)
}

/// What the script reads.
fn said(taken: &Taken, export: bool) -> String {
    if !export {
        return format!("{}\n", taken.session);
    }
    let mut variables = vec![
        ("CONSUL_LOCK_KEY", taken.keys.clone()),
        ("CONSUL_LOCK_SESSION", taken.session.clone()),
        ("CONSUL_LOCK_FENCE", taken.fences.clone()),
        ("CONSUL_LOCK_EXPIRES", shell::seconds(taken.ends_at)),
    ];
    variables.extend(taken.slots.clone().map(|slots| ("CONSUL_LOCK_SLOT", slots)));
    shell::export(&variables)
}

fn make(args: AcquireArgs, inherited: Inherited) -> Result<Meant, Refusal> {
    args.not_here.refuse("acquire")?;
    plan::refuse_number(&args.waiting, &args.keys)?;
    check_flags(&args)?;
    let process = args.pid.map(Process::open).transpose().map_err(Refusal::usage)?;
    let until = args.hold.then_some(Until { process, max: args.max });
    let options = options(&args, until.as_ref())?;
    let without_delay = options.session.is_none() && options.lock_delay().get().is_zero();
    if without_delay && !args.no_guarantee {
        return Err(Refusal::usage(
            "with --lock-delay 0 Consul may give the lock to somebody else while this script still works: choose a lock delay \
             up to 60s, or give up the guarantee with --no-guarantee",
        ));
    }
    if options.session.is_none() {
        options.terms().map_err(Refusal::usage)?;
    }
    let no_guarantee = without_delay
        .then_some("with a lock delay of 0 Consul may give the lock to somebody else while this script still works");
    let client = args.connection.client()?;
    Ok(Meant { plan: Plan { client, options, ancestors: plan::chain(), inherited, no_guarantee }, until })
}

fn check_flags(args: &AcquireArgs) -> Result<(), Refusal> {
    if args.hold && args.pid.is_none() && args.max.is_none() {
        return Err(Refusal::usage(
            "--hold needs an end, should nobody release the lock: --pid PID, such as --pid $$ in a shell script, or --max DURATION",
        ));
    }
    if args.max.is_some_and(|max| max.is_zero()) {
        return Err(Refusal::usage(
            "--max 0 would release the lock at once: give the longest time that it may be held",
        ));
    }
    if !args.hold && args.session.ttl.is_none() && args.session.session.is_none() {
        return Err(Refusal::usage(
            "nobody renews this lock but the script: say by --ttl (10s to 24h) how long it lasts, or let a process in the \
             background renew it (--hold)",
        ));
    }
    if args.session.keep_key && args.session.value.is_some() {
        return Err(Refusal::usage(
            "--keep-key is remembered in the record of the holder, which --value replaces: give --keep-key to `consul-lock release` \
             instead",
        ));
    }
    Ok(())
}

fn options(args: &AcquireArgs, until: Option<&Until>) -> Result<LockOptions, Refusal> {
    let mut keys = keys(args.keys.iter().map(String::as_str))?.into_iter();
    let Some(key) = keys.next() else { return Err(Refusal::usage("which lock? consul-lock acquire KEY")) };
    let session = &args.session;
    let wait = args.waiting.patience();
    let process = until.and_then(|until| until.process.as_ref());
    // The one that the lock is for, where we know it.
    let program = process.and_then(|process| std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).ok());
    Ok(LockOptions {
        more_keys: keys.collect(),
        sharing: plan::sharing(&args.waiting, session)?,
        value: session.value.clone().map(std::os::unix::ffi::OsStringExt::into_vec),
        session: session.session.as_deref().map(str::parse::<SessionId>).transpose().map_err(Refusal::usage)?,
        session_opts: plan::session_options(session)?,
        lock_wait_time: wait.unwrap_or(LockOptions::DEFAULT_WAIT),
        lock_try_once: wait.is_some(),
        // There is nobody to be killed.
        grace: Duration::ZERO,
        retry_for: args.waiting.retry_for.unwrap_or(LockOptions::DEFAULT_RETRY_FOR),
        keep_key: session.keep_key,
        no_guarantee: args.no_guarantee,
        detached: true,
        program: program.map(|name| name.trim_end().to_owned()),
        is_watched: report::draws(args.output),
        ..LockOptions::new(key)
    })
}
