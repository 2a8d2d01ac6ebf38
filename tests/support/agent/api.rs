//! What a test asks of an agent, and what the agent was asked by others. It goes to the plain port, with the bootstrap
//! token if there are ACLs, and by a client that shares nothing with the one under test.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::http::{self, Reply};
use super::{Agent, LOCK_FLAGS, PATIENCE};

/// Consul ignores this parameter; it keeps the tests' own requests out of [`Agent::requests`].
const OWN_REQUEST: &str = "by=test-support";

impl Agent {
    /// A new token with these rules and nothing else, as in `key_prefix "jobs/" { policy = "write" }`.
    pub fn token_with(&self, rules_hcl: &str) -> String {
        let name = format!("test-{:016x}", fastrand::u64(..));
        self.put("/v1/acl/policy", json!({ "Name": name, "Rules": rules_hcl }).to_string());
        let made = self.put("/v1/acl/token", json!({ "Policies": [{ "Name": name }] }).to_string());
        made.json()["SecretID"].as_str().expect("Consul answers with the token").to_owned()
    }

    /// One request and whatever comes back.
    pub fn ask(&self, method: &str, path: &str, body: &[u8], bound: Duration) -> io::Result<Reply> {
        let target = format!("{path}{}{OWN_REQUEST}", if path.contains('?') { '&' } else { '?' });
        http::request(&self.http_addr(), method, &target, self.token.as_deref(), body, bound)
    }

    /// GET, for any status.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, b"", PATIENCE).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// PUT, which must succeed.
    #[track_caller]
    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let reply =
            self.ask("PUT", path, body.as_ref(), PATIENCE).unwrap_or_else(|error| panic!("PUT {path}: {error}"));
        assert_eq!(reply.status, 200, "PUT {path}: {}", reply.text());
        reply
    }

    /// A new session made from these fields (`{}` for Consul's defaults): its id.
    #[track_caller]
    pub fn create_session(&self, fields: &Value) -> String {
        let made = self.put("/v1/session/create", fields.to_string());
        made.json()["ID"].as_str().expect("Consul answers with the id").to_owned()
    }

    /// Destroys a session, as an operator would.
    #[track_caller]
    pub fn destroy_session(&self, id: &str) {
        self.put(&format!("/v1/session/destroy/{id}"), "");
    }

    /// `PUT ?acquire`, with this value, as any other client of the key would: whether the session has it now.
    #[track_caller]
    pub fn acquire(&self, key: &str, session: &str, value: &str) -> bool {
        self.put(&format!("/v1/kv/{key}?acquire={session}"), value).json() == true
    }

    /// [`Agent::acquire`] as Consul's Go client does it: it reads the key, asks only when it is free, and marks it as a
    /// lock by its flags.
    #[track_caller]
    pub fn acquire_as_go(&self, key: &str, session: &str, value: &str) -> bool {
        let free = self.holder(key).is_none();
        let path = format!("/v1/kv/{key}?acquire={session}&flags={LOCK_FLAGS}");
        free && self.put(&path, value).json() == true
    }

    /// `PUT ?release`: whether the session had it.
    #[track_caller]
    pub fn release(&self, key: &str, session: &str) -> bool {
        self.put(&format!("/v1/kv/{key}?release={session}"), "").json() == true
    }

    /// All sessions, as Consul lists them.
    #[track_caller]
    pub fn sessions(&self) -> Vec<Value> {
        let listed = self.get("/v1/session/list").json();
        listed.as_array().unwrap_or_else(|| panic!("no list of sessions: {listed}")).clone()
    }

    /// All keys below a prefix; `""` for every key.
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let reply = self.get(&format!("/v1/kv/{prefix}?keys"));
        if reply.status == 404 {
            return Vec::new();
        }
        serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("no list of keys: {}", reply.text()))
    }

    /// A key's entry as Consul answers it, with `Value` in base64, `Session`, `Flags`, `ModifyIndex` and so on; none if
    /// there is no such key. A `?consistent` read.
    #[track_caller]
    pub fn kv(&self, key: &str) -> Option<Value> {
        let reply = self.get(&format!("/v1/kv/{key}?consistent"));
        assert!(matches!(reply.status, 200 | 404), "reading {key}: {} {}", reply.status, reply.text());
        reply.json().get(0).cloned()
    }

    /// The session that holds the key, if one does.
    #[track_caller]
    pub fn holder(&self, key: &str) -> Option<String> {
        self.kv(key)?["Session"].as_str().map(str::to_owned)
    }

    /// Asserts that no session and no key is left of anybody.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        assert_eq!((self.keys(""), self.sessions()), (Vec::new(), Vec::new()));
    }

    /// The requests that the agent has answered, in that order, as `METHOD path?query`, without those of the helpers
    /// here. Consul writes the line a moment after the answer, and tokens in a query as `<hidden>`.
    pub fn requests(&self) -> Vec<String> {
        let parse = |line: &str| {
            let (method, rest) = line.split_once("Request finished: method=")?.1.split_once(" url=")?;
            let (target, _) = rest.rsplit_once(" from=")?;
            (!target.contains(OWN_REQUEST)).then(|| format!("{method} {target}"))
        };
        self.log().lines().filter_map(parse).collect()
    }
}
