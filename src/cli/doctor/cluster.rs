//! What the agent and its cluster say of themselves and of our token.

use std::time::{Duration, SystemTime};

use consul_lock::Client;
use consul_lock::consul::{Error, Token, TokenState};
use consul_lock::duration;
use serde_json::json;

use super::super::exit::code;
use super::TIMEOUT;
use super::diagnosis::Check;

/// A clock further off than this confuses people.
const CLOCKS: Duration = Duration::from_secs(2);

/// A token that ends sooner than this should be known to.
const TOKEN: Duration = Duration::from_secs(24 * 60 * 60);

/// Without a leader nothing can be locked.
pub(super) fn leader(answer: Result<Option<String>, Error>) -> Check {
    match answer {
        Ok(Some(leader)) => Check::ok(leader.clone()).with_data(json!({ "leader": leader })),
        Ok(None) => {
            let mend = "wait for the election, or see `consul operator raft list-peers`: more than half of the servers must be up";
            Check::fail(code::UNAVAILABLE, "the cluster has no leader", mend)
        }
        Err(error) => Check::failed(&error),
    }
}

/// Nothing that is promised depends on it.
pub(super) fn clock(client: &Client) -> Check {
    let offset = match client.clock_offset(TIMEOUT) {
        Ok(Some(offset)) => offset,
        Ok(None) => return Check::skip("the answer says no date"),
        Err(error) => return Check::skip(error.trouble()),
    };
    let signed = if offset.ahead { offset.offset.as_secs_f64() } else { -offset.offset.as_secs_f64() };
    let data = json!({ "offset": rounded(signed), "accuracy": rounded(offset.accuracy.as_secs_f64()) });
    let check = if offset.exceeds(CLOCKS) {
        let way = if offset.ahead { "ahead of" } else { "behind" };
        let off = duration::show(Duration::from_secs(offset.offset.as_secs()));
        Check::warn(
            format!("the agent's is {off} {way} this machine's"),
            "set both by NTP. Locks do not depend on it: leases are counted on this machine's boot clock. The times in \
             holder records and the expiry of certificates and tokens do",
        )
    } else {
        Check::ok("the agent's and this machine's agree")
    };
    check.with_data(data)
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Good to know, and not needed.
pub(super) fn version(client: &Client) -> Check {
    match client.agent_version(TIMEOUT) {
        Ok(Some(version)) => Check::ok(format!("Consul {version}")).with_data(json!({ "version": version })),
        Ok(None) => Check::skip("not shown to this token (agent:read), and not needed"),
        Err(error) => Check::skip(error.trouble()),
    }
}

/// Who we are to Consul.
pub(super) fn token(client: &Client) -> Check {
    let origin = client.config().token_origin();
    let from = origin.map_or_else(String::new, |origin| format!(" ({origin})"));
    match client.token_self(TIMEOUT) {
        Ok(TokenState::Disabled) => Check::ok(match origin {
            Some(origin) => format!("Consul's access control is off, the token of {origin} is not looked at"),
            None => "none, and Consul's access control is off".to_owned(),
        }),
        Ok(TokenState::Anonymous) => Check::warn(
            "none, and Consul's access control is on: only what everybody may do is allowed",
            "give a token: --token-file FILE (CONSUL_HTTP_TOKEN_FILE)",
        ),
        Ok(TokenState::Known(token)) => known(&token, &from, SystemTime::now()).with_data(json!({
            "origin": origin.map(|origin| origin.to_string()), "accessor": token.accessor,
            "description": token.description, "grants": token.grants, "management": token.is_management,
            "expires": token.expires,
        })),
        Err(error) if error.is_unknown_token() => {
            let mut check = Check::failed(&error);
            check.detail = format!("Consul does not know the token{from}");
            check.with_mend("give one of this cluster's: was it deleted, has it expired, or is it another cluster's?")
        }
        // What it may do is found out below.
        Err(error) => Check::skip(error.trouble()),
    }
}

fn known(token: &Token, from: &str, now: SystemTime) -> Check {
    let description = match token.description.as_str() {
        "" => String::new(),
        text => format!(" \"{text}\""),
    };
    let mut detail = format!("{}{description}{from}", token.accessor);
    let left = token.expires.as_deref().map(|text| humantime::parse_rfc3339(text).map(|end| end.duration_since(now)));
    match (&token.expires, &left) {
        (Some(_), Some(Ok(Ok(left)))) => {
            detail += &format!(", expires in {}", duration::show(Duration::from_secs(left.as_secs())));
        }
        (Some(text), _) => detail += &format!(", expires {text}"),
        (None, _) => {}
    }
    let facts = token.grants.clone();
    if let Some(Ok(Ok(left))) = left
        && left < TOKEN
    {
        let mend = "give one that outlives the runs: a lock that is held then cannot be confirmed any more and is lost";
        return Check::warn(detail, mend).with_facts(facts);
    }
    if token.is_management {
        let mend =
            "make one that may do less: session_prefix \"\" and the lock's key are all that is needed (docs/acl.md)";
        return Check::warn(format!("{detail}, which may do everything"), mend).with_facts(facts);
    }
    Check::ok(detail).with_facts(facts)
}
