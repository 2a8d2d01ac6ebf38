//! The certificates of both sides: whose they are, until when they are good, and why they are not taken.

use std::time::{Duration, SystemTime};

use consul_lock::Client;
use consul_lock::consul::{Certificate, Error};
use serde_json::{Value, json};

use super::TIMEOUT;
use super::diagnosis::Check;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that expires sooner than this should be renewed by now.
const SOON: u64 = 30;

/// `failed` is how the first request went wrong, if it did.
pub(super) fn check(client: &Client, failed: Option<&Error>) -> Check {
    let Some(verified) = client.config().verifies_tls() else { return plain(client) };
    let presented = client.presented_chain(TIMEOUT);
    let chain = match &presented {
        Ok(Some(chain)) => chain.as_slice(),
        Ok(None) | Err(_) => &[],
    };
    let own = client.config().client_certificate();
    let now = SystemTime::now();
    let mut facts: Vec<String> =
        chain.iter().map(|certificate| format!("presented: {}", shown(certificate, now))).collect();
    facts.extend(own.iter().map(|certificate| format!("our own: {}", shown(certificate, now))));
    if let Err(why) = &presented {
        facts.push(format!("the server's certificates were not looked at: {why}"));
    }
    let data = json!({
        "verified": verified, "chain": chain.iter().map(fields).collect::<Vec<_>>(), "own": own.as_ref().map(fields),
    });
    let check = match failed {
        Some(error @ Error::Tls { what, .. }) => refused(error, what, chain.first(), own.as_ref(), now),
        _ => taken(verified, chain, own.as_ref(), now),
    };
    check.with_facts(facts).with_data(data)
}

/// Without TLS.
fn plain(client: &Client) -> Check {
    if client.address().is_loopback() {
        return Check::ok("none, and none needed within this machine");
    }
    if client.config().has_token() {
        let mend = "use the agent's HTTPS port (https://), or an agent on this machine";
        return Check::warn("none: the token goes over the network for all to read", mend);
    }
    Check::ok("none")
}

/// The two sides agreed.
fn taken(verified: bool, chain: &[Certificate], own: Option<&Certificate>, now: SystemTime) -> Check {
    let detail =
        chain.first().map_or_else(|| "the server's certificate is trusted".to_owned(), |leaf| shown(leaf, now));
    if !verified {
        let mend = "unset CONSUL_HTTP_SSL_VERIFY, and name the CA (--ca-file)";
        return Check::warn(format!("not verified, so that anybody could be there: {detail}"), mend);
    }
    let aging = chain.iter().map(|certificate| ("the server's", certificate)).chain(own.map(|own| ("our own", own)));
    let aging = aging.filter(|(_, certificate)| days(certificate.not_after, now) < SOON);
    match aging.min_by_key(|(_, certificate)| certificate.not_after) {
        Some((whose, old)) => {
            let mend = format!("renew {whose} certificate, {}, in time", old.subject);
            Check::warn(format!("{whose} certificate expires soon: {}", shown(old, now)), mend)
        }
        None => Check::ok(detail),
    }
}

/// One side does not take the other.
fn refused(error: &Error, what: &str, leaf: Option<&Certificate>, own: Option<&Certificate>, now: SystemTime) -> Check {
    let mut check = Check::failed(error);
    if let Some(leaf) = leaf {
        check.detail = format!("{what}: {}", shown(leaf, now));
        if leaf.not_after < now {
            check.detail = format!("the server's certificate has expired: {}", shown(leaf, now));
            return check.with_mend("renew it where the server runs (`consul tls cert create -server`)");
        }
        if leaf.not_before > now {
            check.detail = format!("the server's certificate is not valid yet: {}", shown(leaf, now));
            return check.with_mend("set this machine's clock right, or wait");
        }
    }
    if what.contains("UnknownIssuer") {
        let issuer = leaf.map_or_else(String::new, |leaf| format!(", which calls itself \"{}\"", leaf.issuer));
        return check.with_mend(format!("name the CA that signed it{issuer}: --ca-file FILE (CONSUL_CACERT)"));
    }
    if what.contains("not valid for name") || what.contains("NotValidForName") {
        let names = leaf.map(|leaf| leaf.names.join(", ")).filter(|names| !names.is_empty());
        let names = names.map_or_else(String::new, |names| format!(", one of: {names}"));
        return check.with_mend(format!("--tls-server-name NAME (CONSUL_TLS_SERVER_NAME){names}"));
    }
    if let Some(own) = own.filter(|own| own.not_after < now) {
        check.detail = format!("our own certificate has expired: {}", shown(own, now));
        return check.with_mend("renew it (`consul tls cert create -client`)");
    }
    check
}

fn days(until: SystemTime, now: SystemTime) -> u64 {
    until.duration_since(now).unwrap_or_default().as_secs() / DAY.as_secs()
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn shown(certificate: &Certificate, now: SystemTime) -> String {
    let Certificate { subject, issuer, not_before, not_after, .. } = certificate;
    let ago = |time| now.duration_since(time).unwrap_or_default().as_secs() / DAY.as_secs();
    let validity = if *not_after < now {
        format!("good until {} ({} days ago)", date(*not_after), ago(*not_after))
    } else if *not_before > now {
        format!("good from {} on", date(*not_before))
    } else {
        format!("good until {} ({} days)", date(*not_after), days(*not_after, now))
    };
    format!("{subject}, signed by {issuer}, {validity}")
}

fn fields(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject, "issuer": certificate.issuer, "names": certificate.names,
        "not_before": date(certificate.not_before), "not_after": date(certificate.not_after),
    })
}
