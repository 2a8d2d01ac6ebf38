//! Consul's HTTP API as Consul documents it: sessions, keys and transactions over HTTP, HTTPS or a unix socket, configured
//! as the `consul` command is. Every call sends one request, takes the time that it may last, and never retries by
//! itself: what is worth another attempt depends on what the caller holds. Nothing in here knows what a lock is.

mod address;
mod agent;
mod certificate;
mod client;
mod config;
mod date;
mod error;
mod failure;
mod kv;
mod mend;
mod presented;
mod proxy;
mod quote;
mod session;
mod session_id;
mod settings;
mod tls;
mod transport;
mod txn;
mod whole;

pub use address::{Address, AddressError, Origin};
pub use agent::{ClockOffset, Token, TokenState};
pub use certificate::Certificate;
pub use client::Client;
pub use config::{Config, ConfigError, Secret};
pub use error::{Attempt, Error, Obstacle};
pub use kv::{Entry, Listing, Read, Reply};
pub use session::{Behavior, Renewal, SessionEntry, SessionInfo};
pub use session_id::{SessionId, SessionIdError};
pub use settings::Settings;
pub use txn::{MAX_OPS, Op, Refusal, RefusalReason, Txn};
