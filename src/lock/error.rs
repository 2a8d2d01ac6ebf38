//! Why a lock could not be had, kept or given back.

use thiserror::Error;

use super::key::Key;
use super::lease::TooTight;
use super::notice::{Holder, Loss};
use super::record::Record;
use crate::consul::{Address, Client, Error as ConsulError, SessionId};

/// Why a lock could not be had, kept or given back.
#[derive(Debug, Error)]
pub enum Error {
    /// Consul gave no answer that could be used, for as long as was allowed; or one that is final.
    #[error(transparent)]
    Consul(#[from] ConsulError),
    /// Somebody else has the lock, and waiting was over.
    #[error("{key} is held by {holder}")]
    Held {
        /// The lock that was wanted.
        key: Key,
        /// Who has it.
        holder: Holder,
    },
    /// Every slot of a semaphore is held, and waiting was over.
    #[error("all {slots} slots of {key} are held, one of them by {holder}")]
    AllHeld {
        /// The semaphore that was wanted.
        key: Key,
        /// How many slots it was wanted with.
        slots: u16,
        /// Who has one of them.
        holder: Holder,
    },
    /// Others have several of the lock's keys, and waiting was over.
    #[error("{}", .0.iter().map(|(key, holder)| format!("{key} is held by {holder}")).collect::<Vec<_>>().join("; "))]
    SeveralHeld(Vec<(Key, Holder)>),
    /// Nobody has the lock, but its lock delay outlasts the waiting.
    #[error(
        "{key} is free but under its lock delay: the last holder lost it and may still be at work; wait longer (-w)"
    )]
    Delayed {
        /// The lock that was wanted.
        key: Key,
    },
    /// The key is held by another run under the very session that was given.
    #[error(
        "{key} is held by another run of session {session}: a session holds a key once; end that run, or use a session of your own"
    )]
    HeldBySameSession {
        /// The lock that was wanted.
        key: Key,
        /// The session that was given.
        session: SessionId,
    },
    /// The key is in use for something that is no lock.
    #[error("{key} at {address:#} is no lock: {what}; it was left as it is: choose another key")]
    Foreign {
        /// The key where it was found: the lock's own, or one below it.
        key: String,
        /// Where it was found.
        address: Box<Address>,
        /// What is in the key.
        what: &'static str,
    },
    /// The token lacks a rule.
    #[error("Consul at {address:#} denied {what} (\"{answer}\"): the token needs {rule}")]
    Denied {
        /// Who denied it.
        address: Box<Address>,
        /// What was tried.
        what: &'static str,
        /// What came back.
        answer: String,
        /// The ACL rule that would allow it, as HCL.
        rule: String,
    },
    /// Consul refused in words that are new to us.
    #[error("Consul at {address:#} refused to lock {key}: {answer}")]
    Refused {
        /// The key that was to be locked: the lock's own or one below it.
        key: String,
        /// Who refused it.
        address: Box<Address>,
        /// What came back.
        answer: String,
    },
    /// More keys than one lock can have.
    #[error("{0} keys are too many: one lock holds {max} at most, since Consul takes so many in one transaction", max = super::claim::MAX_CLAIMS)]
    TooManyKeys(usize),
    /// The session that was given is not there.
    #[error(
        "session {session} does not exist at {address:#}: make one (PUT /v1/session/create), or leave --session out"
    )]
    NoSuchSession {
        /// The session that was given.
        session: SessionId,
        /// Who does not know it.
        address: Box<Address>,
    },
    /// The session that was given is not as was asked for.
    #[error("session has the {what} \"{has}\", not \"{wanted}\": a given session keeps its own; leave the flag out")]
    Contradiction {
        /// Which property.
        what: &'static str,
        /// What was asked for.
        wanted: String,
        /// What the session has.
        has: String,
    },
    /// The settings of the given session leave no room for the promise.
    #[error(transparent)]
    TooTight(#[from] TooTight),
    /// The given session has no lock delay, so that Consul promises nothing.
    #[error(
        "session {0} has a lock delay of 0, with which no promise can be kept: make one with a lock delay, or pass --no-guarantee"
    )]
    NoLockDelay(SessionId),
    /// A reader's session takes its entry along when it ends, so that a writer would not wait for his lock delay.
    #[error(
        "a shared lock needs the behavior \"release\": with \"delete\" nothing would be left of a reader that dies, and a writer would \
         not wait until it is surely dead"
    )]
    SharedDelete,
    /// A reader's value is read by writers together with all others'.
    #[error("a shared lock's value has {0} bytes, {most} is the most: store less", most = super::readers::MAX_VALUE)]
    SharedValue(usize),
    /// The lock was given up on request.
    #[error("gave up waiting")]
    Stopped,
    /// A session does not hold the key, or no longer.
    #[error("{key} is not held by session {session}: {}", now_held_by(.holder.as_ref()))]
    NotOurs {
        /// The lock.
        key: Key,
        /// The session that was to hold it.
        session: SessionId,
        /// Who does.
        holder: Option<Holder>,
    },
    /// The lock has more keys than were named, and they are given back together.
    #[error("{key} was acquired together with others, {keys} keys in all, under session {session}: name all of them")]
    Part {
        /// One of those that were named.
        key: Key,
        /// How many there are.
        keys: usize,
        /// The session that holds them.
        session: SessionId,
    },
    /// The lock is held by a process that gives it back itself, and that was not meant.
    #[error(
        "{key} is held by {record}, which gives it back itself: end that process, or take the lock from it with consul-lock evict"
    )]
    Attached {
        /// The lock.
        key: Key,
        /// Who holds it.
        record: Box<Record>,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread ({0}): raise the limit on processes (ulimit -u)")]
    Thread(#[from] std::io::Error),
    /// `unlock` without a lock: Go's `ErrLockNotHeld`.
    #[error("{0} is not held")]
    NotHeld(Key),
    /// `lock` on a lock that is held: Go's `ErrLockHeld`.
    #[error("{0} is held by this very lock already")]
    AlreadyHeld(Key),
    /// `destroy` of a lock that is held: Go's `ErrLockInUse`.
    #[error("{0} is in use")]
    InUse(Key),
    /// The lock turned out to be lost when it was given back.
    #[error("the lock was lost before it was released: {0}")]
    LostBefore(Loss),
}

impl Error {
    /// The error of a session that could not be made.
    pub(super) fn denied_session(client: &Client, error: ConsulError) -> Self {
        Self::denied(client, error, "making a session", "session_prefix \"\" { policy = \"write\" }".to_owned())
    }

    /// The error of a session that could not be read.
    pub(super) fn denied_session_read(client: &Client, error: ConsulError) -> Self {
        Self::denied(client, error, "reading the session", "session_prefix \"\" { policy = \"write\" }".to_owned())
    }

    /// The error of a session that could not be renewed, or read to that end.
    pub(super) fn denied_renewal(client: &Client, error: ConsulError) -> Self {
        Self::denied(client, error, "renewing the session", "session_prefix \"\" { policy = \"write\" }".to_owned())
    }

    /// The error of a request about a key, the lock's own or one below it.
    pub(super) fn about_key(client: &Client, key: &str, error: ConsulError) -> Self {
        Self::denied(client, error, "access to the key", key_rule(key))
    }

    /// The error of a look at the key.
    pub(super) fn about_reading(client: &Client, key: &Key, error: ConsulError) -> Self {
        Self::denied_reading(client, "key", key.as_str(), error)
    }

    /// The error of a list. Consul only leaves out of it what may not be read, and denies it as a whole where the servers'
    /// `acl.enable_key_list_policy` is set: reading is not enough there.
    pub(super) fn denied_listing(client: &Client, prefix: &str, error: ConsulError) -> Self {
        Self::denied(client, error, "listing", format!("key_prefix {} {{ policy = \"list\" }}", quoted(prefix)))
    }

    /// The error of a look at what a rule of this kind (`key`, `key_prefix`) about this name would allow.
    pub(super) fn denied_reading(client: &Client, kind: &str, name: &str, error: ConsulError) -> Self {
        Self::denied(client, error, "reading", format!("{kind} {} {{ policy = \"read\" }}", quoted(name)))
    }

    /// The error of a session that could not be ended.
    pub(super) fn denied_session_end(client: &Client, node: Option<&str>, error: ConsulError) -> Self {
        let rule = match node {
            Some(node) => format!("session {} {{ policy = \"write\" }}", quoted(node)),
            None => "session_prefix \"\" { policy = \"write\" }".to_owned(),
        };
        Self::denied(client, error, "ending the session", rule)
    }

    /// A refusal that nothing else explains.
    pub(super) fn refused(client: &Client, key: &str, answer: &str) -> Self {
        Self::Refused { key: key.to_owned(), address: Box::new(client.address().clone()), answer: answer.to_owned() }
    }

    /// A denial within a transaction.
    pub(super) fn denied_key(client: &Client, key: &str, answer: &str) -> Self {
        let address = Box::new(client.address().clone());
        Self::Denied { address, what: "writing the key", answer: answer.to_owned(), rule: key_rule(key) }
    }

    fn denied(client: &Client, error: ConsulError, what: &'static str, rule: String) -> Self {
        match error {
            // A token that is unknown lacks no rule.
            error if error.is_unknown_token() => Self::Consul(error),
            ConsulError::Denied { body, .. } => {
                Self::Denied { address: Box::new(client.address().clone()), what, answer: body, rule }
            }
            error => Self::Consul(error),
        }
    }
}

fn now_held_by(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("{holder} has it now"),
        None => "nobody has it; it was released, or the session has ended".to_owned(),
    }
}

/// What is below a lock's own key is named as a whole: it has names that nobody knows before.
fn key_rule(key: &str) -> String {
    let below =
        ["/.queue/", "/.slot/", "/.read/"].into_iter().find_map(|folder| Some(key.find(folder)? + folder.len()));
    let (kind, name) = below.map_or(("key", key), |end| ("key_prefix", &key[..end]));
    format!("{kind} {} {{ policy = \"write\" }}", quoted(name))
}

/// A text in quotes, as HCL has it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_what_is_below_a_key_is_for_all_of_it() {
        assert_eq!(key_rule("a/\"b\""), r#"key "a/\"b\"" { policy = "write" }"#);
        assert_eq!(key_rule("a/.slot/12"), r#"key_prefix "a/.slot/" { policy = "write" }"#);
        assert_eq!(key_rule("a/.read/7c"), r#"key_prefix "a/.read/" { policy = "write" }"#);
    }
}
