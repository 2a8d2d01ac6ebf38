//! What a lock is: a KV key held under a session. Nothing in here knows of processes.

pub mod key;

pub use key::{Key, KeyError};
