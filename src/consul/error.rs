//! What can go wrong with a request. Every error carries what was tried and at which address, and its message ends with
//! what to do; the variants tell apart what a caller treats differently. What Consul or a proxy answered is quoted on one
//! line, shortened, and without control characters.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::mend::{denied_mend, rejected_mend, server_mend, tls_mend};
use thiserror::Error;

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
    /// (`limits.http_max_conns_per_client`), and so many requests a second (`limits.request_limits`). One that is killed
    /// ends like that, too. The request may have been carried out, unless it is a 429.
    #[error("could not {}: {:#} is busy or ending ({what}); an agent takes 200 connections from one address, so try again later", attempt.task, attempt.address)]
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
    #[error("could not {}: {status} from {:#}: {body}{}", attempt.task, attempt.address, rejected_mend(*status, body))]
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

    /// Whether Consul does not know the token at all. A server that leads again after a restart, and has not applied its
    /// log yet, says so of good tokens too.
    #[must_use]
    pub fn is_unknown_token(&self) -> bool {
        matches!(self, Self::Denied { body, .. } if body.contains("ACL not found"))
    }

    /// Whether the request certainly had no effect: it did not get as far as Consul, or was refused there.
    #[must_use]
    pub fn is_without_effect(&self) -> bool {
        match self {
            // What the system reports in other words may have come up after the request was sent.
            Self::Unreachable { why, .. } => !matches!(why, Obstacle::Other(_)),
            Self::Denied { .. } | Self::Misconfigured { .. } | Self::Rejected { .. } | Self::Redirect { .. } => true,
            Self::Busy { what, .. } => what.starts_with("429"),
            _ => false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::consul::Origin;
    use std::io;

    /// An attempt to create a session at an address that a variable named.
    pub(in crate::consul) fn attempt(text: &str) -> Attempt {
        let address = Address::parse(text, Origin::Variable("CONSUL_HTTP_ADDR"), false).expect("fit");
        Attempt { task: "create a session".into(), address: Arc::new(address) }
    }

    pub(in crate::consul) fn io(kind: io::ErrorKind, begun: bool) -> Error {
        let error = ureq::Error::Io(io::Error::from(kind));
        Error::from_transport(attempt("127.0.0.1:8500"), error, Duration::from_secs(2), begun)
    }

    pub(in crate::consul) fn status(status: u16, body: &str, datacenter: Option<&str>) -> Error {
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
}
