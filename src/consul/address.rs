//! Where Consul's HTTP API is: `host:port`, `http://…`, `https://…` with an optional path in front of Consul's own (a
//! reverse proxy's), or `unix://PATH`, as CONSUL_HTTP_ADDR and `-http-addr` take it; and who said so, since a message
//! about an address helps only if it tells what to change.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use thiserror::Error;

/// What `consul` assumes when nothing is said.
const DEFAULT: &str = "127.0.0.1:8500";

/// Most bytes of a socket's path: `sun_path` has 108 on Linux, 104 elsewhere, with a zero at the end (unix(7)).
const MOST_OF_SOCKET: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line, with its dashes.
    Flag(&'static str),
    /// A variable in the environment.
    Variable(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A checked address. Shown with `{}` it is the URL, with `{:#}` the URL and where it came from:
/// `http://127.0.0.1:8500 (CONSUL_HTTP_ADDR)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    place: Place,
    origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `host` without brackets; `prefix` empty or `/path` without a slash at its end.
    Tcp {
        tls: bool,
        host: String,
        port: u16,
        prefix: String,
    },
    Unix {
        path: PathBuf,
    },
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum AddressError {
    #[error("is empty: write host:port")]
    Empty,
    #[error("has the unknown scheme \"{0}\": use http, https or unix")]
    Scheme(String),
    #[error("has no host: write host:port")]
    NoHost,
    #[error("has the host \"{0}\", which is none: use a name, an IPv4 address, or an IPv6 address in brackets")]
    Host(String),
    #[error("has the port \"{0}\": use a number from 1 to 65535")]
    Port(String),
    #[error("holds a user name: put user:password into CONSUL_HTTP_AUTH")]
    User,
    #[error("holds a query, a fragment or a character that no URL has: write scheme://host:port/path")]
    Path,
    #[error("names no socket: write unix:///path/to/socket")]
    NoSocket,
    #[error("names a socket by {0} bytes, and a system takes {MOST_OF_SOCKET} at most: put it below a shorter path")]
    LongSocket(usize),
    #[error("is a unix socket, which speaks no TLS: unset CONSUL_HTTP_SSL")]
    TlsSocket,
}

impl Address {
    /// Reads an address. `tls` is CONSUL_HTTP_SSL: it makes `http` `https`, and never the other way round, as in
    /// Consul's Go client (`api.NewClient`). A host without a port means the scheme's own (80, 443), as there.
    ///
    /// # Errors
    /// [`AddressError`] tells what is wrong with the text. It never repeats a password.
    pub fn parse(text: &str, origin: Origin, tls: bool) -> Result<Self, AddressError> {
        if text.contains('@') && !text.starts_with("unix://") {
            return Err(AddressError::User);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let place = match scheme {
            _ if text.trim().is_empty() => return Err(AddressError::Empty),
            Some("unix") if rest.is_empty() => return Err(AddressError::NoSocket),
            Some("unix") if rest.len() > MOST_OF_SOCKET => return Err(AddressError::LongSocket(rest.len())),
            Some("unix") if tls => return Err(AddressError::TlsSocket),
            Some("unix") => Place::Unix { path: PathBuf::from(rest) },
            None | Some("http") => tcp(rest, tls)?,
            Some("https") => tcp(rest, true)?,
            Some(other) => return Err(AddressError::Scheme(other.chars().filter(|c| !c.is_control()).collect())),
        };
        Ok(Self { place, origin })
    }

    /// The address that is used when none is given.
    pub(super) fn default_with(tls: bool) -> Result<Self, AddressError> {
        Self::parse(DEFAULT, Origin::Default, tls)
    }

    /// Which flag or variable it came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether it is this very machine's: a unix socket, or a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.place {
            Place::Unix { .. } => true,
            Place::Tcp { host, .. } => is_loopback(host),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.place, Place::Tcp { tls: true, .. })
    }
}

/// Whether a host is this very machine by its name or address; `::ffff:127.0.0.1` is, too.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    name == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn tcp(rest: &str, tls: bool) -> Result<Place, AddressError> {
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or_else(|| AddressError::Host(shown(authority)))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError::Host(shown(host)))?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(AddressError::Host(shown(authority))),
            };
            (host, port)
        }
        None => {
            let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            if port.is_some_and(|port| port.contains(':')) {
                return Err(AddressError::Host(shown(authority)));
            }
            if host.is_empty() {
                return Err(AddressError::NoHost);
            }
            let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if !host.chars().all(name) || host.len() > 253 {
                return Err(AddressError::Host(shown(host)));
            }
            (host, port)
        }
    };
    let port = match port {
        None => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(text) => match text.parse() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => return Err(AddressError::Port(shown(text))),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/!$&'()*+,;=:%".contains(c);
    if !path.chars().all(plain) {
        return Err(AddressError::Path);
    }
    Ok(Place::Tcp { tls, host: host.to_ascii_lowercase(), port, prefix: path.trim_end_matches('/').to_owned() })
}

/// A piece of what was typed, fit for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// `host` as it stands in a URL.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { tls, host, port, prefix } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{}:{port}{prefix}", bracketed(host))?;
            }
            Place::Unix { path } => write!(f, "unix://{}", shown(&path.to_string_lossy()))?,
        }
        if f.alternate() { write!(f, " ({})", self.origin) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<String, AddressError> {
        Address::parse(text, Origin::Flag("--http-addr"), false).map(|address| address.to_string())
    }

    #[test]
    fn reads_every_form_that_consul_takes() {
        let cases = [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("Consul.Example:8500", "http://consul.example:8500"),
            ("http://consul.example", "http://consul.example:80"),
            ("https://consul.example", "https://consul.example:443"),
            ("https://lb.example:8443/consul/", "https://lb.example:8443/consul"),
            ("lb.example:80/a/b", "http://lb.example:80/a/b"),
            ("[::1]:8500", "http://[::1]:8500"),
            ("https://[fe80::1]", "https://[fe80::1]:443"),
            ("unix:///run/consul.sock", "unix:///run/consul.sock"),
            ("unix://consul.sock", "unix://consul.sock"),
            ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ];
        for (text, shown) in cases {
            assert_eq!(parse(text), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn refuses_each_unfit_address_for_its_own_reason() {
        let own = str::to_owned;
        let cases = [
            ("", AddressError::Empty),
            ("  ", AddressError::Empty),
            ("ftp://a:1", AddressError::Scheme(own("ftp"))),
            ("HTTP://a:1", AddressError::Scheme(own("HTTP"))),
            ("http://", AddressError::NoHost),
            (":8500", AddressError::NoHost),
            ("a:0", AddressError::Port(own("0"))),
            ("a:", AddressError::Port(own(""))),
            ("a:65536", AddressError::Port(own("65536"))),
            ("a:+80", AddressError::Port(own("+80"))),
            ("::1", AddressError::Host(own("::1"))),
            ("[::1", AddressError::Host(own("[::1"))),
            ("[::1]8500", AddressError::Host(own("[::1]8500"))),
            ("[fe80::1%eth0]:80", AddressError::Host(own("fe80::1%eth0"))),
            ("a b:80", AddressError::Host(own("a b"))),
            ("bücher:80", AddressError::Host(own("bücher"))),
            ("http://user:secret@a:80", AddressError::User),
            ("http://a:80/x?y", AddressError::Path),
            ("http://a:80/#x", AddressError::Path),
            ("unix://", AddressError::NoSocket),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(Address::parse("unix:///a", Origin::Default, true), Err(AddressError::TlsSocket));
    }

    #[test]
    fn the_ssl_variable_makes_http_https_and_never_the_other_way_round() {
        for text in ["a:1", "http://a:1", "https://a:1"] {
            let address = Address::parse(text, Origin::Default, true).map(|a| a.to_string());
            assert_eq!(address, Ok("https://a:1".to_owned()));
        }
        assert_eq!(parse("https://a:1"), Ok("https://a:1".to_owned()));
    }

    #[test]
    fn this_very_machine_is_known_by_its_addresses() {
        let is_loopback = |text| Address::parse(text, Origin::Default, false).map(|address| address.is_loopback());
        for text in [
            "127.0.0.1:1",
            "https://localhost",
            "LocalHost.:8500",
            "[::1]:8500",
            "[::ffff:127.0.0.1]:8500",
            "127.9.8.7:1",
            "unix:///run/consul.sock",
        ] {
            assert_eq!(is_loopback(text), Ok(true), "{text}");
        }
        for text in
            ["10.0.0.1:1", "https://consul.example", "localhost.example:1", "[fe80::1]:8500", "[::ffff:10.0.0.1]:1"]
        {
            assert_eq!(is_loopback(text), Ok(false), "{text}");
        }
    }

    #[test]
    fn the_alternate_form_names_the_origin() {
        let address = Address::parse("a:1", Origin::Variable("CONSUL_HTTP_ADDR"), false).expect("fit");
        assert_eq!(format!("{address:#}"), "http://a:1 (CONSUL_HTTP_ADDR)");
        let address = Address::default_with(false).expect("fit");
        assert_eq!(format!("{address:#}"), "http://127.0.0.1:8500 (default)");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_it_shows_it_reads(text in "\\PC{0,40}") {
            if let Ok(shown) = parse(&text) {
                prop_assert_eq!(parse(&shown), Ok(shown.clone()));
            }
        }

        #[test]
        fn every_host_and_port_survives(host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., tls: bool) {
            let text = format!("{}://{host}:{port}", if tls { "https" } else { "http" });
            prop_assert_eq!(parse(&text), Ok(text.clone()));
        }

        #[test]
        fn what_precedes_an_at_sign_is_never_repeated(password in "[a-z]{12}") {
            let error = parse(&format!("http://u:{password}@h:80")).expect_err("a user name");
            prop_assert!(!error.to_string().contains(&password));
        }
    }
}
