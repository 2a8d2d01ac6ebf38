//! Which proxy to go through. We choose it ourselves, as Go's client does: by the scheme of the target alone
//! (HTTP_PROXY, HTTPS_PROXY, either case), never for this machine, and with NO_PROXY read as Go reads it. Requests go
//! through a tunnel (CONNECT) for http:// targets too.

use std::net::IpAddr;

use super::address::is_loopback;
use super::config::ConfigError;
use super::settings::Env;

/// The proxy for a target, and the variable that names it.
pub(super) fn choose(
    env: Env<'_>,
    tls: bool,
    host: &str,
    port: u16,
) -> Result<Option<(ureq::Proxy, &'static str)>, ConfigError> {
    let names: [&'static str; 2] = if tls { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let Some((text, variable)) = names.iter().find_map(|&name| Some((env(name)?, name))) else {
        return Ok(None);
    };
    let exempt = env("NO_PROXY").or_else(|| env("no_proxy")).unwrap_or_default();
    if is_loopback(host) || exempt.split(',').any(|entry| matches(entry.trim(), host, port)) {
        return Ok(None);
    }
    let text = text.trim();
    // The other kinds are not built in, and asking for one would panic.
    if text.contains("://") && !text.starts_with("http://") {
        return Err(ConfigError::Proxy { variable });
    }
    match ureq::Proxy::new(text) {
        Ok(proxy) => Ok(Some((proxy, variable))),
        Err(_) => Err(ConfigError::Proxy { variable }),
    }
}

/// Whether one entry of NO_PROXY names the host: `*`, a name (with everything below it), `.name` or `*.name` (only what is
/// below), an address, a network, each but the network with an optional port.
fn matches(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let ip = host.parse::<IpAddr>().ok();
    if let Some((network, bits)) = entry.split_once('/') {
        let (Some(ip), Ok(network), Ok(bits)) = (ip, network.parse(), bits.parse()) else { return false };
        return in_network(ip, network, bits);
    }
    let (entry, wanted) = match entry.rsplit_once(':') {
        Some((name, number)) if !name.contains(':') || name.ends_with(']') => (name, number.parse::<u16>().ok()),
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let entry = entry.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if let (Some(ip), Ok(named)) = (ip, entry.parse::<IpAddr>()) {
        return ip == named;
    }
    let below = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.'));
    match below {
        Some(name) => !name.is_empty() && host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        None => {
            !entry.is_empty() && host.strip_suffix(&entry).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
    }
}

fn in_network(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (ip, network, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (u128::from(ip.to_bits()), u128::from(network.to_bits()), 32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    match bits {
        0 => true,
        _ if bits > width => false,
        _ => ip >> (width - bits) == network >> (width - bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(env: &[(&str, &str)], tls: bool, host: &str) -> Option<String> {
        let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        choose(&lookup, tls, host, 8500).expect("fit").map(|(proxy, _)| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn the_scheme_of_the_target_alone_decides() {
        let env = [("HTTP_PROXY", "plain:1"), ("https_proxy", "http://safe:2"), ("ALL_PROXY", "all:3")];
        assert_eq!(chosen(&env, false, "consul.example"), Some("plain:1".into()));
        assert_eq!(chosen(&env, true, "consul.example"), Some("safe:2".into()));
        assert_eq!(chosen(&env[1..2], false, "consul.example"), None);
    }

    #[test]
    fn this_machine_is_never_asked_through_a_proxy() {
        let env = [("HTTP_PROXY", "plain:1")];
        for host in ["localhost", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(chosen(&env, false, host), None, "{host}");
        }
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let yes = [
            (" a.example , consul.example ", "consul.example"),
            ("example", "consul.example"),
            (".example", "consul.example"),
            ("*.Example", "consul.example"),
            ("consul.example:8500", "consul.example"),
            ("*", "consul.example"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "fd00::1"),
            ("[fd00::1]:8500", "fd00::1"),
        ];
        let no = [
            ("", "consul.example"),
            ("ample", "consul.example"),
            (".consul.example", "consul.example"),
            ("consul.example:80", "consul.example"),
            ("10.0.0.0/8", "11.1.2.3"),
            ("10.0.0.0/99", "10.0.0.1"),
            ("fd00::1", "fd00::2"),
        ];
        for (exempt, host) in yes {
            assert_eq!(chosen(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", exempt)], false, host), None, "{exempt} {host}");
            assert_eq!(chosen(&[("HTTP_PROXY", "p:1"), ("no_proxy", exempt)], false, host), None, "{exempt} {host}");
        }
        for (exempt, host) in no {
            assert_eq!(
                chosen(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", exempt)], false, host),
                Some("p:1".into()),
                "{exempt}"
            );
        }
    }

    #[test]
    fn a_proxy_that_we_cannot_use_is_an_error_that_names_its_variable() {
        for text in ["socks5://p:1", "https://p:1", "://"] {
            let env = |name: &str| (name == "HTTP_PROXY").then(|| text.to_owned());
            let error = choose(&env, false, "consul.example", 80).expect_err(text);
            assert_eq!(error, ConfigError::Proxy { variable: "HTTP_PROXY" });
        }
    }
}
