//! Where the commands that only look have their locks from: Consul, or this machine.

use std::time::Duration;

use clap::Args;
use consul_lock::{Client, duration};

use super::args::Local;
use super::connection::Connection;
use super::refusal::Refusal;
use crate::local::{Locks, Place};

/// How long a command that only looks asks a Consul that does not answer: somebody sits before it.
pub(crate) const RETRY_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct Retrying {
    /// How long a Consul that does not answer is asked again [default: 5s].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) retry_for: Option<Duration>,
}

/// Where locks are.
#[derive(Debug)]
pub(crate) enum Source {
    /// In Consul; with the time that it is asked for.
    Consul(Client, Duration),
    /// In files on this machine.
    Here(Locks),
}

impl Source {
    /// The place that was typed.
    ///
    /// # Errors
    /// What does not go together, and what cannot be used, with its exit code.
    pub(crate) fn open(local: Local, connection: Connection, retry_for: Option<Duration>) -> Result<Self, Refusal> {
        let Some(dir) = local.local else {
            return Ok(Self::Consul(connection.client()?, retry_for.unwrap_or(RETRY_FOR)));
        };
        let useless = connection.first_given().or(retry_for.map(|_| "--retry-for"));
        if let Some(flag) = useless {
            return Err(Refusal::usage(format!(
                "{flag} has no meaning with --local, which uses no Consul: leave one of them out"
            )));
        }
        // A look takes no lock, so that no guarantee is at stake.
        Ok(Self::Here(Locks::open(dir.map_or(Place::Own, |dir| Place::Dir(dir.into())), true)?))
    }
}
