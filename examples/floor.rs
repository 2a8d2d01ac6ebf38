//! The floor under a free run: the requests of `consul-lock run KEY -- true`, the processes that it starts, and nothing else.
//! No deadline, no signal, no error that is told from another: what a run takes above this is its own doing.
//!
//!     cargo run --release --example floor -- KEY            one connection, one request after another
//!     cargo run --release --example floor -- --two KEY      the read on a second connection, beside the session's creation
//!
//! Consul is at CONSUL_HTTP_ADDR (host:port). The guard is this program again, which starts `true` and waits for it.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--guard"] => start("true", &[]),
        ["--two", key] => run(key, true),
        [key] => run(key, false),
        _ => Err(io::Error::other("usage: floor [--two] KEY")),
    }
}

fn run(key: &str, two: bool) -> io::Result<()> {
    let address = env::var("CONSUL_HTTP_ADDR").unwrap_or_else(|_| "127.0.0.1:8500".to_owned());
    let read = format!("/v1/kv/{key}?consistent");
    let mut connection = Connection::open(&address)?;
    let reading = two.then(|| {
        let (address, read) = (address.clone(), read.clone());
        thread::spawn(move || Connection::open(&address)?.ask("GET", &read, ""))
    });
    let session = r#"{"Behavior":"release","LockDelay":"30s","Name":"floor","TTL":"15s"}"#;
    let created = connection.ask("PUT", "/v1/session/create", session)?;
    let session = created.split('"').nth(3).ok_or_else(|| io::Error::other(created.clone()))?;
    match reading {
        Some(reading) => reading.join().map_err(|_| io::Error::other("the reader failed"))??,
        None => connection.ask("GET", &read, "")?,
    };
    let take = format!(
        r#"[{{"KV":{{"Verb":"check-not-exists","Key":"{key}"}}}},{{"KV":{{"Verb":"lock","Key":"{key}","Session":"{session}","Value":""}}}}]"#
    );
    connection.ask("PUT", "/v1/txn", &take)?;
    start(env::current_exe()?, &["--guard"])?;
    let give = format!(
        r#"[{{"KV":{{"Verb":"check-session","Key":"{key}","Session":"{session}"}}}},{{"KV":{{"Verb":"delete","Key":"{key}"}}}}]"#
    );
    connection.ask("PUT", "/v1/txn", &give)?;
    connection.ask("PUT", &format!("/v1/session/destroy/{session}"), "")?;
    Ok(())
}

fn start(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> io::Result<()> {
    let status = Command::new(program).args(args).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

struct Connection(TcpStream);

impl Connection {
    fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a request in one piece, and reads an answer with a Content-Length. One that is neither 200 nor 404 is an error.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: consul\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            let read = self.0.read(&mut part)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let fine = head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 404");
                return if fine { Ok(body.to_owned()) } else { Err(io::Error::other(text.into_owned())) };
            }
        }
    }
}
