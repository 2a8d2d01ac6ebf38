//! What `acquire`, `renew` and `release` have in common: which lock is meant, and what is not to be had with it.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use consul_lock::consul::SessionId;
use consul_lock::duration;
use consul_lock::lock::{Detached, Key, LockOptions, Tell};
use nix::sys::signal::Signal;

use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use super::refusal::Refusal;
use super::report::Report;
use crate::run::Note;

/// The lock that another step of a script has acquired.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The lock [CONSUL_LOCK_KEY].
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// The session that holds it, as `consul-lock acquire` prints it [CONSUL_LOCK_SESSION].
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// How long a Consul that does not answer is asked again [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    retry_for: Option<Duration>,
}

/// Flags of other commands that would mislead here.
#[derive(Debug, Args)]
pub(crate) struct NotHere {
    #[arg(long, hide = true, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    local: Option<Option<OsString>>,
}

impl NotHere {
    /// Refuses them with the reason.
    pub(super) fn refuse(&self, command: &str) -> Result<(), Refusal> {
        match self.local {
            Some(_) => Err(Refusal::usage(format!(
                "{command} does not go with --local: a lock of this machine ends with the process that holds it; use \
                 consul-lock run --local KEY -- COMMAND"
            ))),
            None => Ok(()),
        }
    }
}

/// The one key of a command.
pub(super) fn only_key(keys: &[String], command: &str) -> Result<Key, Refusal> {
    match keys {
        [key] => key.parse().map_err(Refusal::usage),
        [_, more, ..] => Err(Refusal::usage(format!("{command} takes one key, and \"{more}\" is a second one"))),
        [] => Err(Refusal::usage(format!("which lock? consul-lock {command} KEY"))),
    }
}

impl Which {
    /// The lock: what was typed wins over what `acquire --export` left in the environment, and a half that was not typed is
    /// only taken from there if the other half agrees.
    fn find(&self, command: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(Key, SessionId), Refusal> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let (exported_key, exported_session) = (variable("CONSUL_LOCK_KEY"), variable("CONSUL_LOCK_SESSION"));
        let key = if self.keys.is_empty() { None } else { Some(only_key(&self.keys, command)?) };
        let session = self.session.as_deref().map(str::parse::<SessionId>).transpose().map_err(Refusal::usage)?;
        let agrees = key.as_ref().is_none_or(|key| exported_key.as_deref() == Some(key.as_str()))
            && session.as_ref().is_none_or(|session| exported_session.as_deref() == Some(session.as_str()));
        let exported = exported_key.zip(exported_session).filter(|_| agrees);
        match (key, session, exported) {
            (Some(key), Some(session), _) => Ok((key, session)),
            (key, session, Some((exported_key, exported_session))) => Ok((
                key.map_or_else(|| exported_key.parse(), Ok).map_err(Refusal::usage)?,
                session.map_or_else(|| exported_session.parse(), Ok).map_err(Refusal::usage)?,
            )),
            (Some(key), None, None) => Err(Refusal::usage(format!(
                "under which session? CONSUL_LOCK_KEY and CONSUL_LOCK_SESSION are not those of {key}: consul-lock {command} {key} \
                 --session ID"
            ))),
            (None, Some(session), None) => Err(Refusal::usage(format!(
                "which lock? CONSUL_LOCK_KEY and CONSUL_LOCK_SESSION are not those of session {session}: consul-lock {command} \
                 KEY --session {session}"
            ))),
            (None, None, None) => Err(Refusal::usage(format!(
                "which lock? CONSUL_LOCK_KEY and CONSUL_LOCK_SESSION are not set: consul-lock {command} KEY --session ID, or \
                 first eval what consul-lock acquire --export KEY prints"
            ))),
        }
    }
}

/// Finds the lock and does something with it.
pub(super) fn with_lock(
    (which, not_here, connection, output): (Which, NotHere, Connection, Output),
    command: &str,
    work: impl FnOnce(Detached, &Tell) -> Result<Option<Note>, Refusal>,
) -> Exit {
    let found = not_here.refuse(command).and_then(|()| {
        let (key, session) = which.find(command, &|name| std::env::var(name).ok())?;
        let retry_for = which.retry_for.unwrap_or(LockOptions::DEFAULT_RETRY_FOR);
        Ok(Detached { client: connection.client()?, key, session, retry_for, keep_key: false })
    });
    let (key, result) = match found {
        Ok(lock) => {
            let key = lock.key.clone();
            let report = Arc::new(Mutex::new(Report::new(output, key.clone(), Signal::SIGTERM)));
            let listener = Arc::clone(&report);
            let tell: Tell = Arc::new(move |notice| {
                if let (Some(note), Ok(mut report)) = (Note::while_waiting(notice), listener.lock()) {
                    report.tell(&note);
                }
            });
            let result = work(lock, &tell);
            drop(tell);
            if let Some(Ok(mut report)) = Arc::into_inner(report).map(Mutex::into_inner) {
                if let Ok(Some(note)) = &result {
                    report.tell(note);
                }
                report.finish();
            }
            (Some(key), result)
        }
        Err(refusal) => (None, Err(refusal)),
    };
    match result {
        Ok(_) => Exit::Code(0),
        Err(refusal) => {
            Report::error(output, key.as_ref(), refusal.code, &refusal.message);
            Exit::Code(refusal.code)
        }
    }
}

/// A run's lock is the run's: a script within it that gives it back by mistake would have itself killed.
pub(super) fn refuse_a_runs(lock: &Detached, chain: &str) -> Result<(), Refusal> {
    if chain.lines().any(|session| session == lock.session.as_str()) {
        let (key, record) = (&lock.key, "the run that this script runs in");
        return Err(Refusal::usage(format!(
            "{key} is held by {record}, which gives it back itself; was the lock of this script ever acquired?"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-1111-2222-3333-444444444444";
    const OTHER: &str = "00000000-1111-2222-3333-555555555555";

    fn find(key: Option<&str>, session: Option<&str>, exported: (&str, &str)) -> Result<(String, String), u8> {
        let which = Which {
            keys: key.map(str::to_owned).into_iter().collect(),
            session: session.map(str::to_owned),
            retry_for: None,
        };
        let variable =
            |name: &str| Some(if name == "CONSUL_LOCK_KEY" { exported.0.to_owned() } else { exported.1.to_owned() });
        let found = which.find("release", &variable).map_err(|refusal| refusal.code)?;
        Ok((found.0.to_string(), found.1.to_string()))
    }

    #[test]
    fn what_was_typed_wins_and_halves_are_never_mixed() {
        let lock = |key: &str, session: &str| Ok((key.to_owned(), session.to_owned()));
        assert_eq!(find(None, None, ("a", ID)), lock("a", ID));
        assert_eq!(find(Some("b"), Some(OTHER), ("a", ID)), lock("b", OTHER));
        assert_eq!(find(Some("a"), None, ("a", ID)), lock("a", ID));
        assert_eq!(find(None, Some(ID), ("a", ID)), lock("a", ID));
        for (key, session) in [(Some("b"), None), (None, Some(OTHER)), (Some(""), Some(ID)), (Some("a"), Some("x"))] {
            assert_eq!(find(key, session, ("a", ID)), Err(64), "{key:?} {session:?}");
        }
        for exported in [("", ""), ("a", ""), ("", ID), ("a/", ID), ("a", "x")] {
            assert_eq!(find(None, None, exported), Err(64), "{exported:?}");
        }
    }
}
