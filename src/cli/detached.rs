//! What `acquire`, `renew` and `release` have in common: which lock is meant, and what is not to be had with it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use consul_lock::consul::SessionId;
use consul_lock::duration;
use consul_lock::lock::{self, Detached, Key, LockOptions, Tell};
use nix::sys::signal::Signal;

use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use super::refusal::Refusal;
use super::report::{self, Report};
use crate::run::Note;

/// The lock that another step of a script has acquired.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The lock: the keys that `acquire` was given [CONSUL_LOCK_KEY].
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

/// Keys in the order of their bytes, each once.
pub(super) fn keys<'a>(typed: impl Iterator<Item = &'a str>) -> Result<Vec<Key>, Refusal> {
    let keys: BTreeSet<Key> = typed.map(str::parse).collect::<Result<_, _>>().map_err(Refusal::usage)?;
    if keys.len() > LockOptions::MAX_KEYS {
        return Err(Refusal::usage(lock::Error::TooManyKeys(keys.len())));
    }
    Ok(keys.into_iter().collect())
}

impl Which {
    /// The lock: what was typed wins over what `acquire --export` left in the environment, and a half that was not typed is
    /// only taken from there if the other half agrees.
    fn find(&self, command: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<(Vec<Key>, SessionId), Refusal> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let keys = keys(self.keys.iter().map(String::as_str))?;
        let session = self.session.as_deref().map(str::parse::<SessionId>).transpose().map_err(Refusal::usage)?;
        if let (false, Some(session)) = (keys.is_empty(), &session) {
            return Ok((keys, session.clone()));
        }
        let how =
            format!("consul-lock {command} KEY --session ID, or first eval what consul-lock acquire --export prints");
        let Some(exported) = variable("CONSUL_LOCK_KEY").zip(variable("CONSUL_LOCK_SESSION")) else {
            let what = "CONSUL_LOCK_KEY and CONSUL_LOCK_SESSION are not set";
            return Err(Refusal::usage(format!("which lock? {what}: {how}")));
        };
        let exported_keys = self::keys(exported.0.lines())?;
        let exported_session: SessionId = exported.1.parse().map_err(Refusal::usage)?;
        let agree = (keys.is_empty() || keys == exported_keys) && session.is_none_or(|id| id == exported_session);
        if !agree {
            let what = "CONSUL_LOCK_KEY and CONSUL_LOCK_SESSION are of another one";
            return Err(Refusal::usage(format!("which lock? {what}: {how}")));
        }
        Ok((exported_keys, exported_session))
    }
}

/// Finds the lock and does something with it.
pub(super) fn with_lock(
    (which, not_here, connection, output): (Which, NotHere, Connection, Output),
    command: &str,
    work: impl FnOnce(Detached, &Tell) -> Result<Option<Note>, Refusal>,
) -> Exit {
    let found = not_here.refuse(command).and_then(|()| {
        let (keys, session) = which.find(command, &|name| std::env::var(name).ok())?;
        let retry_for = which.retry_for.unwrap_or(LockOptions::DEFAULT_RETRY_FOR);
        Ok(Detached { client: connection.client()?, keys, session, retry_for, keep_key: false })
    });
    let (keys, result) = match found {
        Ok(lock) => {
            let keys = lock.keys.clone();
            let report = Arc::new(Mutex::new(Report::new(output, keys.clone(), Signal::SIGTERM)));
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
            (keys, result)
        }
        Err(refusal) => (Vec::new(), Err(refusal)),
    };
    match result {
        Ok(_) => Exit::Code(0),
        Err(refusal) => {
            Report::error(output, &keys, refusal.code, &refusal.message);
            Exit::Code(refusal.code)
        }
    }
}

/// A run's lock is the run's: a script within it that gives it back by mistake would have itself killed.
pub(super) fn refuse_a_runs(lock: &Detached, chain: &str) -> Result<(), Refusal> {
    if chain.lines().any(|session| session == lock.session.as_str()) {
        return Err(Refusal::usage(format!(
            "{} is held by the run that this script runs in, or by the script around that, which gives it back itself; was the \
             lock of this script ever acquired?",
            report::names(&lock.keys)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-1111-2222-3333-444444444444";
    const OTHER: &str = "00000000-1111-2222-3333-555555555555";

    fn find(keys: &[&str], session: Option<&str>, exported: (&str, &str)) -> Result<(String, String), u8> {
        let which = Which {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            session: session.map(str::to_owned),
            retry_for: None,
        };
        let variable =
            |name: &str| Some(if name == "CONSUL_LOCK_KEY" { exported.0.to_owned() } else { exported.1.to_owned() });
        let (keys, session) = which.find("release", &variable).map_err(|refusal| refusal.code)?;
        Ok((keys.iter().map(Key::as_str).collect::<Vec<_>>().join(" "), session.to_string()))
    }

    #[test]
    fn what_was_typed_wins_and_halves_are_never_mixed() {
        let lock = |keys: &str, session: &str| Ok((keys.to_owned(), session.to_owned()));
        assert_eq!(find(&[], None, ("a", ID)), lock("a", ID));
        assert_eq!(find(&["b"], Some(OTHER), ("a", ID)), lock("b", OTHER));
        assert_eq!(find(&["a"], None, ("a", ID)), lock("a", ID));
        assert_eq!(find(&[], Some(ID), ("a", ID)), lock("a", ID));
        assert_eq!(find(&[], Some(&ID.to_uppercase()), ("a", ID)), lock("a", ID));
        assert_eq!(find(&["b", "a", "b"], None, ("a\nb", ID)), lock("a b", ID));
        let refused: [(&[&str], _); 5] =
            [(&["b"], None), (&["a", "b"], None), (&[], Some(OTHER)), (&[""], Some(ID)), (&["a"], Some("x"))];
        for (keys, session) in refused {
            assert_eq!(find(keys, session, ("a", ID)), Err(64), "{keys:?} {session:?}");
        }
        for exported in [("", ""), ("a", ""), ("", ID), ("a/", ID), ("a", "x"), ("a\n\nb", ID)] {
            assert_eq!(find(&[], None, exported), Err(64), "{exported:?}");
        }
    }
}
