//! Locks on HashiCorp Consul: the Rust counterpart of `api.Lock` in Consul's Go client.

#![forbid(unsafe_code)]

pub mod clock;
pub mod consul;
pub mod lock;
pub mod user;

pub use consul::Client;
