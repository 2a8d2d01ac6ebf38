//! What can go wrong with a request. Every error carries what was tried and at which address, and its message ends with
//! what to do; the variants tell apart what a caller treats differently. What Consul or a proxy answered is quoted on one
//! line, shortened, and without control characters.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use ureq::Timeout;

use super::address::{Address, Place};

/// Most characters of a foreign text that a message quotes.
const QUOTED: usize = 200;

/// What was tried, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// In the infinitive: `create a session`.
    pub task: String,
    /// The address, with its origin.
    pub address: Arc<Address>,
}

/// Why a request had no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// There was no connection: nothing has been asked.
    #[error("{why} at {:#}: {}", attempt.address, why.mend(&attempt.address))]
    Unreachable {
        /// What was tried.
        attempt: Attempt,
        /// What stood in the way.
        why: Obstacle,
    },
    /// Accepted and closed or reset without an answer, or a 429: the agent takes 200 connections from one address
    /// (`limits.http_max_conns_per_client`), and that many requests a second (`limits.request_limits`). The request may
    /// have been carried out, unless it is a 429.
    #[error("could not {}: {:#} is busy ({what}); it takes 200 connections from one address, so try again later", attempt.task, attempt.address)]
    Busy {
        /// What was tried.
        attempt: Attempt,
        /// The answer, or how the connection ended.
        what: String,
    },
    /// No complete answer in time. The request may have been carried out.
    #[error("could not {}: no answer from {:#} within {after:?}; the agent, its servers or the network between hang", attempt.task, attempt.address)]
    TimedOut {
        /// What was tried.
        attempt: Attempt,
        /// The time it was given.
        after: Duration,
    },
    /// A status of 500 and above: no leader, an agent that is starting, a proxy without Consul behind it.
    #[error("could not {}: {status} from {:#}: {body}; {}", attempt.task, attempt.address, server_mend(body))]
    Server {
        /// What was tried.
        attempt: Attempt,
        /// The HTTP status.
        status: u16,
        /// What it said, fit for a message.
        body: String,
    },
    /// Consul's access control says no.
    #[error("could not {}: {status} from {:#}: {body}; {}", attempt.task, attempt.address, denied_mend(body))]
    Denied {
        /// What was tried.
        attempt: Attempt,
        /// The HTTP status.
        status: u16,
        /// What it said, fit for a message; newer versions name the missing rule.
        body: String,
    },
    /// The settings cannot work with this Consul: a datacenter that it does not know, namespaces without Enterprise,
    /// no TLS where it wants some.
    #[error("could not {}: {:#} says: {what}; {mend}", attempt.task, attempt.address)]
    Misconfigured {
        /// What was tried.
        attempt: Attempt,
        /// The answer, fit for a message.
        what: String,
        /// What to change.
        mend: String,
    },
    /// Any other refusal: asking again would get the same answer.
    #[error("could not {}: {status} from {:#}: {body}", attempt.task, attempt.address)]
    Rejected {
        /// What was tried.
        attempt: Attempt,
        /// The HTTP status.
        status: u16,
        /// What it said, fit for a message.
        body: String,
    },
    /// A redirect. None is followed, since the token would go along.
    #[error("could not {}: {:#} redirects ({status}) to {location}; give the address of an agent itself", attempt.task, attempt.address)]
    Redirect {
        /// What was tried.
        attempt: Attempt,
        /// The HTTP status.
        status: u16,
        /// Where to, fit for a message.
        location: String,
    },
    /// An answer that Consul does not give, or half of one.
    #[error("could not {}: {:#} does not answer as Consul does: {what}; is an agent's HTTP API at that address?", attempt.task, attempt.address)]
    Malformed {
        /// What was tried.
        attempt: Attempt,
        /// What is wrong with it.
        what: String,
        /// Whether the connection ended in the middle of the answer, so that asking again may help.
        truncated: bool,
    },
    /// The two ends agree on no TLS connection.
    #[error("could not {}: no TLS with {:#}: {what}; {}", attempt.task, attempt.address, tls_mend(what))]
    Tls {
        /// What was tried.
        attempt: Attempt,
        /// What the TLS library says.
        what: String,
    },
    /// [`Client::shutdown`](super::Client::shutdown) was called. The request may have been carried out.
    #[error("could not {}: the connections to {:#} were shut down", attempt.task, attempt.address)]
    ShutDown {
        /// What was tried.
        attempt: Attempt,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Nobody listens there.
    Refused,
    /// The name has no address, or no name server told one; with the resolver's words.
    Name(String),
    /// No connection in time.
    Slow,
    /// There is no such unix socket.
    NoSocket,
    /// The proxy does not let us through; with its words.
    Proxy(String),
    /// Anything else, in the system's words: no route, for example.
    Other(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Name(what) => write!(f, "the name cannot be resolved ({what})"),
            Self::Slow => f.write_str("no connection in time"),
            Self::NoSocket => f.write_str("no such socket"),
            Self::Proxy(what) => write!(f, "the proxy does not connect us ({what})"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Obstacle {
    fn mend(&self, address: &Address) -> &'static str {
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

fn server_mend(body: &str) -> &'static str {
    if body.contains("No cluster leader") {
        "wait for the election, or see `consul operator raft list-peers`"
    } else if body.contains("Missing node registration") {
        "the agent has yet to register itself with the servers, so try again"
    } else {
        "see the log of the agent and of its servers"
    }
}

fn denied_mend(body: &str) -> &'static str {
    if body.contains("ACL not found") {
        "the token is unknown there: was it deleted, or is it another cluster's?"
    } else {
        "give a token that may (CONSUL_HTTP_TOKEN)"
    }
}

fn tls_mend(what: &str) -> &'static str {
    if what.contains("UnknownIssuer") {
        "name the CA that signed its certificate (CONSUL_CACERT)"
    } else if what.contains("not valid for name") || what.contains("NotValidForName") {
        "name the server as its certificate does (CONSUL_TLS_SERVER_NAME)"
    } else if what.contains("CertificateRequired") {
        "it wants a client certificate (CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY)"
    } else if what.contains("received fatal alert") {
        "it refuses our client certificate (CONSUL_CLIENT_CERT)"
    } else if what.contains("InvalidContentType") {
        "it seems to speak plain HTTP: write http://, or name its HTTPS port"
    } else {
        "check the certificates of both sides"
    }
}

impl Error {
    /// What was tried, and where.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        match self {
            Self::Unreachable { attempt, .. }
            | Self::Busy { attempt, .. }
            | Self::TimedOut { attempt, .. }
            | Self::Server { attempt, .. }
            | Self::Denied { attempt, .. }
            | Self::Misconfigured { attempt, .. }
            | Self::Rejected { attempt, .. }
            | Self::Redirect { attempt, .. }
            | Self::Malformed { attempt, .. }
            | Self::Tls { attempt, .. }
            | Self::ShutDown { attempt } => attempt,
        }
    }

    /// Whether the same request may well succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::TimedOut { .. } | Self::Server { .. } => true,
            Self::Malformed { truncated, .. } => *truncated,
            _ => false,
        }
    }

    /// Whether the request certainly had no effect: it did not get as far as Consul, or was refused there.
    #[must_use]
    pub fn is_without_effect(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Denied { .. }
            | Self::Misconfigured { .. }
            | Self::Rejected { .. }
            | Self::Redirect { .. } => true,
            Self::Busy { what, .. } => what.starts_with("429"),
            _ => false,
        }
    }

    /// The error of an answer whose status is not the one that was hoped for.
    pub(super) fn from_status(attempt: Attempt, status: u16, body: &[u8], datacenter: Option<&str>) -> Self {
        let body = quote(body);
        let misconfigured = |what: String, mend: String| Self::Misconfigured { attempt: attempt.clone(), what, mend };
        let denied = body.contains("Permission denied") || body.contains("ACL not found");
        match status {
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
            500.. if body.contains("No path to datacenter") => {
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
            ureq::Error::Other(other) => unreachable(Obstacle::Name(one_line(&other.to_string()))),
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
    const TEXTS: [&str; 7] = [
        "Invalid Session TTL",
        "Session TTL '",
        "Missing check",
        "Invalid Behavior",
        "failed session lookup",
        "invalid session",
        "is in critical state",
    ];
    TEXTS.iter().any(|text| body.contains(text))
}

/// A foreign body, fit for a message.
pub(super) fn quote(body: &[u8]) -> String {
    // Four bytes a character at most, and some room for blanks that go.
    let text = String::from_utf8_lossy(&body[..body.len().min(QUOTED * 8)]);
    let text = one_line(&text);
    if text.is_empty() { "(no text)".into() } else { text }
}

/// A text on one line, without control characters, and not too long.
pub(super) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() || is_format(c) { ' ' } else { c }).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= QUOTED {
        return text;
    }
    text.chars().take(QUOTED).chain(['…']).collect()
}

/// Invisible characters that turn the direction of what follows, or hide it.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What the system says, without the number.
pub(super) fn plain(error: &io::Error) -> String {
    let text = one_line(&error.to_string());
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::Origin;
    use proptest::prelude::*;

    fn attempt(text: &str) -> Attempt {
        let address = Address::parse(text, Origin::Variable("CONSUL_HTTP_ADDR"), false).expect("fit");
        Attempt { task: "create a session".into(), address: Arc::new(address) }
    }

    fn io(kind: io::ErrorKind, begun: bool) -> Error {
        let error = ureq::Error::Io(io::Error::from(kind));
        Error::from_transport(attempt("127.0.0.1:8500"), error, Duration::from_secs(2), begun)
    }

    fn status(status: u16, body: &str, datacenter: Option<&str>) -> Error {
        Error::from_status(attempt("127.0.0.1:8500"), status, body.as_bytes(), datacenter)
    }

    #[test]
    fn a_refused_connection_says_where_and_what_to_do() {
        let message = "connection refused at http://127.0.0.1:8500 (CONSUL_HTTP_ADDR): \
                       start an agent, or lock on this machine alone with --local";
        assert_eq!(io(io::ErrorKind::ConnectionRefused, false).to_string(), message);
    }

    #[test]
    fn an_answer_is_quoted_with_its_status_and_a_mend() {
        let message = "could not create a session: 500 from http://127.0.0.1:8500 (CONSUL_HTTP_ADDR): \
                       No cluster leader; wait for the election, or see `consul operator raft list-peers`";
        assert_eq!(status(500, "No cluster leader\n", None).to_string(), message);
    }

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
        assert!(matches!(status(429, "", None), Error::Busy { .. }));
        assert!(matches!(status(502, "<html>", None), Error::Server { status: 502, .. }));
        assert!(matches!(status(500, "Missing check 'nope' registration", None), Error::Rejected { .. }));
        assert!(matches!(status(413, "too large", None), Error::Rejected { .. }));
        assert!(matches!(status(500, "No path to datacenter", Some("dc9")), Error::Misconfigured { .. }));
        let ns = "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature";
        assert!(matches!(status(400, ns, None), Error::Misconfigured { .. }));
    }

    #[test]
    fn a_missing_node_passes_only_in_our_own_datacenter() {
        let body = "Missing node registration";
        assert!(status(500, body, None).is_transient());
        assert!(!status(500, body, Some("dc2")).is_transient());
    }

    #[test]
    fn what_passes_and_what_does_not() {
        assert!(io(io::ErrorKind::ConnectionRefused, false).is_transient());
        assert!(io(io::ErrorKind::UnexpectedEof, true).is_transient());
        assert!(status(500, "No cluster leader", None).is_transient());
        assert!(!status(403, "", None).is_transient());
        assert!(io(io::ErrorKind::ConnectionRefused, false).is_without_effect());
        assert!(status(429, "slow down", None).is_without_effect());
        assert!(!io(io::ErrorKind::ConnectionReset, false).is_without_effect());
        assert!(!status(500, "", None).is_without_effect());
    }

    proptest! {
        #[test]
        fn a_quoted_body_is_one_short_line(body in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let quoted = quote(&body);
            prop_assert!(!quoted.is_empty() && quoted.chars().count() <= QUOTED + 1);
            prop_assert!(!quoted.chars().any(|c| c.is_control() || is_format(c)));
        }
    }
}
