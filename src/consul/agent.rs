//! What an agent tells of itself, of its cluster and of our token (HTTP API: Status, Agent, ACL Tokens): nothing that a
//! lock needs, and all that somebody wants to know for whom a lock does not work.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use ureq::http::Method;

use super::client::{Call, Client};
use super::date;
use super::error::Error;
use super::quote::one_line;

/// The clock of whoever answered, as its `Date` header shows it, against this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// How far it is ahead of ours, or behind.
    pub offset: Duration,
    /// Whether it is ahead.
    pub ahead: bool,
    /// How far off that may be: half a second for the header's whole seconds, and half the round trip.
    pub accuracy: Duration,
}

impl ClockOffset {
    /// From the moments around a request, and what the answer says. The header's seconds are cut off, not rounded.
    fn of(sent: SystemTime, received: SystemTime, date: SystemTime) -> Self {
        let half = received.duration_since(sent).unwrap_or_default() / 2;
        let (here, there) = (sent + half, date + Duration::from_millis(500));
        let (offset, ahead) = match there.duration_since(here) {
            Ok(ahead) => (ahead, true),
            Err(behind) => (behind.duration(), false),
        };
        Self { offset, ahead, accuracy: half + Duration::from_millis(500) }
    }

    /// Whether the two differ by more than `limit` for certain.
    #[must_use]
    pub fn exceeds(&self, limit: Duration) -> bool {
        self.offset.saturating_sub(self.accuracy) > limit
    }
}

/// A token as Consul shows it to its owner. All texts are fit for a message; the secret is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public name.
    pub accessor: String,
    /// What its maker called it; may be empty.
    pub description: String,
    /// Its policies, roles and the like, by name.
    pub grants: Vec<String>,
    /// Whether it may do everything.
    pub is_management: bool,
    /// When it ends, as Consul writes it; `None`: never.
    pub expires: Option<String>,
}

/// What Consul says of our token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// Access control is off: no token is looked at.
    Disabled,
    /// This is it.
    Known(Token),
    /// No token was sent, and nobody has given rights to those without one in a way that is to be seen.
    Anonymous,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawToken {
    #[serde(rename = "AccessorID")]
    accessor: String,
    #[serde(default)]
    description: String,
    policies: Option<Vec<RawLink>>,
    roles: Option<Vec<RawLink>>,
    service_identities: Option<Vec<RawService>>,
    node_identities: Option<Vec<RawNode>>,
    expiration_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawLink {
    #[serde(rename = "ID")]
    id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService {
    service_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNode {
    node_name: String,
}

/// The policy that allows everything, which every cluster has.
const MANAGEMENT: &str = "00000000-0000-0000-0000-000000000001";
/// The token of those who have none.
const ANONYMOUS: &str = "00000000-0000-0000-0000-000000000002";

impl From<RawToken> for Token {
    fn from(raw: RawToken) -> Self {
        let (policies, roles) = (raw.policies.unwrap_or_default(), raw.roles.unwrap_or_default());
        let is_management = policies.iter().any(|policy| policy.id == MANAGEMENT);
        let services = raw.service_identities.unwrap_or_default();
        let nodes = raw.node_identities.unwrap_or_default();
        let grants = policies.iter().map(|policy| format!("policy {}", policy.name));
        let grants = grants.chain(roles.iter().map(|role| format!("role {}", role.name)));
        let grants = grants.chain(services.iter().map(|service| format!("service {}", service.service_name)));
        let grants = grants.chain(nodes.iter().map(|node| format!("node {}", node.node_name)));
        Self {
            accessor: one_line(&raw.accessor),
            description: one_line(&raw.description),
            grants: grants.map(|grant| one_line(&grant)).collect(),
            is_management,
            expires: raw.expiration_time.map(|time| one_line(&time)),
        }
    }
}

impl Client {
    /// The leader of the agent's cluster (HTTP API: Status, Get Raft Leader), as `host:port`; `None` if there is none. No
    /// token is needed.
    ///
    /// # Errors
    /// [`Error`].
    pub fn leader(&self, timeout: Duration) -> Result<Option<String>, Error> {
        let answer = self.ask("ask for the cluster's leader", "status/leader", timeout)?;
        if answer.status != 200 {
            return Err(answer.rejected());
        }
        let leader = answer.json::<String>()?;
        Ok((!leader.is_empty()).then(|| one_line(&leader)))
    }

    /// The clock of whoever answers; `None` if the answer says no date. Most accurate over a connection that is open
    /// already.
    ///
    /// # Errors
    /// [`Error`].
    pub fn clock_offset(&self, timeout: Duration) -> Result<Option<ClockOffset>, Error> {
        let sent = SystemTime::now();
        let answer = self.ask("ask for the date", "status/leader", timeout)?;
        let received = SystemTime::now();
        let date = answer.date.as_deref().and_then(date::http);
        Ok(date.map(|date| ClockOffset::of(sent, received, date)))
    }

    /// The agent's version (HTTP API: Agent, Read Configuration); `None` if the token may not read it (`agent:read`) and
    /// it is from before `/v1/agent/version`, which asks for no right.
    ///
    /// # Errors
    /// [`Error`].
    pub fn agent_version(&self, timeout: Duration) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Own {
            config: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "Version")]
            version: String,
        }
        match self.ask("read the agent's version", "agent/self", timeout) {
            Ok(answer) if answer.status == 200 => return Ok(Some(one_line(&answer.json::<Own>()?.config.version))),
            Ok(_) | Err(Error::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.ask("read the agent's version", "agent/version", timeout) {
            Ok(answer) if answer.status == 200 => {
                let fields = answer.json::<serde_json::Map<String, serde_json::Value>>()?;
                let named = ["HumanVersion", "Version"].into_iter().find_map(|name| fields.get(name)?.as_str());
                Ok(named.map(one_line))
            }
            Ok(_) | Err(Error::Denied { .. } | Error::Rejected { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What our token is (HTTP API: ACL Tokens, Read Self Token). Every token may ask that of itself.
    ///
    /// # Errors
    /// [`Error`]; a token that Consul does not know is [`Error::Denied`], see [`Error::is_unknown_token`].
    pub fn token_self(&self, timeout: Duration) -> Result<TokenState, Error> {
        match self.ask("read the token", "acl/token/self", timeout) {
            Ok(answer) if answer.status == 200 => {
                let raw = answer.json::<RawToken>()?;
                Ok(if raw.accessor == ANONYMOUS { TokenState::Anonymous } else { TokenState::Known(raw.into()) })
            }
            Ok(answer) => Err(answer.rejected()),
            Err(Error::Denied { body, .. }) if body.contains("ACL support disabled") => Ok(TokenState::Disabled),
            // So it says to those without a token, too, though it lets them do what the anonymous token may.
            Err(error) if error.is_unknown_token() && !self.config().has_token() => Ok(TokenState::Anonymous),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, task: &str, path: &str, timeout: Duration) -> Result<super::client::Answer, Error> {
        let (task, path) = (task.to_owned(), path.to_owned());
        self.send(Call { task, method: Method::GET, path, query: &[], body: None, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_or_behind_by_more_than_the_header_can_hide() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        // Sent at 10.2, answered at 10.4, at 10.3 there too: the header says 10.
        let same = ClockOffset::of(at(10_200), at(10_400), at(10_000));
        assert!(!same.exceeds(Duration::ZERO), "{same:?}");
        let ahead = ClockOffset::of(at(10_200), at(10_400), at(15_000));
        assert!(ahead.ahead && ahead.exceeds(Duration::from_secs(4)) && !ahead.exceeds(Duration::from_secs(5)));
        assert_eq!(ahead.offset, Duration::from_millis(5_200));
        let behind = ClockOffset::of(at(10_200), at(10_400), at(5_000));
        assert!(!behind.ahead && behind.exceeds(Duration::from_secs(4)) && !behind.exceeds(Duration::from_secs(5)));
        // A clock that was set back in between has no negative round trip.
        let jumped = ClockOffset::of(at(10_400), at(10_200), at(10_000));
        assert_eq!(jumped.accuracy, Duration::from_millis(500));
    }

    #[test]
    fn a_token_is_read_without_its_secret() {
        let text = r#"{"AccessorID":"a-1","SecretID":"s3cret","Description":"for\ncron","Policies":[{"ID":"00000000-0000-0000-0000-000000000001",
            "Name":"global-management"}],"Roles":[{"ID":"1","Name":"ops"}],"ServiceIdentities":[{"ServiceName":"web"}],
            "ExpirationTime":"2026-11-22T18:51:24.524687943Z","Local":false}"#;
        let token = Token::from(serde_json::from_str::<RawToken>(text).expect("JSON"));
        assert!(token.is_management && !format!("{token:?}").contains("s3cret"));
        assert_eq!((token.accessor.as_str(), token.description.as_str()), ("a-1", "for cron"));
        assert_eq!(token.grants, ["policy global-management", "role ops", "service web"]);
        assert_eq!(token.expires.as_deref(), Some("2026-11-22T18:51:24.524687943Z"));
    }
}
