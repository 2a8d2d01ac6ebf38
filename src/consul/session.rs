//! Sessions (HTTP API: Session): create, renew, destroy, read.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{Call, Client, LONGEST_LIST};
use super::error::Error;
use super::session_id::SessionId;
use crate::duration;

/// What happens to the keys of a session that ends (`Behavior`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are free; Consul's default.
    #[default]
    Release,
    /// They are gone.
    Delete,
}

/// A session to be (`SessionEntry` in Consul's Go client). `None` leaves a field to Consul; an empty list means none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    /// For people.
    pub name: String,
    /// The node that it belongs to; `None` is the agent's own.
    pub node: Option<String>,
    /// It ends that long after its last renewal, or later (up to twice that); 10 s to 24 h.
    pub ttl: Duration,
    /// How long its keys stay locked after it ended other than by a release. The servers apply 60 s at most.
    pub lock_delay: Duration,
    /// What happens to its keys.
    pub behavior: Behavior,
    /// It ends when one of these checks of its node is critical; left to Consul, that is `serfHealth`.
    pub node_checks: Option<Vec<String>>,
    /// The same for checks of services on its node.
    pub service_checks: Option<Vec<String>>,
    /// The old field for both (`Checks`).
    pub checks: Option<Vec<String>>,
}

impl Default for SessionEntry {
    /// As Consul's Go client has it for a lock (`api.DefaultLockSessionTTL`), and Consul's own lock delay.
    fn default() -> Self {
        Self {
            name: String::new(),
            node: None,
            ttl: Duration::from_secs(15),
            lock_delay: Duration::from_secs(15),
            behavior: Behavior::Release,
            node_checks: None,
            service_checks: None,
            checks: None,
        }
    }
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It lives another TTL.
    Renewed,
    /// Whoever answered does not know it. A deposed leader says so from old state: this proves nothing by itself.
    Gone,
}

/// A session as Consul shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its name.
    pub id: SessionId,
    /// For people.
    pub name: String,
    /// The node that it belongs to.
    pub node: String,
    /// `None`: it has none and never ends by itself.
    pub ttl: Option<Duration>,
    /// As it was asked for; the servers apply 60 s at most.
    pub lock_delay: Duration,
    /// What happens to its keys.
    pub behavior: Behavior,
    /// The checks of its node that it is bound to.
    pub node_checks: Vec<String>,
    /// The checks of services that it is bound to.
    pub service_checks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSession {
    #[serde(rename = "ID")]
    id: SessionId,
    #[serde(default)]
    name: String,
    #[serde(default)]
    node: String,
    #[serde(rename = "TTL", default)]
    ttl: String,
    /// Nanoseconds.
    #[serde(default)]
    lock_delay: u64,
    /// An empty one is Consul's default.
    #[serde(default)]
    behavior: String,
    node_checks: Option<Vec<String>>,
    service_checks: Option<Vec<RawServiceCheck>>,
    /// Versions before 1.7 have nothing else.
    checks: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawServiceCheck {
    #[serde(rename = "ID")]
    id: String,
}

impl RawSession {
    fn info(self) -> Result<SessionInfo, String> {
        let ttl = match self.ttl.as_str() {
            "" => None,
            text => Some(duration::parse(text).map_err(|_| format!("a TTL of {text:?}"))?),
        };
        let behavior = match self.behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => return Err(format!("a behavior of {other:?}")),
        };
        Ok(SessionInfo {
            id: self.id,
            name: self.name,
            node: self.node,
            ttl: ttl.filter(|ttl| !ttl.is_zero()),
            lock_delay: Duration::from_nanos(self.lock_delay),
            behavior,
            node_checks: self.node_checks.or(self.checks).unwrap_or_default(),
            service_checks: self.service_checks.unwrap_or_default().into_iter().map(|check| check.id).collect(),
        })
    }
}

impl Client {
    /// Makes a session (HTTP API: Session, Create Session). Not idempotent: after an error that may have had an effect
    /// ([`Error::is_without_effect`]) there may be a session that nobody knows, and only its TTL ends it.
    ///
    /// # Errors
    /// [`Error`]; a check that does not exist or is critical, or a TTL out of range, is [`Error::Rejected`].
    pub fn create_session(&self, entry: &SessionEntry, timeout: Duration) -> Result<SessionId, Error> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: SessionId,
        }
        let answer = self.send(Call {
            task: "create a session".into(),
            method: Method::PUT,
            path: "session/create".into(),
            query: &[],
            body: Some(self.session_body(entry).to_string().into_bytes()),
            timeout,
        })?;
        if answer.status != 200 {
            return Err(answer.rejected());
        }
        Ok(answer.json::<Created>()?.id)
    }

    fn session_body(&self, entry: &SessionEntry) -> Value {
        let mut body = Map::new();
        body.insert("Name".into(), json!(entry.name));
        body.insert("TTL".into(), json!(duration::format(entry.ttl)));
        body.insert("LockDelay".into(), json!(duration::format(entry.lock_delay)));
        body.insert("Behavior".into(), json!(entry.behavior));
        if let Some(node) = &entry.node {
            body.insert("Node".into(), json!(node));
        }
        if let Some(checks) = &entry.node_checks {
            body.insert("NodeChecks".into(), json!(checks));
        }
        if let Some(checks) = &entry.service_checks {
            let namespace = self.config().namespace.as_deref();
            let check = |id: &String| match namespace {
                Some(namespace) => json!({"ID": id, "Namespace": namespace}),
                None => json!({"ID": id}),
            };
            body.insert("ServiceChecks".into(), checks.iter().map(check).collect());
        }
        if let Some(checks) = &entry.checks {
            body.insert("Checks".into(), json!(checks));
        }
        Value::Object(body)
    }

    /// Lets a session live another TTL (HTTP API: Session, Renew Session). Idempotent.
    ///
    /// # Errors
    /// [`Error`]; a 404 that is not Consul's own (a proxy's) is [`Error::Rejected`], and not [`Renewal::Gone`].
    pub fn renew_session(&self, id: &SessionId, timeout: Duration) -> Result<Renewal, Error> {
        let answer = self.send(Call {
            task: format!("renew the session {id}"),
            method: Method::PUT,
            path: format!("session/renew/{id}"),
            query: &[],
            body: Some(NO_BODY),
            timeout,
        })?;
        match answer.status {
            200 => match answer.json::<Vec<RawSession>>()?.iter().any(|session| session.id == *id) {
                true => Ok(Renewal::Renewed),
                false => Err(answer.malformed("it renewed another session")),
            },
            404 if is_not_found(&answer.body) => Ok(Renewal::Gone),
            _ => Err(answer.rejected()),
        }
    }

    /// Ends a session (HTTP API: Session, Destroy Session). Idempotent: an unknown one is a success. While it holds keys,
    /// this starts their lock delay.
    ///
    /// # Errors
    /// [`Error`].
    pub fn destroy_session(&self, id: &SessionId, timeout: Duration) -> Result<(), Error> {
        let answer = self.send(Call {
            task: format!("destroy the session {id}"),
            method: Method::PUT,
            path: format!("session/destroy/{id}"),
            query: &[],
            body: Some(NO_BODY),
            timeout,
        })?;
        match answer.status {
            200 if answer.body.trim_ascii() == b"true" => Ok(()),
            200 => Err(answer.malformed("it says neither yes nor no")),
            _ => Err(answer.rejected()),
        }
    }

    /// Reads a session (HTTP API: Session, Read Session), with `?consistent`; `None` if there is no such session. A token
    /// without `session:read` on its node sees none either.
    ///
    /// # Errors
    /// [`Error`].
    pub fn session_info(&self, id: &SessionId, timeout: Duration) -> Result<Option<SessionInfo>, Error> {
        let answer = self.send(Call {
            task: format!("read the session {id}"),
            method: Method::GET,
            path: format!("session/info/{id}"),
            query: &[("consistent", String::new())],
            body: None,
            timeout,
        })?;
        if answer.status != 200 {
            return Err(answer.rejected());
        }
        let found = answer.json::<Option<Vec<RawSession>>>()?.unwrap_or_default();
        let found = found.into_iter().find(|session| session.id == *id);
        found.map(RawSession::info).transpose().map_err(|what| answer.malformed(what))
    }

    /// Reads all sessions of the datacenter (HTTP API: Session, List Sessions). A token sees those of nodes on which it
    /// has `session:read`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn sessions(&self, timeout: Duration) -> Result<Vec<SessionInfo>, Error> {
        let call = Call {
            task: "list the sessions".into(),
            method: Method::GET,
            path: "session/list".into(),
            query: &[],
            body: None,
            timeout,
        };
        let answer = self.send_for(call, LONGEST_LIST)?;
        if answer.status != 200 {
            return Err(answer.rejected());
        }
        let found = answer.json::<Option<Vec<RawSession>>>()?.unwrap_or_default();
        let infos: Result<_, _> = found.into_iter().map(RawSession::info).collect();
        infos.map_err(|what| answer.malformed(what))
    }
}

/// An empty body and not none: a PUT with none goes out in chunks, which some proxies refuse.
const NO_BODY: Vec<u8> = Vec::new();

/// Consul's own words for an unknown session: `Session id '…' not found`, or with double quotes in newer versions.
fn is_not_found(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    text.trim_start().starts_with("Session id") && text.trim_end().ends_with("not found")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::Settings;

    fn client(namespace: Option<&str>) -> Client {
        let settings = Settings { namespace: namespace.map(str::to_owned), ..Settings::default() };
        Client::new(settings.resolve(&|_| None).expect("fit")).expect("fit")
    }

    #[test]
    fn what_is_left_to_consul_is_not_sent_and_none_is_an_empty_list() {
        let entry = SessionEntry { name: "n".into(), ..SessionEntry::default() };
        let expected = json!({"Name": "n", "TTL": "15s", "LockDelay": "15s", "Behavior": "release"});
        assert_eq!(client(None).session_body(&entry), expected);
        let entry = SessionEntry {
            node_checks: Some(vec![]),
            service_checks: Some(vec!["web".into()]),
            lock_delay: Duration::from_millis(1500),
            behavior: Behavior::Delete,
            ..entry
        };
        let expected = json!({"Name": "n", "TTL": "15s", "LockDelay": "1500ms", "Behavior": "delete",
            "NodeChecks": [], "ServiceChecks": [{"ID": "web", "Namespace": "team"}]});
        assert_eq!(client(Some("team")).session_body(&entry), expected);
    }

    #[test]
    fn a_session_is_read_as_consul_1_8_shows_it() {
        let text = r#"{"ID":"fc5a07ea-918d-fe15-c612-6aea656e614f","Name":"n","Node":"vm","LockDelay":15000000000,
            "Behavior":"release","TTL":"1h1m0.5s","NodeChecks":["serfHealth"],
            "ServiceChecks":[{"ID":"web","Namespace":""}],"CreateIndex":46,"ModifyIndex":46}"#;
        let info = serde_json::from_str::<RawSession>(text).expect("JSON").info().expect("fit");
        assert_eq!(info.ttl, Some(Duration::from_millis(3_660_500)));
        assert_eq!((info.node_checks, info.service_checks), (vec!["serfHealth".to_owned()], vec!["web".to_owned()]));
        assert_eq!(info.lock_delay, Duration::from_secs(15));
    }

    #[test]
    fn only_consuls_own_404_means_that_a_session_is_gone() {
        assert!(is_not_found(b"Session id '1' not found"));
        assert!(is_not_found(b"Session id \"1\" not found\n"));
        assert!(!is_not_found(b"<html>404 page not found</html>"));
        assert!(!is_not_found(b""));
    }
}
