//! What a person wants to know of a server's certificate: whose it is, who signed it, until when it is good. The TLS
//! library judges certificates and shows none of that, and the crates that do cost 14 to 31 more crates; so here is as
//! much of DER (X.690) and X.509 (RFC 5280, 4.1) as these few fields need. Nothing is verified here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use super::date;
use super::quote::one_line;

/// A certificate as its owner presented it. All texts are fit for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its owner: the common name, or else all that the name says.
    pub subject: String,
    /// Who signed it, in the same way.
    pub issuer: String,
    /// When it becomes valid.
    pub not_before: SystemTime,
    /// When it expires.
    pub not_after: SystemTime,
    /// The names and addresses that it is good for (`subjectAltName`).
    pub names: Vec<String>,
}

const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`: the version.
const VERSION: u8 = 0xa0;
/// `[3]`: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` of a general name.
const DNS_NAME: u8 = 0x82;
/// `[7]` of a general name.
const IP_ADDRESS: u8 = 0x87;

/// 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

impl Certificate {
    /// Reads a certificate in DER; `None` if it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut fields = Der(Der(Der(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
        fields.skip(VERSION);
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?;
        let issuer = name(fields.expect(SEQUENCE)?)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = name(fields.expect(SEQUENCE)?)?;
        let mut names = Vec::new();
        while let Some((tag, content)) = fields.next() {
            if tag == EXTENSIONS {
                names = alternative_names(content).unwrap_or_default();
            }
        }
        Some(Self { subject, issuer, not_before, not_after, names })
    }
}

/// Elements of DER, one after another.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            // Four bytes of length are more than any handshake carries.
            let (bytes, rest) =
                rest.split_at_checked(usize::from(first & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
            (bytes.iter().fold(0, |length: usize, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must be of this kind.
    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }

    /// Passes over the next element if it is of this kind.
    fn skip(&mut self, tag: u8) {
        let mut after = *self;
        if after.expect(tag).is_some() {
            *self = after;
        }
    }
}

/// A `Name`: a sequence of sets of pairs of an object identifier and a text.
fn name(content: &[u8]) -> Option<String> {
    let (mut parts, mut all) = (Der(content), Vec::new());
    while let Some(set) = parts.expect(SET) {
        let mut pairs = Der(set);
        while let Some(pair) = pairs.expect(SEQUENCE) {
            let mut pair = Der(pair);
            let (kind, (_, text)) = (pair.expect(OID)?, pair.next()?);
            let text = one_line(&String::from_utf8_lossy(text));
            if kind == COMMON_NAME {
                return Some(text);
            }
            all.push(text);
        }
    }
    Some(if all.is_empty() { "(no name)".to_owned() } else { all.join(", ") })
}

fn time((tag, content): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(content).ok()?;
    match tag {
        UTC_TIME => date::utc_time(text),
        GENERALIZED_TIME => date::generalized_time(text),
        _ => None,
    }
}

/// The names in the extensions, if there are any.
fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some(extension) = extensions.expect(SEQUENCE) {
        let mut extension = Der(extension);
        if extension.expect(OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        extension.skip(BOOLEAN);
        let mut general = Der(Der(extension.expect(OCTET_STRING)?).expect(SEQUENCE)?);
        let mut names = Vec::new();
        while let Some((tag, content)) = general.next() {
            match tag {
                DNS_NAME => names.push(one_line(&String::from_utf8_lossy(content))),
                IP_ADDRESS => names.extend(ip(content).map(|ip| ip.to_string())),
                _ => {}
            }
        }
        return Some(names);
    }
    None
}

fn ip(content: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(content).map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|_| <[u8; 16]>::try_from(content).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    /// Made by `openssl req -x509 -newkey ed25519 -subj "/C=XX/O=Test/CN=server.dc1.consul" -days 36500 -addext
    /// "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"`.
    const MADE: &str = "MIIBtjCCAWigAwIBAgIUW++ZqkCSf5SxxaaQM+eLjiiwAGAwBQYDK2VwMDgxCzAJBgNVBAYTAlhYMQ0wCwYDVQQKDARUZXN0\
        MRowGAYDVQQDDBFzZXJ2ZXIuZGMxLmNvbnN1bDAgFw0yNjExMjIxNzU0MzlaGA8yMTI2MTAyOTE3NTQzOVowODELMAkGA1UE\
        BhMCWFgxDTALBgNVBAoMBFRlc3QxGjAYBgNVBAMMEXNlcnZlci5kYzEuY29uc3VsMCowBQYDK2VwAyEAiRIJczWTh5oxb8vZ\
        Qx50Lu3ahGK9eWNUSLRVfpd6ikijgYEwfzAdBgNVHQ4EFgQUo2Ln+ZmSD91OtTTW8zqv2s9IrSswHwYDVR0jBBgwFoAUo2Ln\
        +ZmSD91OtTTW8zqv2s9IrSswDwYDVR0TAQH/BAUwAwEB/zAsBgNVHREEJTAjgglsb2NhbGhvc3SHBH8AAAGHEAAAAAAAAAAA\
        AAAAAAAAAAEwBQYDK2VwA0EABaq3wulHTYcqBHVe+dCKC71gY/zYo2MrLpp3EBiNE/gqptguTG+WI5iMkTUGF+9TpomcU2+t\
        yOwRSuTZNO8XCA==";

    fn made() -> Vec<u8> {
        STANDARD.decode(MADE).expect("base64")
    }

    #[test]
    fn a_certificate_of_openssl_is_read() {
        let read = Certificate::read(&made()).expect("a certificate");
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("server.dc1.consul", "server.dc1.consul"));
        assert_eq!(read.names, ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(humantime::format_rfc3339(read.not_before).to_string(), "2026-11-22T17:54:39Z");
        assert_eq!(humantime::format_rfc3339(read.not_after).to_string(), "2126-10-29T17:54:39Z");
    }

    #[test]
    fn no_end_in_the_middle_makes_it_panic() {
        let der = made();
        for length in 0..der.len() {
            assert_eq!(Certificate::read(&der[..length]), None, "the first {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&bytes);
        }

        #[test]
        fn no_changed_byte_makes_it_panic_or_paint(at: proptest::sample::Index, byte: u8) {
            let mut der = made();
            let at = at.index(der.len());
            der[at] = byte;
            if let Some(read) = Certificate::read(&der) {
                let texts = read.names.iter().chain([&read.subject, &read.issuer]);
                prop_assert!(texts.flat_map(|text| text.chars()).all(|c| !c.is_control()));
            }
        }
    }
}
