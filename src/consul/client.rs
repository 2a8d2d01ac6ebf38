//! One request to Consul, and the connections that it goes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response, header};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, AsSendBody};

use super::address::{Address, Place, bracketed};
use super::config::{Config, ConfigError};
use super::error::{Attempt, Error};
use super::quote::quote;
use super::settings::Settings;
use super::transport::{Names, UnixConnector};
use super::whole::Whole;

/// Most time for finding an address, and again for a connection with its TLS handshake, however long the request may last:
/// neither ends when [`Client::shutdown`] is called.
const CONNECT: Duration = Duration::from_secs(5);

/// Most time for a request: far more than Consul blocks one (10 minutes), and no sum of moments overflows.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a connection is kept without use: it may be the last that the agent has for this address, and a holder with a
/// long TTL says nothing over its own for a third of that.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Most bytes of an answer. A value has 512 KB at most.
const MOST: u64 = 4 << 20;

/// Most bytes of a list: 10,000 locks have 6 MB.
pub(super) const LONGEST_LIST: u64 = 256 << 20;

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
    /// Date.
    pub(super) date: Option<String>,
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
        Self::new(Settings::default().resolve_here()?)
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
        self.send_for(call, MOST)
    }

    /// Sends one request and reads the whole answer, of so many bytes at most.
    pub(super) fn send_for(&self, call: Call<'_>, most: u64) -> Result<Answer, Error> {
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
        let body = match body.into_with_config().limit(most).read_to_vec() {
            Ok(body) => body,
            Err(error) => return Err(failed(attempt, error, true)),
        };
        match status {
            200 | 404 | 409 => {
                let index = head.headers.get("x-consul-index").and_then(|value| value.to_str().ok()?.parse().ok());
                let date = text(header::DATE);
                Ok(Answer { status, index, date, body, attempt })
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
        .max_idle_age(IDLE)
        .proxy(config.proxy.clone())
        .user_agent(concat!("consul-lock/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .input_buffer_size(16 << 10)
        .output_buffer_size(8 << 10);
    if let Some(tls) = &config.tls {
        builder = builder.tls_config(tls.clone());
    }
    let settings = builder.build();
    match config.address.place() {
        Place::Unix { path } => {
            Agent::with_parts(settings, UnixConnector::new(path.clone()).chain(Whole), names.clone())
        }
        Place::Tcp { .. } => Agent::with_parts(settings, DefaultConnector::default().chain(Whole), names.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::{Read, Secret};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    const SOON: Duration = Duration::from_secs(10);
    const MISSING: &str = "HTTP/1.1 404 Not Found\r\nX-Consul-Index: 7\r\nContent-Length: 0\r\n\r\n";

    fn client(settings: Settings) -> Client {
        Client::new(settings.resolve(&|_| None).expect("fit")).expect("fit")
    }

    fn at(http_addr: String) -> Settings {
        Settings { http_addr: Some(http_addr), ..Settings::default() }
    }

    /// Answers one connection after another in the same way, and tells what it was asked. No answer closes at once.
    fn answers(answer: &'static str) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or(0);
                let _ = tell.send(String::from_utf8_lossy(&request[..length]).into_owned());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (address, asked)
    }

    fn failure(answer: &'static str) -> Error {
        let (address, _asked) = answers(answer);
        client(at(address)).get("a", Read::Default, SOON).expect_err(answer)
    }

    #[test]
    fn the_token_is_in_a_header_and_the_rest_in_the_query() {
        let (address, asked) = answers(MISSING);
        let settings = Settings {
            token: Some(Secret::new("s3cret")),
            datacenter: Some("dc 2".into()),
            namespace: Some("team".into()),
            partition: Some("p&q".into()),
            ..at(format!("http://{address}/front/"))
        };
        let read = Read::Blocking { index: 7, wait: Duration::from_secs(2) };
        let reply = client(settings).get("a/ü?", read, SOON).expect("missing");
        assert_eq!((reply.entry, reply.index), (None, 7));
        let asked = asked.recv().expect("asked");
        let line =
            "GET /front/v1/kv/a/%C3%BC%3F?consistent&index=7&wait=2s&dc=dc%202&ns=team&partition=p%26q HTTP/1.1\r\n";
        assert!(asked.starts_with(line), "{asked}");
        assert!(asked.to_ascii_lowercase().contains("\r\nx-consul-token: s3cret\r\n"), "{asked}");
    }

    #[test]
    fn a_redirect_is_never_followed() {
        let (elsewhere, asked_elsewhere) = answers(MISSING);
        let answer = format!("HTTP/1.1 301 Moved\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
        let error = failure(answer.leak());
        assert!(
            matches!(&error, Error::Redirect { status: 301, location, .. } if location.contains(&elsewhere)),
            "{error}"
        );
        assert!(asked_elsewhere.try_recv().is_err());
    }

    #[test]
    fn whatever_is_no_answer_of_consul_is_an_error_and_not_a_missing_key() {
        let cases = [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno page\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 6\r\n\r\n<html>",
            "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 46\r\n\r\n[{\"Key\":\"b\",\"CreateIndex\":1,\"ModifyIndex\":1} ]",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ];
        for answer in cases {
            let error = failure(answer);
            assert!(matches!(error, Error::Rejected { .. } | Error::Malformed { truncated: false, .. }), "{error}");
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn a_connection_that_ends_early_is_told_from_one_that_never_was() {
        assert!(matches!(failure(""), Error::Busy { .. }));
        let half = "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 99\r\n\r\n[{";
        assert!(matches!(failure(half), Error::Malformed { truncated: true, .. }));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let error = client(at(free.to_string())).get("a", Read::Default, SOON).expect_err("nobody there");
        assert!(matches!(error, Error::Unreachable { why: super::super::Obstacle::Refused, .. }), "{error}");
    }

    #[test]
    fn an_answer_beyond_all_measure_is_refused() {
        let huge = format!(
            "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: {}\r\n\r\n{}",
            MOST + 1,
            " ".repeat(MOST as usize + 1)
        );
        let error = failure(huge.leak());
        assert!(matches!(&error, Error::Malformed { what, .. } if what.contains("4194304")), "{error}");
    }

    #[test]
    fn a_request_ends_in_time_or_when_its_client_is_shut_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        // Accepts in the backlog and never answers.
        let socket = UnixListener::bind(&path).expect("bound");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        for address in [format!("unix://{}", path.display()), tcp.local_addr().expect("bound").to_string()] {
            let patient = client(at(address));
            let started = Instant::now();
            let error = patient.get("a", Read::Default, Duration::from_millis(100)).expect_err("no answer");
            assert!(matches!(error, Error::TimedOut { .. }), "{error}");
            assert!(started.elapsed() >= Duration::from_millis(100));

            let (other, clone) = (patient.separate(), patient.clone());
            let waiting = thread::spawn(move || clone.get("a", Read::Default, Duration::from_secs(60)));
            // Whether it has sent its request by now or not: it ends.
            patient.shutdown();
            let error = waiting.join().expect("no panic").expect_err("shut down");
            assert!(matches!(error, Error::ShutDown { .. }), "{error}");
            assert!(started.elapsed() < Duration::from_secs(30));
            let error = other.get("a", Read::Default, Duration::from_millis(100)).expect_err("no answer");
            assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        }
        drop((socket, tcp));
    }

    #[test]
    fn no_timeout_is_too_long_or_too_short_for_the_arithmetic() {
        let (address, _asked) = answers(MISSING);
        let client = client(at(address));
        assert!(client.get("a", Read::Default, Duration::MAX).is_ok());
        let error = client.get("a", Read::Default, Duration::ZERO).expect_err("no time at all");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
}
