//! From what was typed to what was meant: every flag is checked here, and files that it names are read, before anything
//! is forked, connected or locked.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Duration;

use consul_lock::consul::{Behavior, SessionId};
use consul_lock::lock::{self, Key, Limit, LockDelay, LockOptions, MAX_SHARED_VALUE, SessionOptions, Sharing, Ttl};

use super::args::{BackgroundArg, BehaviorArg, RunArgs, Session, Waiting};
use super::exit::Codes;
use super::program;
use super::refusal::Refusal;
use super::report;
use crate::guard::{self, Background, Inherited};
use crate::local::{self, Locks, Place};
use crate::run::{LockPlan, Plan, Wanted};

/// A run as it was meant.
pub(crate) struct Meant {
    /// The run itself.
    pub(crate) plan: Plan,
    /// The exit codes that were chosen.
    pub(crate) codes: Codes,
    /// The lock's keys, for messages.
    pub(crate) keys: Vec<Key>,
}

/// Makes sense of `args`.
///
/// # Errors
/// The first thing that does not make sense, with its exit code.
pub(crate) fn make(args: RunArgs, inherited: Inherited) -> Result<Meant, Refusal> {
    // First: without it, the command's own words pass for keys.
    let command = command(&args)?;
    let keys = keys(&args)?;
    let Some((key, more)) = keys.split_first() else {
        return Err(Refusal::usage("which lock? consul-lock run KEY -- COMMAND"));
    };
    let mut no_guarantee = Vec::new();
    let found = program::find(
        command.first().map_or(OsStr::new(""), OsString::as_os_str),
        std::env::var_os("PATH").as_deref(),
    )?;
    if let Err(error) = program::refuse_privileged(&found) {
        if !args.loss.no_guarantee {
            return Err(error.into());
        }
        no_guarantee.push("the command gains privileges that put it beyond this user's signals");
    }
    if !guard::can_see_processes() {
        if !args.loss.no_guarantee {
            return Err(Refusal::usage(
                "/proc is not mounted here, or not this system's, so that the command's descendants cannot be found: mount it, or give up \
                 the guarantee with --no-guarantee",
            ));
        }
        no_guarantee.push("/proc cannot be read, so that the command's descendants are not all found");
    }
    let program = found.file_name().map(|name| name.to_string_lossy().into_owned());
    let codes = Codes { conflict: args.waiting.conflict_exit_code, lost: args.loss.lost_exit_code };
    let grace = args.loss.kill_after.unwrap_or(LockOptions::DEFAULT_GRACE);
    let wait = args.waiting.patience();
    let last_words = report::last_words(args.output.log_format, &keys);
    let (kill_signal, background) = (args.loss.kill_signal, background(args.loss.background));
    let lock = if args.local.local.is_some() {
        let wanted = local_lock(args, keys.clone(), wait, program)?;
        if wanted.locks.are_on_network() {
            no_guarantee.push("the locks are on a network file system, whose server may forget them");
        }
        LockPlan::Local(wanted)
    } else {
        consul_lock(args, (key, more), wait, grace, program)?
    };
    let plan = Plan {
        lock,
        program: found,
        command,
        kill_signal,
        grace,
        background,
        inherited,
        last_words,
        chain: chain(),
        no_guarantee,
    };
    Ok(Meant { plan, codes, keys })
}

/// Answers what people from `consul lock` type: `-n 3 KEY` and `KEY -n 3`, where 3 is a limit and no key.
///
/// # Errors
/// Always, if it was typed.
pub(super) fn refuse_number(waiting: &Waiting, keys: &[String]) -> Result<(), Refusal> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    // clap has no -n with a value, so the number has become a key among others, wherever the -n stood.
    match keys.iter().find(|key| is_number(key)) {
        Some(number) if waiting.no_wait && keys.len() > 1 => Err(Refusal::usage(format!(
            "-n takes no number here: it means \"do not wait\", as in flock(1); for a semaphore, as by consul lock -n {number}, did \
             you mean --limit {number}? Should {number} be a key, write --wait 0"
        ))),
        _ => Ok(()),
    }
}

/// The keys in the order of their bytes, each once, with an answer to what people from other tools type.
fn keys(args: &RunArgs) -> Result<Vec<Key>, Refusal> {
    refuse_number(&args.waiting, &args.keys)?;
    // With --local=DIR it is a key with a slash too many, and the answer is that of all such keys.
    let dir = args.keys.iter().find(|key| key.starts_with('/')).filter(|_| matches!(args.local.local, Some(None)));
    if let Some(dir) = dir {
        let meant = match args.keys.iter().find(|key| *key != dir) {
            Some(key) => format!("--local={dir} {key}"),
            None => format!("--local={dir} and a key after it"),
        };
        return Err(Refusal::usage(format!("\"{dir}\" is no key: did you mean {meant}?")));
    }
    // Both would be locked, elsewhere than those who name the folder lock, and nothing would tell.
    if let ([dir, key, ..], Some(None)) = (args.keys.as_slice(), &args.local.local)
        && Path::new(dir).is_dir()
    {
        return Err(Refusal::usage(format!(
            "\"{dir}\" is a folder here: did you mean --local={dir} {key}? If it is a key as well, write it behind another one"
        )));
    }
    super::detached::keys(args.keys.iter().map(String::as_str))
}

fn command(args: &RunArgs) -> Result<Vec<OsString>, Refusal> {
    match &args.shell {
        Some(text) => Ok(vec!["/bin/sh".into(), "-c".into(), text.clone()]),
        None if args.command.is_empty() => {
            Err(Refusal::usage("no command: consul-lock run KEY -- COMMAND [ARG]..., or -c 'COMMAND LINE' for a shell"))
        }
        None => Ok(args.command.clone()),
    }
}

fn background(arg: BackgroundArg) -> Background {
    match arg {
        BackgroundArg::Kill => Background::Kill,
        BackgroundArg::Wait => Background::Wait,
        BackgroundArg::Leave => Background::Leave,
    }
}

fn local_lock(
    args: RunArgs,
    keys: Vec<Key>,
    wait: Option<Duration>,
    program: Option<String>,
) -> Result<Wanted, Refusal> {
    let session = &args.session;
    let useless = [
        ("--session", session.session.is_some()),
        ("--session-name", session.session_name.is_some()),
        ("--ttl", session.ttl.is_some()),
        ("--lock-delay", session.lock_delay.is_some()),
        ("--behavior", session.behavior.is_some()),
        ("--check", !session.checks.is_empty()),
        ("--no-checks", session.no_checks),
        ("--keep-key", session.keep_key),
        ("--monitor-retries", args.loss.monitor_retries.is_some()),
        ("--monitor-retry-time", args.loss.monitor_retry_time.is_some()),
        ("--retry-for", args.waiting.retry_for.is_some()),
    ];
    let useless = useless.into_iter().find_map(|(flag, given)| given.then_some(flag));
    if let Some(flag) = useless.or(args.connection.first_given()) {
        return Err(Refusal::usage(format!(
            "{flag} has no meaning with --local, which uses no Consul: leave one of them out"
        )));
    }
    let sharing = sharing(&args.waiting, &args.session)?;
    if sharing.slots() > local::MAX_SLOTS {
        return Err(Refusal::usage(format!(
            "--limit: with --local {} is the most: whoever waits needs a thread for each slot",
            local::MAX_SLOTS
        )));
    }
    let place = match args.local.local {
        Some(Some(dir)) => Place::Dir(dir.into()),
        Some(None) | None => Place::Own,
    };
    let locks = Locks::open(place, args.loss.no_guarantee)
        .map_err(|error| if error.is_config() { Refusal::configuration(error) } else { Refusal::usage(error) })?;
    let value = args.session.value.map(OsString::into_vec);
    Ok(Wanted { locks, keys, sharing, wait, value, program, ancestors: chain() })
}

fn consul_lock(
    args: RunArgs,
    (key, more): (&Key, &[Key]),
    wait: Option<Duration>,
    grace: Duration,
    program: Option<String>,
) -> Result<LockPlan, Refusal> {
    let session_opts = session_options(&args.session)?;
    let sharing = sharing(&args.waiting, &args.session)?;
    let session = args.session.session.as_deref().map(str::parse::<SessionId>).transpose().map_err(Refusal::usage)?;
    let options = LockOptions {
        value: args.session.value.map(OsString::into_vec),
        sharing,
        session,
        session_opts,
        monitor_retries: args.loss.monitor_retries,
        monitor_retry_time: args.loss.monitor_retry_time.unwrap_or(LockOptions::DEFAULT_MONITOR_RETRY_TIME),
        lock_wait_time: wait.unwrap_or(LockOptions::DEFAULT_WAIT),
        lock_try_once: wait.is_some(),
        grace,
        retry_for: args.waiting.retry_for.unwrap_or(LockOptions::DEFAULT_RETRY_FOR),
        keep_key: args.session.keep_key,
        no_guarantee: args.loss.no_guarantee,
        program,
        ancestors: chain().into_iter().filter_map(|session| session.parse().ok()).collect(),
        more_keys: more.to_vec(),
        is_watched: report::draws(args.output),
        ..LockOptions::new(key.clone())
    };
    if options.session.is_none() {
        if options.lock_delay().get().is_zero() && !options.no_guarantee {
            return Err(Refusal::usage(
                "with --lock-delay 0 Consul may give the lock to somebody else while the command runs: choose a lock delay up to 60s, \
                 or give up the guarantee with --no-guarantee",
            ));
        }
        options.terms().map_err(Refusal::usage)?;
    }
    let client = args.connection.client()?;
    Ok(LockPlan::Consul { client, options: Box::new(options) })
}

/// Who waits for us, as far as the environment can be believed: the runs around this one, and the script that has
/// acquired a lock. A run's own session is in both variables.
pub(super) fn chain() -> Vec<String> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (runs, script) = (variable("CONSUL_LOCK_CHAIN"), variable("CONSUL_LOCK_SESSION"));
    let mut chain: Vec<_> = runs.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if !script.is_empty() && !chain.contains(&script) {
        chain.push(script);
    }
    chain
}

/// How the flags ask to share the lock.
///
/// # Errors
/// A limit that is none, and what does not go with `--shared`.
pub(super) fn sharing(waiting: &Waiting, session: &Session) -> Result<Sharing, Refusal> {
    if let Some(limit) = waiting.limit {
        return Limit::new(limit).map(Sharing::Limit).map_err(|error| Refusal::usage(format!("--limit: {error}")));
    }
    if !waiting.shared {
        return Ok(Sharing::Exclusive);
    }
    if session.behavior == Some(BehaviorArg::Delete) {
        return Err(Refusal::usage(lock::Error::SharedDelete));
    }
    if session.keep_key {
        return Err(Refusal::usage(
            "--keep-key has no meaning with --shared, which leaves no key: leave one of them out",
        ));
    }
    match session.value.as_ref().map(|value| value.len()).filter(|length| *length > MAX_SHARED_VALUE) {
        Some(length) => Err(Refusal::usage(lock::Error::SharedValue(length))),
        None => Ok(Sharing::Shared),
    }
}

/// The session that the flags ask for.
///
/// # Errors
/// A TTL or a lock delay that Consul does not take.
pub(super) fn session_options(session: &Session) -> Result<SessionOptions, Refusal> {
    let (node_checks, service_checks) = checks(session.no_checks, &session.checks);
    Ok(SessionOptions {
        name: session.session_name.clone(),
        node_checks,
        service_checks,
        lock_delay: session.lock_delay.map(LockDelay::new).transpose().map_err(Refusal::usage)?,
        behavior: session.behavior.map(|behavior| match behavior {
            BehaviorArg::Release => Behavior::Release,
            BehaviorArg::Delete => Behavior::Delete,
        }),
        ttl: session.ttl.map(Ttl::new).transpose().map_err(Refusal::usage)?,
        ..SessionOptions::default()
    })
}

/// The checks that a session is bound to, of its node and of services there; `None` leaves them to Consul.
pub(super) fn checks(none: bool, named: &[String]) -> (Option<Vec<String>>, Option<Vec<String>>) {
    if none {
        return (Some(Vec::new()), None);
    }
    if named.is_empty() {
        return (None, None);
    }
    // Consul names a service's checks "service:ID" unless their owner named them otherwise, and looks both kinds up in the
    // same way.
    let (service, node): (Vec<_>, Vec<_>) = named.iter().cloned().partition(|check| check.starts_with("service:"));
    (Some(node), Some(service).filter(|checks| !checks.is_empty()))
}
