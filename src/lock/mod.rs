//! What a lock is: a KV key held under a session. Nothing in here knows of processes.
//!
//! [`Lock`] is the counterpart of Go's `api.Lock`. What it is made of can be used by itself by programs that decide
//! more on their own, as the `consul-lock` command does: [`acquire`] gets a key and says what happens meanwhile,
//! a [`Keeper`] holds on to it, a [`Lease`] says until when it is surely ours, and a [`Holding`] gives it back. A
//! [`Detached`] lock is picked up by its names, by a process that did not acquire it.

mod access;
mod acquire;
mod challenge;
mod claim;
mod courtesy;
mod delay;
mod detached;
mod error;
mod holding;
mod keeper;
pub mod key;
mod lease;
mod mutex;
mod notice;
pub mod options;
mod patience;
mod queue;
mod readers;
mod record;
mod retry;
mod session;
mod slots;
mod standing;
mod stop;
pub mod view;
mod wait;

pub use access::{Access, Permission};
pub use acquire::acquire;
pub use claim::Claim;
pub use detached::Detached;
pub use error::Error;
pub use holding::{Holding, Release};
pub use keeper::Keeper;
pub use key::{Key, KeyError};
pub use lease::{Lease, Terms, TooTight};
pub use mutex::Lock;
pub use notice::{Holder, Loss, Notice, Tell, Trouble};
pub use options::{Limit, LockDelay, LockOptions, RangeError, SessionOptions, Sharing, Ttl};
pub use queue::QUEUE_FLAGS;
pub use readers::{MAX_VALUE as MAX_SHARED_VALUE, READ_FLAGS};
pub use record::{Detachment, Record};
pub use retry::retry;
pub use standing::{LOCK_FLAGS, foreign};
pub use stop::{Stop, Stopped};
pub use wait::wait_until_free;
