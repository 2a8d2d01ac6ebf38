//! Transactions (HTTP API: Transactions): up to 64 operations on keys, all or none, with a reason for each refusal. The
//! reasons are told from Consul's English; the texts here are those of 1.8.7, and the rules leave room for later wording.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{Call, Client, LONGEST_LIST};
use super::error::Error;
use super::kv::{Entry, RawEntry};
use super::quote::one_line;
use super::session_id::SessionId;

/// Most operations that Consul takes in one transaction.
pub const MAX_OPS: usize = 64;

/// One operation on a key (`KVTxnOp` in Consul's Go client).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of `Entry`.
pub enum Op<'a> {
    /// Writes the key and holds it under the session. A session that holds it already does so again.
    Lock { key: &'a str, session: &'a SessionId, value: &'a [u8], flags: u64 },
    /// Writes the key and frees it, without a lock delay. What is not given again is wiped.
    Unlock { key: &'a str, session: &'a SessionId, value: &'a [u8], flags: u64 },
    /// Writes the key, held or not.
    Set { key: &'a str, value: &'a [u8], flags: u64 },
    /// Writes the key if it was last changed at this index, or is missing and the index 0.
    Cas { key: &'a str, value: &'a [u8], flags: u64, index: u64 },
    /// Goes on only if the key was last changed at this index.
    CheckIndex { key: &'a str, index: u64 },
    /// Goes on only if the key is missing.
    CheckNotExists { key: &'a str },
    /// Goes on only if the session holds the key.
    CheckSession { key: &'a str, session: &'a SessionId },
    /// Removes the key, held or not, without a lock delay. A missing one is no failure.
    Delete { key: &'a str },
    /// Removes the key if it was last changed at this index. A missing one is no failure.
    DeleteCas { key: &'a str, index: u64 },
    /// Reads the key, which must exist.
    Get { key: &'a str },
    /// Reads all keys that begin with the prefix, if any; what the token may not read is left out.
    GetTree { prefix: &'a str },
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Txn {
    /// All of it was done. One entry for each operation that leaves one, in their order; a key that was checked and then
    /// written appears twice, and the later entry is its present state. Deletions leave none.
    Done(Vec<Entry>),
    /// None of it was done. Never empty.
    Refused(Vec<Refusal>),
}

impl Txn {
    /// The state of a key after the transaction, if it was done and says so.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match self {
            Self::Done(entries) => entries.iter().rev().find(|entry| entry.key == key),
            Self::Refused(_) => None,
        }
    }
}

/// Why an operation was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which operation, counted from 0.
    pub op_index: usize,
    /// What it means.
    pub reason: RefusalReason,
    /// Consul's own words, fit for a message.
    pub what: String,
}

/// The meanings of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// Another session holds the key.
    LockHeld,
    /// Nobody may hold the key yet: a session that held it ended a short while ago.
    LockDelay,
    /// The key was changed since that index.
    IndexChanged,
    /// The key exists and should not.
    Exists,
    /// The key is missing and should not be. A read that the token may not make looks the same.
    Missing,
    /// Another session holds the key, or none.
    SessionMismatch,
    /// There is no such session.
    InvalidSession,
    /// The token may not do it.
    Denied,
    /// Anything else.
    Other,
}

impl RefusalReason {
    /// Tells the reason from Consul's words. They quote the key, which may itself contain such words, so only their
    /// beginning and end count.
    fn of(what: &str) -> Self {
        let what = what.trim().trim_start_matches("rpc error making call: ");
        let starts = |text: &str| what.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
        let ends = |text: &str| what.ends_with(text);
        if starts("Permission denied") || starts("ACL not found") {
            Self::Denied
        } else if starts("invalid session") || starts("failed session lookup") || starts("missing session") {
            Self::InvalidSession
        } else if starts("failed to lock") && ends("due to lock delay") {
            Self::LockDelay
        } else if starts("failed to lock") {
            Self::LockHeld
        } else if starts("failed to unlock") || starts("failed session check") {
            Self::SessionMismatch
        } else if starts("failed index check") || ends("index is stale") {
            Self::IndexChanged
        } else if ends("doesn't exist") || ends("does not exist") {
            Self::Missing
        } else if starts("key ") && (ends(" exists") || ends(" already exists")) {
            Self::Exists
        } else {
            Self::Other
        }
    }
}

impl Op<'_> {
    /// The key, or the prefix of the keys, that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match *self {
            Self::Lock { key, .. }
            | Self::Unlock { key, .. }
            | Self::Set { key, .. }
            | Self::Cas { key, .. }
            | Self::CheckIndex { key, .. }
            | Self::CheckNotExists { key }
            | Self::CheckSession { key, .. }
            | Self::Delete { key }
            | Self::DeleteCas { key, .. }
            | Self::Get { key }
            | Self::GetTree { prefix: key } => key,
        }
    }

    /// Whether it leaves everything as it is.
    fn is_read(&self) -> bool {
        matches!(
            self,
            Self::CheckIndex { .. }
                | Self::CheckNotExists { .. }
                | Self::CheckSession { .. }
                | Self::Get { .. }
                | Self::GetTree { .. }
        )
    }

    fn body(&self, namespace: Option<&str>, partition: Option<&str>) -> Value {
        let mut kv = Map::new();
        let mut put = |name: &str, value: Value| {
            kv.insert(name.to_owned(), value);
        };
        let verb = match *self {
            Self::Lock { .. } => "lock",
            Self::Unlock { .. } => "unlock",
            Self::Set { .. } => "set",
            Self::Cas { .. } => "cas",
            Self::CheckIndex { .. } => "check-index",
            Self::CheckNotExists { .. } => "check-not-exists",
            Self::CheckSession { .. } => "check-session",
            Self::Delete { .. } => "delete",
            Self::DeleteCas { .. } => "delete-cas",
            Self::Get { .. } => "get",
            Self::GetTree { .. } => "get-tree",
        };
        put("Verb", json!(verb));
        put("Key", json!(self.key()));
        if let Self::Lock { value, flags, .. }
        | Self::Unlock { value, flags, .. }
        | Self::Set { value, flags, .. }
        | Self::Cas { value, flags, .. } = *self
        {
            put("Value", json!(STANDARD.encode(value)));
            put("Flags", json!(flags));
        }
        if let Self::Lock { session, .. } | Self::Unlock { session, .. } | Self::CheckSession { session, .. } = *self {
            put("Session", json!(session));
        }
        if let Self::Cas { index, .. } | Self::CheckIndex { index, .. } | Self::DeleteCas { index, .. } = *self {
            put("Index", json!(index));
        }
        if let Some(namespace) = namespace {
            put("Namespace", json!(namespace));
        }
        if let Some(partition) = partition {
            put("Partition", json!(partition));
        }
        json!({ "KV": kv })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawTxn {
    results: Option<Vec<RawResult>>,
    errors: Option<Vec<RawError>>,
}

#[derive(Deserialize)]
struct RawResult {
    #[serde(rename = "KV")]
    kv: Option<RawEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawError {
    op_index: usize,
    what: String,
}

impl Client {
    /// Carries out all operations or none (HTTP API: Transactions, Create Transaction). If they only read and check, a
    /// quorum confirms the leader first (`?consistent`), and asking again is harmless.
    ///
    /// # Errors
    /// [`Error`]. A refusal of the operations themselves is none, but [`Txn::Refused`], even where Consul denies one:
    /// an answer of 409 names the operation.
    pub fn txn(&self, ops: &[Op<'_>], timeout: Duration) -> Result<Txn, Error> {
        let config = self.config();
        let body = ops.iter().map(|op| op.body(config.namespace.as_deref(), config.partition.as_deref()));
        let consistent = [("consistent", String::new())];
        let reads = ops.iter().all(Op::is_read);
        let lists = ops.iter().any(|op| matches!(op, Op::GetTree { .. }));
        let call = Call {
            task: task(ops),
            method: Method::PUT,
            path: "txn".into(),
            query: if reads { &consistent } else { &[] },
            body: Some(Value::Array(body.collect()).to_string().into_bytes()),
            timeout,
        };
        let answer = if lists { self.send_for(call, LONGEST_LIST) } else { self.send(call) }?;
        if !matches!(answer.status, 200 | 409) {
            return Err(answer.rejected());
        }
        let raw = answer.json::<RawTxn>()?;
        let errors = raw.errors.unwrap_or_default();
        match (answer.status, errors.is_empty()) {
            (200, true) => {
                let results = raw.results.unwrap_or_default().into_iter().filter_map(|result| result.kv);
                let entries: Result<Vec<_>, _> = results.map(RawEntry::entry).collect();
                entries.map(Txn::Done).map_err(|what| answer.malformed(what))
            }
            (409, false) => Ok(Txn::Refused(errors.into_iter().map(Refusal::from).collect())),
            (200, false) => Err(answer.malformed("a transaction that was done and refused")),
            _ => Err(answer.malformed("a transaction that was refused without a reason")),
        }
    }
}

impl From<RawError> for Refusal {
    fn from(raw: RawError) -> Self {
        let what = one_line(&raw.what);
        Self { op_index: raw.op_index, reason: RefusalReason::of(&raw.what), what }
    }
}

/// What a transaction is for, as a message says it: its first write, or else its first operation.
fn task(ops: &[Op<'_>]) -> String {
    let Some(op) = ops.iter().find(|op| !op.is_read()).or(ops.first()) else {
        return "carry out a transaction".into();
    };
    match *op {
        Op::Lock { key, .. } => format!("lock the key {key}"),
        Op::Unlock { key, .. } => format!("unlock the key {key}"),
        Op::Set { key, .. } | Op::Cas { key, .. } => format!("write the key {key}"),
        Op::CheckIndex { key, .. } | Op::CheckNotExists { key } | Op::CheckSession { key, .. } => {
            format!("check the key {key}")
        }
        // No key was ever last changed at that index: a question, dressed as a write.
        Op::DeleteCas { key, index: 0 } => format!("see what the token may do to the key {key}"),
        Op::Delete { key } | Op::DeleteCas { key, .. } => format!("delete the key {key}"),
        Op::Get { key } => format!("read the key {key}"),
        Op::GetTree { prefix } => format!("list the keys {prefix}*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusals_of_consul_1_8_7_are_understood() {
        use RefusalReason::*;
        let texts = [
            (r#"failed to lock key "a", lock is already held"#, LockHeld),
            (r#"failed to lock key "a" due to lock delay"#, LockDelay),
            (r#"failed index check for key "a", current modify index 34 != 1"#, IndexChanged),
            (r#"failed to set key "a", index is stale"#, IndexChanged),
            (r#"failed to delete key "a", index is stale"#, IndexChanged),
            (r#"key "a" exists"#, Exists),
            (r#"key "a" doesn't exist"#, Missing),
            (r#"failed to check index, key "a" doesn't exist"#, Missing),
            (r#"failed to check session, key "a" doesn't exist"#, Missing),
            (r#"failed session check for key "a", current session "" != "b""#, SessionMismatch),
            (r#"failed to unlock key "a", lock isn't held, or is held by another session"#, SessionMismatch),
            (r#"invalid session "11111111-1111-1111-1111-111111111111""#, InvalidSession),
            ("failed session lookup: index error: UUID must be 36 characters", InvalidSession),
            ("missing session", InvalidSession),
            ("Permission denied", Denied),
            ("rpc error making call: rpc error making call: Permission denied", Denied),
            ("Permission denied: token with AccessorID 'x' lacks permission 'key:write' on \"a\"", Denied),
            (r#"unknown KV verb "frob""#, Other),
            ("", Other),
            ("ü", Other),
        ];
        for (text, reason) in texts {
            assert_eq!(RefusalReason::of(text), reason, "{text}");
        }
    }

    #[test]
    fn a_key_that_reads_like_a_refusal_misleads_nobody() {
        let text = r#"failed to lock key "x due to lock delay", lock is already held"#;
        assert_eq!(RefusalReason::of(text), RefusalReason::LockHeld);
        let text = r#"key "Permission denied, lock is already held" exists"#;
        assert_eq!(RefusalReason::of(text), RefusalReason::Exists);
    }

    #[test]
    fn namespace_and_partition_are_in_every_operation() {
        let body = Op::CheckIndex { key: "a", index: 7 }.body(Some("n"), Some("p"));
        let expected =
            json!({"KV": {"Verb": "check-index", "Key": "a", "Index": 7, "Namespace": "n", "Partition": "p"}});
        assert_eq!(body, expected);
        assert_eq!(Op::Delete { key: "a" }.body(None, None), json!({"KV": {"Verb": "delete", "Key": "a"}}));
    }

    #[test]
    fn a_lock_carries_its_value_in_base64() {
        let session: SessionId = "e1733bf5-a1f8-b29e-d62c-99cceeaca85b".parse().expect("a UUID");
        let body =
            Op::Lock { key: "a", session: &session, value: b"hi", flags: 0x2ddc_cbc0_58a5_0c18 }.body(None, None);
        let expected = json!({"KV": {"Verb": "lock", "Key": "a", "Value": "aGk=", "Flags": 3_304_740_253_564_472_344_u64,
            "Session": "e1733bf5-a1f8-b29e-d62c-99cceeaca85b"}});
        assert_eq!(body, expected);
    }
}
