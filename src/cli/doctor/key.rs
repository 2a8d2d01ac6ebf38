//! Whether the token may do to the key, and below it, what a lock needs; and whether the key is one.

use consul_lock::Client;
use consul_lock::consul::{Error, Read};
use consul_lock::lock::{Access, Holder, Key, Permission, foreign};
use serde_json::json;

use super::super::exit::code;
use super::TIMEOUT;
use super::diagnosis::{Check, Diagnosis};

/// The checks `key`, `queue`, `slots` and `readers`.
pub(super) fn check(diagnosis: &mut Diagnosis<impl FnMut(&Check)>, client: &Client, key: Option<&Key>) {
    let needs = ["token"];
    let Some(key) = key else {
        for name in ["key", "queue", "slots", "readers"] {
            diagnosis.check(name, &needs, || Check::skip("no KEY was given"));
        }
        return;
    };
    let mut access = None;
    diagnosis.check("key", &needs, || match Access::probe(client, key, TIMEOUT) {
        Ok(found) => own(client, key, &access.insert(found).key),
        Err(error) => denied(key, &error),
    });
    let needs = if access.is_some() { [].as_slice() } else { &["key"] };
    let below = |part: fn(&Access) -> &Permission| access.as_ref().map_or(&Permission::Write, part);
    let queue = below(|access| &access.queue);
    diagnosis.check("queue", needs, || match what(queue) {
        None => Check::ok(format!("{key}/.queue/ may be written")),
        Some((what, data)) => {
            let detail = format!("{key}/.queue/ is denied (\"{what}\"): who waits has no place in the line");
            Check::warn(detail, rule(key, Some(".queue"))).with_data(data)
        }
    });
    let slots = below(|access| &access.slots);
    diagnosis.check("slots", needs, || match what(slots) {
        None => Check::ok(format!("{key}/.slot/ may be written")),
        Some((what, data)) => {
            let detail = format!("{key}/.slot/ is denied (\"{what}\"), which matters only with --limit");
            Check::skip(detail).with_mend(rule(key, Some(".slot"))).with_data(data)
        }
    });
    let readers = below(|access| &access.readers);
    diagnosis.check("readers", needs, || {
        let Some((what, data)) = what(readers) else { return Check::ok(format!("{key}/.read/ may be written")) };
        if matches!(readers, Permission::Read(_)) {
            let when = "which matters with --shared, and to whoever comes after a reader that died";
            let detail = format!("{key}/.read/ may be read and not written (\"{what}\"), {when}");
            return Check::warn(detail, rule(key, Some(".read"))).with_data(data);
        }
        // A run that does not see who reads might run beside it.
        let detail =
            format!("{key}/.read/ may be neither read nor written (\"{what}\"), and every run looks for readers there");
        Check::fail(code::DENIED, detail, rule(key, Some(".read"))).with_data(data)
    });
}

/// What is missing.
fn what(permission: &Permission) -> Option<(&str, serde_json::Value)> {
    match permission {
        Permission::Write => None,
        Permission::Read(what) => Some((what, json!({ "may": "read" }))),
        Permission::Neither(what) => Some((what, json!({ "may": null }))),
    }
}

/// The key itself.
fn own(client: &Client, key: &Key, permission: &Permission) -> Check {
    if let Some((what, data)) = what(permission) {
        let may =
            if matches!(permission, Permission::Read(_)) { "read and not written" } else { "neither read nor written" };
        let detail = format!("{key} may be {may} (\"{what}\")");
        return Check::fail(code::DENIED, detail, rule(key, None)).with_data(data);
    }
    let entry = match client.get(key.as_str(), Read::Consistent, TIMEOUT) {
        Ok(reply) => reply.entry,
        Err(error) => return denied(key, &error),
    };
    if let Some(what) = entry.as_ref().and_then(foreign) {
        let detail = format!("{key} is no lock: {what}");
        return Check::fail(code::CONFIGURATION, detail, "choose another key; this one is left as it is");
    }
    let holder = entry.as_ref().and_then(Holder::of);
    let held = holder.as_ref().map_or_else(|| "held by nobody".to_owned(), |holder| format!("held by {holder}"));
    let session = holder.map(|holder| holder.session.to_string());
    Check::ok(format!("{key} may be written, {held}")).with_data(json!({ "may": "write", "holder": session }))
}

fn denied(key: &Key, error: &Error) -> Check {
    let check = Check::failed(error);
    match error {
        Error::Denied { .. } if !error.is_unknown_token() => check.with_mend(rule(key, None)),
        _ => check,
    }
}

/// The rule for a key, or for what is below it, to paste.
fn rule(key: &Key, part: Option<&str>) -> String {
    let quoted = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
    match part {
        None => hcl(&format!("key \"{quoted}\" {{ policy = \"write\" }}")),
        Some(part) => hcl(&format!("key_prefix \"{quoted}/{part}/\" {{ policy = \"write\" }}")),
    }
}

/// A mend that is an ACL rule.
pub(super) fn hcl(rule: &str) -> String {
    format!("add to the rules of the token's policy:\n  {rule}")
}
