//! Where Consul is, whether anybody is there, and whether that is an agent.

use std::time::Instant;

use consul_lock::Client;
use consul_lock::consul::{ConfigError, Error};
use consul_lock::duration;
use serde_json::json;

use super::super::connection::Connection;
use super::super::refusal::Refusal;
use super::diagnosis::{Check, Diagnosis};
use super::{TIMEOUT, tls};

/// An address with somebody at it.
pub(super) struct Reached {
    pub(super) client: Client,
    /// The answer to the first question.
    pub(super) leader: Result<Option<String>, Error>,
}

/// The checks `address`, `connection` and `tls`. Nothing if there is no address to ask.
pub(super) fn check(diagnosis: &mut Diagnosis<impl FnMut(&Check)>, connection: Connection) -> Option<Reached> {
    let client = match connection.client() {
        Ok(client) => client,
        Err(error) => {
            diagnosis.check("address", &[], || unfit(error));
            return None;
        }
    };
    diagnosis.check("address", &[], || address(&client));
    let begun = Instant::now();
    let leader = client.leader(TIMEOUT);
    let took = duration::show(begun.elapsed());
    diagnosis.check("connection", &["address"], || connected(&leader, &took));
    diagnosis.check("tls", &["connection"], || tls::check(&client, leader.as_ref().err()));
    Some(Reached { client, leader })
}

/// Settings that cannot be used.
fn unfit(error: ConfigError) -> Check {
    let unread = matches!(error, ConfigError::Read { .. });
    let Refusal { code, message } = Refusal::from(error);
    if unread {
        return Check::fail(code, message, "name a file that is there, and that this user may read");
    }
    Check::fail_with_mend(code, &message)
}

fn address(client: &Client) -> Check {
    let (address, config) = (client.address(), client.config());
    let mut detail = format!("{address:#}");
    if let Some(datacenter) = config.datacenter() {
        detail += &format!(", datacenter {datacenter}");
    }
    if let Some(proxy) = config.proxy() {
        detail += &format!(", through the proxy {proxy}");
    }
    Check::ok(detail).with_data(json!({
        "url": address.to_string(), "origin": address.origin().to_string(), "proxy": config.proxy(),
        "datacenter": config.datacenter(),
    }))
}

/// Whether somebody answers; what, is for others to judge.
fn connected(leader: &Result<Option<String>, Error>, took: &str) -> Check {
    match leader {
        Ok(_) => Check::ok(format!("an agent answers, after {took}")),
        Err(Error::Tls { .. }) => Check::ok("somebody listens there"),
        // An agent that reaches no server.
        Err(Error::Server { .. }) => Check::ok(format!("somebody answers, after {took}")),
        Err(error) => Check::failed(error),
    }
}
