//! What a failed request means: from the status of an answer, or from the way in which a connection ended, to the [`Error`]
//! that callers tell apart. Consul says much with the status 500 and a text; the texts here are those of 1.8.7.

use std::io;
use std::time::Duration;

use ureq::Timeout;

use super::address::Place;
use super::error::{Attempt, Error, Obstacle};
use super::quote::{one_line, plain, quote};

impl Error {
    /// The error of an answer whose status is not the one that was hoped for.
    pub(super) fn from_status(attempt: Attempt, status: u16, body: &[u8], datacenter: Option<&str>) -> Self {
        let body = quote(body);
        let misconfigured = |what: String, mend: String| Self::Misconfigured { attempt: attempt.clone(), what, mend };
        let denied = body.contains("Permission denied") || body.contains("ACL not found");
        match status {
            // Consul has this one status for a token where there are no ACLs; it never asks for a password itself.
            401 if !body.contains("ACL support disabled") => {
                let mend =
                    "what is in front of Consul there asks for a user and a password: CONSUL_HTTP_AUTH=user:password";
                misconfigured(format!("401 {body}"), mend.into())
            }
            401 | 403 => Self::Denied { attempt, status, body },
            500.. if denied => Self::Denied { attempt, status, body },
            407 => Self::Unreachable { attempt, why: Obstacle::Proxy(format!("407 {body}")) },
            429 => Self::Busy { attempt, what: format!("429 {body}").trim_end().to_owned() },
            400 if body.contains("HTTP request to an HTTPS server") => {
                misconfigured(body, "write https:// in front of the address".into())
            }
            400 if body.contains("Consul Enterprise feature") || body.contains("unknown field") => {
                let mend = "leave out --namespace and --partition (CONSUL_NAMESPACE, CONSUL_PARTITION)";
                misconfigured(body, mend.into())
            }
            500.. if body.contains("No path to datacenter") && datacenter.is_some() => {
                misconfigured(body, "name a datacenter of `consul catalog datacenters` with --datacenter".into())
            }
            // A session of another datacenter would need a node there, and there is none for us ever.
            500.. if body.contains("Missing node registration") && datacenter.is_some() => {
                misconfigured(body, "ask an agent of that datacenter (--http-addr) instead of naming it".into())
            }
            500.. if is_final(&body) => Self::Rejected { attempt, status, body },
            500.. => Self::Server { attempt, status, body },
            _ => Self::Rejected { attempt, status, body },
        }
    }

    /// The error of a request that ended without a complete answer. `begun` is whether the answer had begun.
    pub(super) fn from_transport(attempt: Attempt, error: ureq::Error, timeout: Duration, begun: bool) -> Self {
        let unreachable = |why| Self::Unreachable { attempt: attempt.clone(), why };
        match error {
            ureq::Error::Io(error) => Self::from_io(attempt, &error, timeout, begun),
            ureq::Error::Timeout(Timeout::Resolve) => unreachable(Obstacle::Name("no answer in time".into())),
            ureq::Error::Timeout(Timeout::Connect) => unreachable(Obstacle::Slow),
            ureq::Error::Timeout(_) => Self::TimedOut { attempt, after: timeout },
            ureq::Error::HostNotFound => unreachable(Obstacle::Name("it has no address".into())),
            ureq::Error::Other(other) => {
                let what = one_line(&other.to_string());
                let what = what.strip_prefix("failed to lookup address information: ").unwrap_or(&what);
                unreachable(Obstacle::Name(what.to_owned()))
            }
            ureq::Error::ConnectProxyFailed(what) => unreachable(Obstacle::Proxy(one_line(&what))),
            ureq::Error::ConnectionFailed => unreachable(Obstacle::Other("no connection".into())),
            ureq::Error::Rustls(error) => Self::Tls { attempt, what: one_line(&error.to_string()) },
            error @ (ureq::Error::Tls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired) => {
                Self::Tls { attempt, what: one_line(&error.to_string()) }
            }
            ureq::Error::BodyExceedsLimit(limit) => {
                let what = format!("the answer has more than {limit} bytes");
                Self::Malformed { attempt, what, truncated: false }
            }
            error => Self::Malformed { attempt, what: one_line(&error.to_string()), truncated: false },
        }
    }

    fn from_io(attempt: Attempt, error: &io::Error, timeout: Duration, begun: bool) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::Tls { attempt, what: one_line(&tls.to_string()) };
        }
        let socket = matches!(attempt.address.place(), Place::Unix { .. });
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
                if begun =>
            {
                let what = "the connection ended in the middle of the answer".into();
                Self::Malformed { attempt, what, truncated: true }
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Busy { attempt, what: "it closed the connection without an answer".into() }
            }
            io::ErrorKind::ConnectionReset => Self::Busy { attempt, what: "it reset the connection".into() },
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut { attempt, after: timeout },
            io::ErrorKind::PermissionDenied if socket => {
                let mend = "let this user write to the socket (unix_sockets in the agent's configuration)".into();
                Self::Misconfigured { attempt, what: plain(error), mend }
            }
            io::ErrorKind::ConnectionRefused => Self::Unreachable { attempt, why: Obstacle::Refused },
            io::ErrorKind::NotFound if socket => Self::Unreachable { attempt, why: Obstacle::NoSocket },
            _ => Self::Unreachable { attempt, why: Obstacle::Other(plain(error)) },
        }
    }
}

/// Answers that Consul gives the status 500, though asking again will not change them.
fn is_final(body: &str) -> bool {
    const TEXTS: [&str; 6] = [
        "Invalid Session TTL",
        "Session TTL '",
        "Missing check",
        "Invalid Behavior",
        "failed session lookup",
        "invalid session",
    ];
    TEXTS.iter().any(|text| body.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::error::tests::{attempt, io, status};

    #[test]
    fn each_ending_of_a_connection_is_told_apart() {
        use io::ErrorKind::*;
        for kind in [UnexpectedEof, ConnectionReset, BrokenPipe] {
            assert!(matches!(io(kind, false), Error::Busy { .. }), "{kind}");
            assert!(matches!(io(kind, true), Error::Malformed { truncated: true, .. }), "{kind}");
        }
        assert!(matches!(io(HostUnreachable, false), Error::Unreachable { why: Obstacle::Other(_), .. }));
        assert!(matches!(io(TimedOut, false), Error::TimedOut { .. }));
        let from = |error| Error::from_transport(attempt("a:1"), error, Duration::from_secs(2), false);
        assert!(matches!(from(ureq::Error::Timeout(Timeout::Connect)), Error::Unreachable { why: Obstacle::Slow, .. }));
        assert!(matches!(from(ureq::Error::Timeout(Timeout::Global)), Error::TimedOut { .. }));
        let error = Error::from_io(attempt("unix:///a"), &io::Error::from(NotFound), Duration::ZERO, false);
        assert_eq!(error, Error::Unreachable { attempt: attempt("unix:///a"), why: Obstacle::NoSocket });
        let error = Error::from_io(attempt("unix:///a"), &io::Error::from(PermissionDenied), Duration::ZERO, false);
        assert!(matches!(error, Error::Misconfigured { .. }));
    }

    #[test]
    fn each_status_is_told_apart() {
        assert!(matches!(status(403, "Permission denied", None), Error::Denied { .. }));
        assert!(matches!(status(500, "rpc error making call: ACL not found", None), Error::Denied { .. }));
        assert!(matches!(status(401, "ACL support disabled", None), Error::Denied { .. }));
        assert!(matches!(status(401, "<html>", None), Error::Misconfigured { .. }));
        assert!(matches!(status(429, "", None), Error::Busy { .. }));
        assert!(matches!(status(502, "<html>", None), Error::Server { status: 502, .. }));
        assert!(matches!(status(500, "Missing check 'nope' registration", None), Error::Rejected { .. }));
        assert!(matches!(status(413, "too large", None), Error::Rejected { .. }));
        assert!(matches!(status(500, "No path to datacenter", Some("dc9")), Error::Misconfigured { .. }));
        let ns = "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature";
        assert!(matches!(status(400, ns, None), Error::Misconfigured { .. }));
    }

    #[test]
    fn a_failing_check_passes() {
        let body = "rpc error making call: Check 'serfHealth' is in critical state";
        assert!(status(500, body, None).is_transient());
    }

    #[test]
    fn a_missing_node_passes_only_in_our_own_datacenter() {
        let body = "Missing node registration";
        assert!(status(500, body, None).is_transient());
        assert!(!status(500, body, Some("dc2")).is_transient());
    }
}
