//! Reading the key, and where it is a semaphore the other slots too.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::TIMEOUT;
use crate::clock::Moment;
use crate::consul::{Client, Entry, Error as ConsulError, Op, Read, Txn};
use crate::lock::key::Key;
use crate::lock::record;
use crate::lock::slots;

/// So many keys are read over one connection at first; reading more takes more connections, not more time.
const READ_BY_ONE: usize = 4;

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

/// Looks under way.
type Looking = Receiver<Vec<ReadResult>>;

/// Looks at the keys for the first time, on connections of their own, beside the making of the session.
pub(super) fn begin_to_look(client: &Client, keys: &[&Key], slots: u16) -> std::io::Result<Vec<Looking>> {
    let begin = |some: &[&Key]| {
        let (client, some) = (client.separate(), some.iter().map(|&key| key.clone()).collect::<Vec<_>>());
        let (result, results) = channel();
        let look_at_each = move || {
            let seen = some.iter().map(|key| first_look(&client, key, slots)).collect();
            // A session takes longer to be made than a key to be read: there is time for what the record will say.
            record::names();
            // Told before the connection is closed and the thread ends, which takes time that nobody need wait.
            let _ = result.send(seen);
        };
        std::thread::Builder::new().name("first-read".into()).spawn(look_at_each)?;
        Ok(results)
    };
    keys.chunks(READ_BY_ONE).map(begin).collect()
}

/// What was seen, in the order of the keys; that of a thread that panicked is missing.
pub(super) fn join(looking: Vec<Looking>) -> Vec<ReadResult> {
    looking.into_iter().flat_map(|looking| looking.recv().unwrap_or_default()).collect()
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
