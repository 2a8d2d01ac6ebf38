//! The smallest HTTP client that will do: one request a connection, HTTP/1.0, so that the body ends with it. It shares
//! no line with the client under test.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Takes a whole answer apart; none if there is no complete head.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Some(Self { status, headers, body: raw[end + 4..].to_vec() })
    }
}

/// Sends a request to `addr` (host:port) and reads the answer. `bound` is for connecting and for each pause in reading.
pub fn request(
    addr: &str,
    method: &str,
    target: &str,
    token: Option<&str>,
    body: &[u8],
    bound: Duration,
) -> io::Result<Reply> {
    let socket = addr.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&socket, bound)?;
    stream.set_read_timeout(Some(bound))?;
    stream.set_write_timeout(Some(bound))?;
    let token = token.map(|token| format!("X-Consul-Token: {token}\r\n")).unwrap_or_default();
    let head = format!("{method} {target} HTTP/1.0\r\nHost: {addr}\r\n{token}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    Reply::parse(&raw).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
