//! Reading locks from Consul. One lock takes two requests, whatever else is below its key; all below a prefix take one.

use std::time::Duration;

use super::{LockList, LockView, gather};
use crate::consul::{Client, Entry, Error as ConsulError, Op, Read, SessionId, SessionInfo, Txn};
use crate::lock::error::Error;
use crate::lock::key::Key;
use crate::lock::standing::SEMAPHORE_FLAGS;

impl Client {
    /// The lock `key` as it stands. The key is read after its line, so that nobody is missing who was there all the time.
    ///
    /// # Errors
    /// [`Error::Denied`] with the rule that is missing, [`Error::Consul`].
    pub fn lock_view(&self, key: &Key, timeout: Duration) -> Result<LockView, Error> {
        let denied = |error| Error::about_reading(self, key, error);
        // Whoever names the semaphore's own key means the semaphore.
        let prefix = key.as_str().strip_suffix("/.lock").unwrap_or(key.as_str());
        // As a path this prefix would be another: servers take a dot at the end for "here".
        let reserved = format!("{key}/.");
        let mut entries = match self.txn(&[Op::GetTree { prefix: &reserved }], timeout).map_err(denied)? {
            Txn::Done(entries) => entries,
            Txn::Refused(refusals) => {
                return Err(Error::refused(self, key.as_str(), refusals.first().map_or("", |refusal| &refusal.what)));
            }
        };
        entries.extend(self.get(key.as_str(), Read::Consistent, timeout).map_err(denied)?.entry);
        let is_semaphore =
            |entry: &Entry| entry.flags == SEMAPHORE_FLAGS && entry.key.strip_suffix("/.lock") == Some(prefix);
        if entries.iter().any(is_semaphore) {
            entries.retain(|entry| entry.flags != SEMAPHORE_FLAGS);
            let below = format!("{prefix}/");
            let unlisted = |error| Error::denied_listing(self, &below, error);
            let below = self.list(&below, Read::Consistent, timeout).map_err(unlisted)?.entries;
            entries.extend(below.into_iter().filter(|entry| entry.flags == SEMAPHORE_FLAGS));
            return Ok(gather::one(prefix, entries));
        }
        let mut view = gather::one(key.as_str(), entries);
        view.line_is_hidden = view.queue.is_empty() && self.denial(&format!("{key}/.queue/"), timeout)?.is_some();
        Ok(view)
    }

    /// All locks whose keys begin with `prefix`. Consul leaves out without a word what the token may not read.
    ///
    /// # Errors
    /// As [`Client::lock_view`]; [`Error::Denied`] too when there is nothing that the token may read, and
    /// there could be something that it may not.
    pub fn lock_views(&self, prefix: &str, timeout: Duration) -> Result<LockList, Error> {
        let unlisted = |error| Error::denied_listing(self, prefix, error);
        let locks = gather::all(self.list(prefix, Read::Consistent, timeout).map_err(unlisted)?.entries);
        match self.denial(prefix, timeout)? {
            Some(error) if locks.is_empty() => Err(Error::denied_reading(self, "key_prefix", prefix, error)),
            denial => Ok(LockList { locks, is_complete: denial.is_none() }),
        }
    }

    /// Whether the token may not read what is below a prefix, asked of a key there that nobody ever writes: lists say
    /// nothing of what they leave out.
    fn denial(&self, prefix: &str, timeout: Duration) -> Result<Option<ConsulError>, Error> {
        match self.get(&format!("{prefix}.nobody"), Read::Default, timeout) {
            Ok(_) => Ok(None),
            Err(error @ ConsulError::Denied { .. }) if !error.is_unknown_token() => Ok(Some(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// A session that somebody holds a lock under; nothing if it has ended meanwhile, or if the token may not read it.
    ///
    /// # Errors
    /// [`Error::Consul`].
    pub fn holders_session(&self, id: &SessionId, timeout: Duration) -> Result<Option<SessionInfo>, Error> {
        match self.session_info(id, timeout) {
            Err(ref error @ ConsulError::Denied { .. }) if !error.is_unknown_token() => Ok(None),
            other => Ok(other?),
        }
    }

    /// All sessions, to tell whose are those that hold locks; those that the token may read.
    ///
    /// # Errors
    /// [`Error::Consul`].
    pub fn holders_sessions(&self, timeout: Duration) -> Result<Vec<SessionInfo>, Error> {
        match self.sessions(timeout) {
            Err(ref error @ ConsulError::Denied { .. }) if !error.is_unknown_token() => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    /// Ends a session that somebody holds a lock under, which starts the lock delay of all that it holds. `node` is the
    /// session's, for the message.
    ///
    /// # Errors
    /// [`Error::Denied`] with the rule that is missing, [`Error::Consul`].
    pub fn evict_session(&self, id: &SessionId, node: Option<&str>, timeout: Duration) -> Result<(), Error> {
        self.destroy_session(id, timeout).map_err(|error| Error::denied_session_end(self, node, error))
    }
}
