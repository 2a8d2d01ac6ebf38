//! How to reach Consul, checked and with all files read; and why not. Secrets appear in no message and no debug output.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use ureq::http::HeaderValue;

use super::address::{Address, AddressError, Origin};
use super::certificate::Certificate;
use super::error::Obstacle;

/// A text that must not be seen: a token or a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes charge of a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A checked configuration, with all files read.
#[derive(Clone)]
pub struct Config {
    pub(super) address: Arc<Address>,
    /// X-Consul-Token.
    pub(super) token: Option<HeaderValue>,
    pub(super) token_origin: Option<Origin>,
    /// Authorization, from CONSUL_HTTP_AUTH.
    pub(super) auth: Option<HeaderValue>,
    pub(super) datacenter: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) partition: Option<String>,
    pub(super) tls: Option<ureq::tls::TlsConfig>,
    pub(super) server_name: Option<String>,
    pub(super) proxy: Option<ureq::Proxy>,
}

/// Why there is no [`Config`]: what is wrong, where it was said, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum ConfigError {
    #[error("the address of {origin} {reason}")]
    Address { origin: Origin, reason: AddressError },
    #[error("{variable} is \"{text}\": write true or false")]
    Boolean { variable: &'static str, text: String },
    #[error("the value of {variable} is no UTF-8 text: set it anew, or unset it")]
    NotText { variable: String },
    #[error("the value of {origin} holds a character that no HTTP header can carry: was it pasted with a line break?")]
    Header { origin: Origin },
    #[error("{given} without {missing}: give both, or neither")]
    HalfPair { given: Origin, missing: &'static str },
    #[error("{flag} needs TLS, and {address} has none: write https://, or leave the flag out")]
    NeedsTls { flag: &'static str, address: String },
    #[error("--ca-file and --ca-path together: give one of them")]
    TwoRoots,
    #[error("the name of {origin}, \"{name}\", is no host name: write it as it stands in the server's certificate")]
    ServerName { origin: Origin, name: String },
    #[error("{origin} cannot be used through the proxy of {variable}: add the host to NO_PROXY")]
    NameThroughProxy { origin: Origin, variable: &'static str },
    #[error(
        "the proxy of {variable} is none that can be used here (http://host:port): correct it, or add the host to NO_PROXY"
    )]
    Proxy { variable: &'static str },
    #[error("cannot read {} ({origin}): {reason}", path.display())]
    Read { origin: Origin, path: PathBuf, reason: String },
    #[error("{} ({origin}) is empty: put the token into it, or leave it out", path.display())]
    EmptyToken { origin: Origin, path: PathBuf },
    #[error("{} ({origin}) holds more than a token: put the token into it and nothing else, on one line", path.display())]
    UnfitToken { origin: Origin, path: PathBuf },
    #[error("{} ({origin}) holds no {wanted} in PEM: {mend}", path.display())]
    Pem { origin: Origin, path: PathBuf, wanted: &'static str, mend: &'static str },
    #[error("{} ({origin}) cannot be used: {reason}", path.display())]
    Pair { origin: Origin, path: PathBuf, reason: String },
}

impl ConfigError {
    /// Whether the words are wrong (a usage error, exit code 64 of sysexits.h) rather than the files that they name
    /// (a configuration error, 78).
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::Read { .. }
                | Self::EmptyToken { .. }
                | Self::UnfitToken { .. }
                | Self::Pem { .. }
                | Self::Pair { .. }
        )
    }
}

impl Config {
    /// Where Consul is, and who said so.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The datacenter asked for; `None` is the agent's own.
    #[must_use]
    pub fn datacenter(&self) -> Option<&str> {
        self.datacenter.as_deref()
    }

    /// An obstacle as it is with a proxy in between, to which alone we connect.
    pub(super) fn through_proxy(&self, why: Obstacle) -> Obstacle {
        match (&self.proxy, why) {
            (Some(proxy), why @ (Obstacle::Refused | Obstacle::Slow | Obstacle::Name(_))) => {
                Obstacle::Proxy(format!("{}:{}: {why}", proxy.host(), proxy.port()))
            }
            (_, why) => why,
        }
    }

    /// Who named the token, if anybody did: a flag or a variable.
    #[must_use]
    pub fn token_origin(&self) -> Option<Origin> {
        self.token_origin
    }

    /// The proxy in between, as `host:port`.
    #[must_use]
    pub fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// Whether the server's certificate is verified; `None` where there is no TLS.
    #[must_use]
    pub fn verifies_tls(&self) -> Option<bool> {
        self.tls.as_ref().map(|tls| !tls.disable_verification())
    }

    /// The certificate that we show, if we have one that can be read.
    #[must_use]
    pub fn client_certificate(&self) -> Option<Certificate> {
        let own = self.tls.as_ref()?.client_cert()?;
        Certificate::read(own.certs().first()?.der())
    }

    /// Whether a token goes with every request.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &format_args!("{:#}", self.address))
            .field("token", &self.token.as_ref().map(|_| Secret(String::new())))
            .field("auth", &self.auth.as_ref().map(|_| Secret(String::new())))
            .field("datacenter", &self.datacenter)
            .field("namespace", &self.namespace)
            .field("partition", &self.partition)
            .field("server_name", &self.server_name)
            .field("proxy", &self.proxy())
            .finish_non_exhaustive()
    }
}
