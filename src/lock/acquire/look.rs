//! Reading the key, and where it is a semaphore the other slots too.

use std::thread::JoinHandle;
use std::time::Duration;

use super::TIMEOUT;
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Op, Read, Txn};
use crate::lock::key::Key;
use crate::lock::slots;

/// An answer to a read, and when it was asked for.
pub(super) struct Seen {
    pub(super) entry: Option<Entry>,
    pub(super) index: u64,
    /// What there is of a semaphore's other slots.
    pub(super) below: Vec<Entry>,
    /// The index of that; 0 where it is not known.
    pub(super) below_index: u64,
    pub(super) sent: Moment,
}

pub(super) type ReadResult = Result<Seen, (ConsulError, Moment)>;

/// Reads one key.
pub(super) fn read(client: &Client, key: &str, read: Read, timeout: Duration) -> ReadResult {
    let sent = Moment::now();
    match client.get(key, read, timeout) {
        Ok(reply) => Ok(Seen { entry: reply.entry, index: reply.index, below: Vec::new(), below_index: 0, sent }),
        Err(error) => Err((error, sent)),
    }
}

/// Reads all slots as they are now. The moment is that of the first request.
pub(super) fn look(client: &Client, key: &Key, slots: u16) -> ReadResult {
    let seen = read(client, key.as_str(), Read::Consistent, TIMEOUT)?;
    if slots <= 1 {
        return Ok(seen);
    }
    match client.list(&slots::prefix(key), Read::Consistent, TIMEOUT) {
        Ok(listing) => Ok(Seen { below: listing.entries, below_index: listing.index, ..seen }),
        Err(error) => Err((error, seen.sent)),
    }
}

/// Looks for the first time, on a connection of its own, beside the making of the session.
pub(super) fn begin_to_look(client: &Client, key: &Key, slots: u16) -> std::io::Result<JoinHandle<ReadResult>> {
    let (client, key) = (client.separate(), key.clone());
    let thread = std::thread::Builder::new().name("first-read".into());
    thread.spawn(move || first_look(&client, &key, slots))
}

/// As [`look`], with a look for a semaphore of Consul's own, which costs no further request.
fn first_look(client: &Client, key: &Key, slots: u16) -> ReadResult {
    let seen = read(client, key.as_str(), Read::Consistent, TIMEOUT)?;
    if slots <= 1 {
        return Ok(seen);
    }
    let (prefix, semaphore) = (slots::prefix(key), slots::semaphore_path(key));
    match client.txn(&[Op::GetTree { prefix: &prefix }, Op::GetTree { prefix: &semaphore }], TIMEOUT) {
        Ok(Txn::Done(below)) => Ok(Seen { below, ..seen }),
        Ok(Txn::Refused(_)) => look(client, key, slots),
        Err(error) => Err((error, seen.sent)),
    }
}
