//! Whether a session can be made, kept and removed with these flags: one is.

use std::time::Duration;

use consul_lock::Client;
use consul_lock::consul::{Behavior, Error, Renewal, SessionEntry};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use serde_json::json;

use super::super::exit::code;
use super::super::plan;
use super::TIMEOUT;
use super::diagnosis::Check;
use super::key::hcl;
use super::lease::Lease;

/// The shortest that Consul takes: should this process be killed, its session does not outlive it by much.
const TTL: Duration = Duration::from_secs(10);

/// Makes a session as a run would, renews it, and removes it.
pub(super) fn check(client: &Client, lease: &Lease) -> Check {
    // An interrupt waits until the session is gone.
    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect::<SigSet>();
    let before = ends.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let check = attempt(client, lease);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    check
}

fn attempt(client: &Client, lease: &Lease) -> Check {
    let (node_checks, service_checks) = plan::checks(lease.no_checks, &lease.checks);
    let entry = SessionEntry {
        name: "consul-lock doctor".to_owned(),
        ttl: TTL,
        lock_delay: lease.lock_delay(),
        behavior: Behavior::Delete,
        node_checks,
        service_checks,
        ..SessionEntry::default()
    };
    let session = match client.create_session(&entry, TIMEOUT) {
        Ok(session) => session,
        Err(error) => return refused(&error),
    };
    let info = client.session_info(&session, TIMEOUT);
    let renewal = client.renew_session(&session, TIMEOUT);
    if let Err(error) = client.destroy_session(&session, TIMEOUT) {
        let mut check = Check::failed(&error);
        check.detail = format!("{}: {session} was made and is left to its TTL of 10s", check.detail);
        return check;
    }
    let node = info.ok().flatten().map(|info| info.node);
    match renewal {
        Ok(Renewal::Renewed) => {}
        Ok(Renewal::Gone) => {
            let mend = "see `consul operator raft list-peers` and the servers' logs: they do not agree";
            return Check::fail(code::UNAVAILABLE, format!("{session} was made, and unknown a moment later"), mend);
        }
        Err(error) => return Check::failed(&error),
    }
    let on = node.as_ref().map_or_else(String::new, |node| format!(" on node {node}"));
    Check::ok(format!("one was made{on}, renewed and removed")).with_data(json!({ "node": node }))
}

fn refused(error: &Error) -> Check {
    let check = Check::failed(error);
    match error {
        Error::Denied { body, .. } => {
            let mut check = check.with_mend(hcl("session_prefix \"\" { policy = \"write\" }"));
            check.detail = format!("making one is denied (\"{body}\")");
            check
        }
        Error::Rejected { body, .. } if body.contains("check") => {
            check.with_mend("give a --check of the agent's own node: `consul catalog services`, /v1/agent/checks")
        }
        _ => check,
    }
}
