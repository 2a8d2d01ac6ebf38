//! Keys (HTTP API: KV Store): reading one or all below a prefix, at once or when it changes. Writing is for transactions
//! alone, which say what a refusal was about.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use super::client::{Answer, Call, Client, LONGEST_LIST, encoded};
use super::error::Error;
use super::session_id::{SessionId, SessionIdError};
use crate::duration;

/// A key with what belongs to it (`KVPair` in Consul's Go client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value; the answers of a transaction leave it empty, except those of its reads.
    pub value: Vec<u8>,
    /// A number that means something to its writers.
    pub flags: u64,
    /// The session that holds it.
    pub session: Option<SessionId>,
    /// How often it was locked since it exists.
    pub lock_index: u64,
    /// When it was made, in the cluster's count of writes.
    pub create_index: u64,
    /// When it was changed last.
    pub modify_index: u64,
}

/// How to read (HTTP API: Consistency Modes, Blocking Queries).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// By the leader without asking a quorum: a deposed one answers from old state for a moment.
    Default,
    /// By the leader after a quorum confirmed it.
    Consistent,
    /// Consistent, and only when the index is past this one, or `wait` and up to a sixteenth of it is over. An index is
    /// good for the key or prefix that it was read with, and for no other.
    Blocking {
        /// [`Reply::index`] of the read before.
        index: u64,
        /// 10 minutes at most.
        wait: Duration,
    },
}

/// A key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `None`: there is no such key.
    pub entry: Option<Entry>,
    /// For the next blocking read.
    pub index: u64,
}

/// All keys below a prefix as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their keys. What a token may not read is left out without a word.
    pub entries: Vec<Entry>,
    /// For the next blocking read.
    pub index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RawEntry {
    key: String,
    /// Base64.
    value: Option<String>,
    #[serde(default)]
    flags: u64,
    session: Option<String>,
    #[serde(default)]
    lock_index: u64,
    create_index: u64,
    modify_index: u64,
}

impl RawEntry {
    pub(super) fn entry(self) -> Result<Entry, String> {
        let value = self.value.map(|text| STANDARD.decode(text)).transpose();
        let session = self.session.filter(|id| !id.is_empty()).map(|id| id.parse()).transpose();
        Ok(Entry {
            value: value.map_err(|error| format!("a value that is no base64 ({error})"))?.unwrap_or_default(),
            session: session.map_err(|error: SessionIdError| error.to_string())?,
            key: self.key,
            flags: self.flags,
            lock_index: self.lock_index,
            create_index: self.create_index,
            modify_index: self.modify_index,
        })
    }
}

impl Client {
    /// Reads a key (HTTP API: KV Store, Read Key). Idempotent. A blocking read must be given more time than its `wait`
    /// and a sixteenth of it.
    ///
    /// # Errors
    /// [`Error`]; a 404 that is not Consul's own (a proxy's) is [`Error::Rejected`], and not a missing key.
    pub fn get(&self, key: &str, read: Read, timeout: Duration) -> Result<Reply, Error> {
        let (answer, index, mut entries) = self.read(format!("read the key {key}"), key, false, read, timeout)?;
        if entries.len() > 1 || entries.first().is_some_and(|entry| entry.key != key) {
            return Err(answer.malformed("it answers with another key"));
        }
        Ok(Reply { entry: entries.pop(), index })
    }

    /// Reads all keys that begin with a prefix (HTTP API: KV Store, Read Key, `recurse`). Idempotent.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn list(&self, prefix: &str, read: Read, timeout: Duration) -> Result<Listing, Error> {
        let (answer, index, entries) = self.read(format!("list the keys {prefix}*"), prefix, true, read, timeout)?;
        if entries.iter().any(|entry| !entry.key.starts_with(prefix)) {
            return Err(answer.malformed("it answers with other keys"));
        }
        Ok(Listing { entries, index })
    }

    fn read(
        &self,
        task: String,
        key: &str,
        recurse: bool,
        read: Read,
        timeout: Duration,
    ) -> Result<(Answer, u64, Vec<Entry>), Error> {
        let mut query = Vec::new();
        if recurse {
            query.push(("recurse", String::new()));
        }
        if read != Read::Default {
            query.push(("consistent", String::new()));
        }
        if let Read::Blocking { index, wait } = read {
            query.push(("index", index.to_string()));
            query.push(("wait", duration::format(wait)));
        }
        let path = format!("kv/{}", encoded(key));
        let call = Call { task, method: Method::GET, path, query: &query, body: None, timeout };
        let answer = if recurse { self.send_for(call, LONGEST_LIST) } else { self.send(call) }?;
        // A missing key is 404 with an index and no body. Without the index it is a 404 of somebody else.
        let Some(index) = answer.index else {
            return Err(if answer.status == 200 {
                answer.malformed("X-Consul-Index is missing")
            } else {
                answer.rejected()
            });
        };
        let entries = match answer.status {
            200 => answer.json::<Vec<RawEntry>>()?,
            404 => Vec::new(),
            _ => return Err(answer.rejected()),
        };
        let entries: Result<Vec<_>, _> = entries.into_iter().map(RawEntry::entry).collect();
        let entries = entries.map_err(|what| answer.malformed(what))?;
        Ok((answer, index, entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Result<Entry, String> {
        serde_json::from_str::<RawEntry>(text).map_err(|error| error.to_string())?.entry()
    }

    #[test]
    fn a_key_is_read_as_consul_shows_it() {
        let held = r#"{"LockIndex":1,"Key":"a","Flags":3304740253564472344,"Value":"aGk=",
            "Session":"e1733bf5-a1f8-b29e-d62c-99cceeaca85b","CreateIndex":34,"ModifyIndex":40}"#;
        let entry_held = entry(held).expect("fit");
        assert_eq!((entry_held.value.as_slice(), entry_held.flags), (b"hi".as_slice(), 0x2ddc_cbc0_58a5_0c18));
        assert!(entry_held.session.is_some());
        let free = r#"{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":22,"ModifyIndex":22}"#;
        let free = entry(free).expect("fit");
        assert_eq!((free.value.as_slice(), free.session), (b"".as_slice(), None));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for text in [
            r#"{"Key":"a","Value":"?","CreateIndex":1,"ModifyIndex":1}"#,
            r#"{"Key":"a","Session":"nope","CreateIndex":1,"ModifyIndex":1}"#,
            r#"{"Key":"a","Flags":-1,"CreateIndex":1,"ModifyIndex":1}"#,
            r#"{"Key":"a"}"#,
        ] {
            assert!(entry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_byte_of_a_key_that_means_something_in_a_url_is_encoded() {
        assert_eq!(encoded("a/b c?d#e%f&g+h"), "a/b%20c%3Fd%23e%25f%26g%2Bh");
        assert_eq!(encoded("ü"), "%C3%BC");
    }
}
