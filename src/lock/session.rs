//! The session that a lock is held under: made for it, or given by the caller. A session of our own is renewed,
//! replaced if it dies while we wait, and destroyed at the end; a given one is renewed and nothing else.

use std::time::Duration;

use super::error::Error;
use super::key::Key;
use super::lease::Terms;
use super::options::{LockDelay, LockOptions, Ttl};
use crate::clock::Moment;
use crate::consul::{Behavior, Client, Error as ConsulError, Renewal, SessionEntry, SessionId, SessionInfo};

/// A session in use.
#[derive(Debug, Clone)]
pub(super) struct LockSession {
    pub(super) id: SessionId,
    /// Whether we made it, and so destroy it.
    pub(super) own: bool,
    /// Nothing if it lives until it is destroyed.
    pub(super) ttl: Option<Duration>,
    pub(super) terms: Terms,
    pub(super) behavior: Behavior,
    touched: Moment,
}

/// What became of a renewal.
#[derive(Debug)]
pub(super) enum Touch {
    /// The session lives, or it is too early to ask.
    Alive,
    /// Consul does not know it.
    Gone,
    /// No answer; it may live.
    Unknown(ConsulError),
}

impl LockSession {
    /// Makes a session as `options` say. Not idempotent: a reply that is lost leaves a session behind, which holds
    /// nothing and ends by its TTL.
    pub(super) fn create(client: &Client, options: &LockOptions, timeout: Duration) -> Result<Self, Error> {
        let terms = options.terms()?;
        let opts = &options.session_opts;
        let name = opts.name.as_ref().or(options.session_name.as_ref());
        let entry = SessionEntry {
            name: name.cloned().unwrap_or_else(|| default_name(&options.keys())),
            node: opts.node.clone(),
            ttl: options.ttl().get(),
            lock_delay: options.lock_delay().get(),
            behavior: options.behavior(),
            checks: opts.checks.clone(),
            node_checks: opts.node_checks.clone(),
            service_checks: opts.service_checks.clone(),
        };
        let touched = Moment::now();
        let id = client.create_session(&entry, timeout).map_err(|error| Error::denied_session(client, error))?;
        Ok(Self { id, own: true, ttl: Some(entry.ttl), terms, behavior: entry.behavior, touched })
    }

    /// Looks up the session that the caller gave, which decides TTL, lock delay and behavior.
    pub(super) fn given(
        client: &Client,
        options: &LockOptions,
        id: &SessionId,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let info = client
            .session_info(id, timeout)
            .map_err(|error| Error::denied_session_read(client, error))?
            .ok_or_else(|| Error::NoSuchSession { session: id.clone(), address: Box::new(client.address().clone()) })?;
        check_agreement(&info, options)?;
        let delay = LockDelay::shown(info.lock_delay);
        let ttl = info.ttl;
        let stand_in = ttl.and_then(|ttl| Ttl::new(ttl).ok()).unwrap_or(Ttl::DEFAULT);
        let terms = Terms::new(delay, stand_in, options.grace)?;
        Ok(Self {
            id: info.id,
            own: false,
            ttl,
            terms,
            behavior: info.behavior,
            touched: Moment::from_boot(Duration::ZERO),
        })
    }

    /// Until when Consul promises to let it live without another renewal; nothing if it lives until it is destroyed.
    pub(super) fn expires(&self) -> Option<Moment> {
        self.ttl.map(|ttl| self.touched + ttl)
    }

    /// How often it is renewed.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.ttl.map(|ttl| ttl / 3)
    }

    /// Renews it where that is due.
    pub(super) fn touch(&mut self, client: &Client, now: Moment) -> Touch {
        match self.interval() {
            Some(interval) if now.since(self.touched) >= interval => {
                let result = self.renew(client);
                if matches!(result, Touch::Alive) {
                    self.touched = now;
                }
                result
            }
            Some(_) | None => Touch::Alive,
        }
    }

    /// Renews it.
    pub(super) fn renew(&self, client: &Client) -> Touch {
        let timeout = self.interval().unwrap_or(RENEWAL_TIMEOUT).min(RENEWAL_TIMEOUT);
        match client.renew_session(&self.id, timeout) {
            Ok(Renewal::Renewed) => Touch::Alive,
            Ok(Renewal::Gone) => Touch::Gone,
            Err(error) => Touch::Unknown(error),
        }
    }
}

/// The name of a session that nobody has named.
pub(super) fn default_name(keys: &[&Key]) -> String {
    match keys {
        [] => "consul-lock".to_owned(),
        [key] => format!("consul-lock {key}"),
        [key, more @ ..] => format!("consul-lock {key} and {} more", more.len()),
    }
}

/// Longest wait for the reply to a renewal.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What was asked for beside a given session must be what that session has.
fn check_agreement(info: &SessionInfo, options: &LockOptions) -> Result<(), Error> {
    let opts = &options.session_opts;
    let differs = |what, wanted: String, has: String| Err(Error::Contradiction { what, wanted, has });
    if let Some(delay) = opts.lock_delay.filter(|delay| *delay != LockDelay::shown(info.lock_delay)) {
        return differs("lock delay", format!("{:?}", delay.get()), format!("{:?}", info.lock_delay));
    }
    if let Some(ttl) = opts.ttl.filter(|ttl| Some(ttl.get()) != info.ttl) {
        let has = info.ttl.map_or_else(|| "none".to_owned(), |ttl| format!("{ttl:?}"));
        return differs("TTL", format!("{:?}", ttl.get()), has);
    }
    if let Some(behavior) = opts.behavior.filter(|behavior| *behavior != info.behavior) {
        return differs("behavior", format!("{behavior:?}"), format!("{:?}", info.behavior));
    }
    if let Some(name) = opts.name.as_ref().filter(|name| **name != info.name) {
        return differs("name", name.clone(), info.name.clone());
    }
    let wanted = [&opts.checks, &opts.node_checks, &opts.service_checks];
    if wanted.iter().any(|list| list.is_some()) {
        let sorted = |lists: Vec<&Vec<String>>| {
            let mut all: Vec<String> = lists.into_iter().flatten().cloned().collect();
            all.sort();
            all
        };
        let wanted = sorted(wanted.into_iter().flatten().collect());
        let has = sorted(vec![&info.node_checks, &info.service_checks]);
        if wanted != has {
            return differs("checks", wanted.join(", "), has.join(", "));
        }
    }
    Ok(())
}
