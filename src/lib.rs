//! Locks on HashiCorp Consul: the Rust counterpart of `api.Lock` in Consul's Go client, with one promise more. The
//! channel that tells of a loss does so while nobody else can hold the lock yet, even if Consul gives no answer at all:
//! from then on the work has [`LockOptions::grace`](lock::LockOptions::grace) to stop.
//!
//! ```no_run
//! use std::sync::mpsc::TryRecvError;
//! use consul_lock::Client;
//! use consul_lock::lock::Stop;
//!
//! # fn a_short_piece_of_work(fence: u64) -> bool { fence == 0 }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on, as for `consul` itself.
//! let client = Client::from_env()?;
//! let mut lock = client.lock_key("reports/nightly")?;
//! // Another thread may throw the stop to end the waiting.
//! let lost = lock.lock(&Stop::new())?;
//! let fence = lock.holding().map_or(0, |holding| holding.fence());
//! while lost.try_recv() == Err(TryRecvError::Empty) && a_short_piece_of_work(fence) {}
//! lock.unlock()?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything is synchronous: [`lock`](lock::Lock::lock) blocks the calling thread, and a lock that is held has a few
//! threads of its own, which renew its session and confirm it.
//!
//! - [`lock`]: the lock, its options, and the parts that it is made of.
//! - [`consul`]: the HTTP API below it: sessions, keys, transactions.
//! - [`clock`]: the clock that leases are counted on, which goes on while a machine sleeps.
//!
//! What the promise rests on is in docs/guarantee.md, each of Go's names beside ours in docs/library.md, and a program
//! that elects a leader in examples/leader.rs. The command `consul-lock` of this package is built on this library.

#![forbid(unsafe_code)]

pub mod clock;
pub mod consul;
pub mod duration;
pub mod lock;
pub mod plain;
pub mod user;

pub use consul::Client;
