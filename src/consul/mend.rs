//! What to do about a failed request: the end of each message, which some callers show apart from the rest.

use super::address::{Address, Place};
use super::error::{Error, Obstacle};

impl Error {
    /// What to do about it, as the message's end says it; `None` where there is nothing to add to Consul's own words.
    #[must_use]
    pub fn mend(&self) -> Option<&str> {
        match self {
            Self::Unreachable { attempt, why } => Some(why.mend(&attempt.address)),
            Self::Busy { .. } => Some("an agent takes 200 connections from one address, so try again later"),
            Self::TimedOut { .. } => Some("the agent, its servers or the network between hang"),
            Self::Server { body, .. } => Some(server_mend(body)),
            Self::Denied { body, .. } => Some(denied_mend(body)),
            Self::Misconfigured { mend, .. } => Some(mend.as_str()),
            Self::Rejected { status, body, .. } => Some(rejected_mend(*status, body).trim_start_matches("; ")),
            Self::Redirect { .. } => Some("give the address of an agent itself"),
            Self::Malformed { .. } => Some("is an agent's HTTP API at that address?"),
            Self::Tls { what, .. } => Some(tls_mend(what)),
            Self::ShutDown { .. } => None,
        }
        .filter(|mend| !mend.is_empty())
    }

    /// The message without its [`mend`](Self::mend).
    #[must_use]
    pub fn trouble(&self) -> String {
        let message = self.to_string();
        let trouble = self.mend().and_then(|mend| message.strip_suffix(mend)).unwrap_or(&message);
        trouble.trim_end_matches([' ', ':', ';']).to_owned()
    }
}

impl Obstacle {
    pub(super) fn mend(&self, address: &Address) -> &'static str {
        match (self, address.place()) {
            (Self::Refused, Place::Unix { .. }) => {
                "its agent is gone; start it, or lock on this machine alone with --local"
            }
            (Self::Refused, _) => "start an agent, or lock on this machine alone with --local",
            (Self::Name(_), _) => "check the name and this machine's resolver",
            (Self::Slow, _) => "check the address, and the firewalls on the way",
            (Self::NoSocket, _) => "start an agent that listens there (addresses.http), or name its socket",
            (Self::Proxy(_), _) => "ask for it there, or add the host to NO_PROXY",
            (Self::Other(_), _) => "check the address and this machine's network",
        }
    }
}

pub(super) fn server_mend(body: &str) -> &'static str {
    if body.contains("No cluster leader") {
        "wait for the election, or see `consul operator raft list-peers`"
    } else if body.contains("Missing node registration") {
        "the agent has yet to register itself with the servers, so try again"
    } else if body.contains("is in critical state") {
        "the check has to pass first; serfHealth does soon after a host is back on the network"
    } else {
        "see the log of the agent and of its servers"
    }
}

pub(super) fn denied_mend(body: &str) -> &'static str {
    if body.contains("ACL not found") {
        "the token is unknown there: was it deleted, or is it another cluster's?"
    } else {
        "give a token that may (CONSUL_HTTP_TOKEN)"
    }
}

/// Most of what Consul itself rejects, it says in words that need no addition.
pub(super) fn rejected_mend(status: u16, body: &str) -> &'static str {
    if status == 404 {
        "; give the path too if Consul is below one there, as in http://host:port/path"
    } else if body.contains("Missing check") {
        "; name a check of that agent's node by its CheckID (GET /v1/agent/checks)"
    } else {
        ""
    }
}

pub(super) fn tls_mend(what: &str) -> &'static str {
    if what.contains("UnknownIssuer") {
        "name the CA that signed its certificate (CONSUL_CACERT)"
    } else if what.contains("not valid for name") || what.contains("NotValidForName") {
        "name the server as its certificate does (CONSUL_TLS_SERVER_NAME)"
    } else if what.contains("certificate expired") || what.contains("not valid yet") {
        "renew the server's certificate, or set this machine's clock right"
    } else if what.contains("received fatal alert") {
        "it wants a client certificate that it trusts (CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY)"
    } else if what.contains("InvalidContentType") {
        "it seems to speak plain HTTP: write http://, or name its HTTPS port"
    } else {
        "check the certificates of both sides"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::error::tests::{attempt, io, status};
    use std::io;

    #[test]
    fn every_mend_is_the_end_of_its_message() {
        let errors = [
            io(io::ErrorKind::ConnectionRefused, false),
            io(io::ErrorKind::UnexpectedEof, false),
            io(io::ErrorKind::TimedOut, false),
            io(io::ErrorKind::UnexpectedEof, true),
            status(500, "No cluster leader", None),
            status(403, "ACL not found", None),
            status(404, "no page", None),
            status(500, "Missing check 'nope' registration", None),
            status(400, "Client sent an HTTP request to an HTTPS server.", None),
            Error::Redirect { attempt: attempt("a:1"), status: 301, location: "/".into() },
            Error::Tls { attempt: attempt("a:1"), what: "invalid peer certificate: certificate expired".into() },
        ];
        for error in errors {
            let (message, trouble) = (error.to_string(), error.trouble());
            let mend = error.mend().expect("each has one");
            assert!(message.ends_with(mend) && message.starts_with(&trouble), "{message}");
            assert!(trouble.len() + mend.len() + 1 < message.len(), "{message}");
        }
        assert_eq!(status(418, "no", None).mend(), None);
    }
}
