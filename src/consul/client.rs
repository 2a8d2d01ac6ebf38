//! One request to Consul, and the connections that it goes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response, header};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody};

use super::address::{Address, Place, bracketed};
use super::config::{Config, ConfigError};
use super::error::{Attempt, Error};
use super::quote::quote;
use super::settings::Settings;
use super::transport::{Names, UnixConnector};

/// Most time for finding an address, and again for a connection with its TLS handshake, however long the request may last:
/// neither ends when [`Client::shutdown`] is called.
const CONNECT: Duration = Duration::from_secs(5);

/// Most time for a request: far more than Consul blocks one (10 minutes), and no sum of moments overflows.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Most bytes of an answer. A value has 512 KB at most; the longest list that we ask for is a queue's.
const MOST: u64 = 4 << 20;

/// Connections to one Consul agent, and the settings that go with every request over them. Cloning it shares them; any
/// number of threads may ask at once, each request on a connection of its own.
///
/// ```no_run
/// use std::time::Duration;
/// use consul_lock::consul::{Client, Op, Read, SessionEntry, Txn};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let consul = Client::from_env()?;
/// let soon = Duration::from_secs(5);
/// let session = consul.create_session(&SessionEntry::default(), soon)?;
/// let key = "cron/backup";
/// if consul.get(key, Read::Consistent, soon)?.entry.is_none() {
///     let take = [Op::CheckNotExists { key }, Op::Lock { key, session: &session, value: b"", flags: 0 }];
///     match consul.txn(&take, soon)? {
///         Txn::Done(_) => println!("ours"),
///         Txn::Refused(why) => println!("{}", why[0].what),
///     }
/// }
/// consul.destroy_session(&session, soon)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<Config>,
    /// What every URL begins with: scheme, host, port and prefix.
    base: Arc<str>,
    names: Names,
    agent: Agent,
    ended: Arc<AtomicBool>,
}

/// What to ask.
pub(super) struct Call<'a> {
    /// In the infinitive, for messages.
    pub(super) task: String,
    pub(super) method: Method,
    /// Below `/v1/`, percent-encoded.
    pub(super) path: String,
    pub(super) query: &'a [(&'static str, String)],
    pub(super) body: Option<Vec<u8>>,
    pub(super) timeout: Duration,
}

/// An answer that is no error in itself: 200, 404 or 409.
pub(super) struct Answer {
    pub(super) status: u16,
    /// X-Consul-Index.
    pub(super) index: Option<u64>,
    pub(super) body: Vec<u8>,
    attempt: Attempt,
}

impl Client {
    /// Makes ready; nothing is sent and nothing looked up before the first request.
    ///
    /// # Errors
    /// [`ConfigError`] for a host that no URL can carry.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let (base, names) = match config.address.place() {
            Place::Unix { .. } => ("http://localhost".to_owned(), Names::none()),
            Place::Tcp { tls, host, port, prefix } => {
                // The TLS library verifies the name in the URL, so the wanted name goes there, and `Names` leads it to
                // the true host.
                let alias = config.server_name.clone().unwrap_or_else(|| bracketed(host));
                let unfit = || ConfigError::Address {
                    origin: config.address.origin(),
                    reason: super::AddressError::Host(host.clone()),
                };
                let names = Names::of(host, *port, &alias).ok_or_else(unfit)?;
                let scheme = if *tls { "https" } else { "http" };
                (format!("{scheme}://{alias}:{port}{prefix}"), names)
            }
        };
        let agent = agent(&config, &names);
        Ok(Self { config: Arc::new(config), base: base.into(), names, agent, ended: Arc::default() })
    }

    /// A client configured by Consul's variables alone, as Go's `api.DefaultConfig`.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable at fault.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::new(Settings::default().resolve(&|name| std::env::var(name).ok())?)
    }

    /// A client of the same Consul with connections of its own, which a [`Client::shutdown`] of this one does not touch.
    #[must_use]
    pub fn separate(&self) -> Self {
        let agent = agent(&self.config, &self.names);
        Self { agent, ended: Arc::default(), ..self.clone() }
    }

    /// Ends the requests in flight on this client and its clones, in other threads too, with [`Error::ShutDown`], and
    /// every later one. A request that is still connecting ends within 5 s.
    pub fn shutdown(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
    }

    /// Where Consul is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.config.address
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sends one request and reads the whole answer.
    pub(super) fn send(&self, call: Call<'_>) -> Result<Answer, Error> {
        let Call { task, method, path, query, body, timeout } = call;
        let timeout = timeout.min(LONGEST);
        let attempt = Attempt { task, address: Arc::clone(&self.config.address) };
        let failed = |attempt, error, begun| {
            if self.ended.load(Ordering::SeqCst) {
                return Error::ShutDown { attempt };
            }
            match Error::from_transport(attempt, error, timeout, begun) {
                Error::Unreachable { attempt, why } => {
                    self.names.forget();
                    Error::Unreachable { attempt, why: self.config.through_proxy(why) }
                }
                error => error,
            }
        };
        let url = self.url(&path, query);
        let response = match body {
            Some(body) => self.run(method, &url, body, timeout),
            None => self.run(method, &url, (), timeout),
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => return Err(failed(attempt, error, false)),
        };
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let text = |name: header::HeaderName| head.headers.get(name).map(|value| quote(value.as_bytes()));
        if head.status.is_redirection() {
            let location = text(header::LOCATION).unwrap_or_else(|| "nowhere".into());
            return Err(Error::Redirect { attempt, status, location });
        }
        // Read to the end, whatever the status: a connection with an unread rest cannot be used again.
        let body = match body.into_with_config().limit(MOST).read_to_vec() {
            Ok(body) => body,
            Err(error) => return Err(failed(attempt, error, true)),
        };
        match status {
            200 | 404 | 409 => {
                let index = head.headers.get("x-consul-index").and_then(|value| value.to_str().ok()?.parse().ok());
                Ok(Answer { status, index, body, attempt })
            }
            _ => Err(Error::from_status(attempt, status, &body, self.config.datacenter())),
        }
    }

    fn run(
        &self,
        method: Method,
        url: &str,
        body: impl AsSendBody,
        timeout: Duration,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        if self.config.server_name.is_some()
            && let Place::Tcp { host, port, .. } = self.config.address.place()
        {
            request = request.header(header::HOST, format!("{}:{port}", bracketed(host)));
        }
        if let Some(token) = &self.config.token {
            request = request.header("X-Consul-Token", token);
        }
        if let Some(auth) = &self.config.auth {
            request = request.header(header::AUTHORIZATION, auth);
        }
        // A part of the whole, so that it shows which phase took too long.
        let connect = CONNECT.min(timeout / 4 * 3);
        let request = self
            .agent
            .configure_request(request.body(body)?)
            .timeout_global(Some(timeout))
            .timeout_resolve(Some(CONNECT.min(timeout / 2)))
            .timeout_connect(Some(connect))
            .build();
        self.agent.run(request)
    }

    /// The URL of a path below `/v1/`; datacenter, namespace and partition go with every request.
    fn url(&self, path: &str, query: &[(&'static str, String)]) -> String {
        let mut url = format!("{}/v1/{path}", self.base);
        let config = &self.config;
        let own = [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition)];
        let own = own.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let all = query.iter().map(|(name, value)| (*name, value.as_str())).chain(own);
        for (number, (name, value)) in all.enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url.push_str(name);
            if !value.is_empty() {
                url.push('=');
                url.extend(utf8_percent_encode(value, SEGMENT));
            }
        }
        url
    }
}

/// What must be encoded within a segment of a path or a value of a query (RFC 3986, "unreserved").
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A key as part of a path; its slashes stay.
pub(super) fn encoded(key: &str) -> String {
    const KEY: &AsciiSet = &SEGMENT.remove(b'/');
    utf8_percent_encode(key, KEY).to_string()
}

fn agent(config: &Config, names: &Names) -> Agent {
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(config.proxy.clone())
        .user_agent(concat!("consul-lock/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .input_buffer_size(64 << 10)
        .output_buffer_size(16 << 10);
    if let Some(tls) = &config.tls {
        builder = builder.tls_config(tls.clone());
    }
    let settings = builder.build();
    match config.address.place() {
        Place::Unix { path } => Agent::with_parts(settings, UnixConnector::new(path.clone()), names.clone()),
        Place::Tcp { .. } => Agent::with_parts(settings, DefaultConnector::default(), names.clone()),
    }
}

impl Answer {
    /// The body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| self.malformed(format!("{error} in {}", quote(&self.body[..self.body.len().min(80)]))))
    }

    /// The error of an answer that makes no sense.
    pub(super) fn malformed(&self, what: impl Into<String>) -> Error {
        Error::Malformed { attempt: self.attempt.clone(), what: what.into(), truncated: false }
    }

    /// The error of an answer whose status the caller had no use for.
    pub(super) fn rejected(&self) -> Error {
        Error::from_status(self.attempt.clone(), self.status, &self.body, None)
    }
}
