//! One client's connection through the proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::PollFlags;
use nix::sys::socket::{setsockopt, sockopt};

use super::super::http::Reply;
use super::order::{Change, Order, Wake, wait, wait_for};
use super::request::{Request, answer};
use super::{Fault, Shared, lock};

/// A connection and the orders that concern it.
pub struct Connection<'a> {
    shared: &'a Shared,
    client: TcpStream,
    change: Arc<Change>,
    number: usize,
}

/// The connection is at its end.
struct Ended;

type Step<T> = Result<T, Ended>;

impl<'a> Connection<'a> {
    pub fn new(shared: &'a Shared, client: TcpStream, change: Arc<Change>, number: usize) -> Self {
        let _ = client.set_nodelay(true);
        // A client that does not read holds one thread for so long and no longer.
        let _ = client.set_write_timeout(Some(Duration::from_secs(10)));
        Self { shared, client, change, number }
    }

    /// Serves requests until the client, a fault or an order ends the connection.
    pub fn serve(mut self) {
        let mut buffer = Vec::new();
        while self.serve_one(&mut buffer).is_ok() {}
    }

    fn serve_one(&mut self, buffer: &mut Vec<u8>) -> Step<()> {
        let request = loop {
            if let Some(request) = Request::take(buffer) {
                break request;
            }
            self.until_ready(None)?;
            self.read_some(buffer)?;
            // The first byte of a TLS handshake (RFC 8446, 5.1), and of no HTTP method.
            if buffer.first() == Some(&0x16) {
                return self.tunnel(buffer);
            }
        };
        self.treat(&request)?;
        if request.is_last { Err(Ended) } else { Ok(()) }
    }

    fn treat(&mut self, request: &Request) -> Step<()> {
        match self.shared.receive(self.number, request) {
            Fault::None | Fault::ResetEvery(_) => self.pass(request),
            Fault::Delay(time) => {
                self.pause(time)?;
                self.pass(request)
            }
            Fault::DelayReply(time) => {
                let reply = self.forward(request)?;
                self.pause(time)?;
                self.send(&reply)
            }
            Fault::Drop => self.swallow(),
            Fault::Reset => self.reset(),
            Fault::Status(status, body) => {
                let headers = [("Content-Type".to_owned(), "text/plain".to_owned())];
                self.send(&answer(status, &headers, body.as_bytes(), body.len()))
            }
            Fault::Redirect(url) => self.send(&answer(307, &[("Location".to_owned(), url)], b"", 0)),
            Fault::Truncate => {
                let reply = self.forward(request)?;
                let Some(reply) = Reply::parse(&reply) else { return Err(Ended) };
                self.send(&answer(reply.status, &reply.headers, &reply.body, reply.body.len() + 64))?;
                Err(Ended)
            }
            Fault::Malformed => self.send_json(br#"{"ID": "0a1b2c", "Results": [{"KV": {"#),
            Fault::Huge(size) => self.send_json(&[b"\"", vec![b'a'; size].as_slice(), b"\""].concat()),
            Fault::CloseUnanswered | Fault::Refuse => Err(Ended),
            Fault::LoseReply => self.forward(request).and(Err(Ended)),
            Fault::Instead(body) => {
                self.forward(request)?;
                self.send_json(body.as_bytes())
            }
            Fault::Stale => {
                let key = (request.method.clone(), request.path().to_owned());
                let recorded = lock(&self.shared.recorded).get(&key).cloned();
                match recorded {
                    Some(reply) => self.send(&reply),
                    None => self.pass(request),
                }
            }
        }
    }

    fn pass(&mut self, request: &Request) -> Step<()> {
        let reply = self.forward(request)?;
        self.send(&reply)
    }

    /// Sends the request to Consul and waits for the whole answer, while the client waits. A Consul that is not there
    /// is a 502, as from any proxy.
    fn forward(&mut self, request: &Request) -> Step<Vec<u8>> {
        let bad_gateway = || answer(502, &[], b"Bad Gateway", 11);
        let Some(passed_on) = request.to_upstream(&self.shared.prefix) else {
            return Ok(answer(404, &[], b"404 page not found", 18));
        };
        let Ok(mut upstream) = TcpStream::connect(&self.shared.upstream) else { return Ok(bad_gateway()) };
        if upstream.write_all(&passed_on).is_err() {
            return Ok(bad_gateway());
        }
        let mut raw = Vec::new();
        loop {
            self.until_ready(Some(&upstream))?;
            let mut chunk = [0; 16384];
            match upstream.read(&mut chunk) {
                Ok(length @ 1..) => raw.extend_from_slice(&chunk[..length]),
                Ok(0) | Err(_) => break,
            }
        }
        let Some(reply) = Reply::parse(&raw) else { return Ok(bad_gateway()) };
        if reply.header("content-length").is_some_and(|length| length != reply.body.len().to_string()) {
            // Consul died in the middle of its answer.
            return Err(Ended);
        }
        let bytes = answer(reply.status, &reply.headers, &reply.body, reply.body.len());
        if matches!(reply.status, 200 | 409) {
            let key = (request.method.clone(), request.path().to_owned());
            lock(&self.shared.recorded).insert(key, bytes.clone());
        }
        Ok(bytes)
    }

    /// Waits until there is something to read from the client, or from `upstream` while the client stays.
    fn until_ready(&mut self, upstream: Option<&TcpStream>) -> Step<()> {
        loop {
            let wake = match upstream {
                None => wait(&mut self.change, &[self.client.as_fd()], None),
                Some(upstream) => {
                    let wanted = [(upstream.as_fd(), PollFlags::POLLIN), (self.client.as_fd(), client_has_gone())];
                    wait_for(&mut self.change, &wanted, None)
                }
            };
            match wake {
                Wake::Ready(0) => return Ok(()),
                Wake::Ready(_) => return Err(Ended),
                Wake::Late => {}
                Wake::Order(order) => self.obey(order)?,
            }
        }
    }

    /// Waits for so long, as the client does.
    fn pause(&mut self, time: Duration) -> Step<()> {
        let until = Instant::now() + time;
        loop {
            let wanted = [(self.client.as_fd(), client_has_gone())];
            match wait_for(&mut self.change, &wanted, Some(until)) {
                Wake::Late => return Ok(()),
                Wake::Ready(_) => return Err(Ended),
                Wake::Order(order) => self.obey(order)?,
            }
        }
    }

    fn obey(&mut self, order: Order) -> Step<()> {
        match order {
            Order::None => Ok(()),
            Order::Swallow => self.swallow(),
            Order::Close => Err(Ended),
            Order::Reset | Order::ResetOnce => self.reset(),
        }
    }

    /// Reads and says nothing, until the client gives up or an order ends it.
    fn swallow(&mut self) -> Step<()> {
        loop {
            match wait(&mut self.change, &[self.client.as_fd()], None) {
                Wake::Ready(_) => self.read_some(&mut Vec::new())?,
                Wake::Order(Order::None | Order::Swallow) | Wake::Late => {}
                Wake::Order(Order::Close) => return Err(Ended),
                Wake::Order(Order::Reset | Order::ResetOnce) => return self.reset(),
            }
        }
    }

    /// With this setting close(2) sends RST instead of FIN (socket(7), SO_LINGER).
    fn reset(&mut self) -> Step<()> {
        let _ = setsockopt(&self.client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
        Err(Ended)
    }

    fn read_some(&mut self, buffer: &mut Vec<u8>) -> Step<()> {
        let mut chunk = [0; 16384];
        match self.client.read(&mut chunk) {
            Ok(length @ 1..) => buffer.extend_from_slice(&chunk[..length]),
            Ok(0) | Err(_) => return Err(Ended),
        }
        Ok(())
    }

    fn send_json(&mut self, body: &[u8]) -> Step<()> {
        let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
        self.send(&answer(200, &headers, body, body.len()))
    }

    fn send(&mut self, bytes: &[u8]) -> Step<()> {
        self.client.write_all(bytes).map_err(|_| Ended)
    }

    /// Passes a connection through that the proxy cannot look into.
    fn tunnel(&mut self, begun: &[u8]) -> Step<()> {
        let Ok(mut upstream) = TcpStream::connect(&self.shared.upstream) else { return Err(Ended) };
        upstream.write_all(begun).map_err(|_| Ended)?;
        let mut chunk = [0; 16384];
        loop {
            let (from, to) = match wait(&mut self.change, &[self.client.as_fd(), upstream.as_fd()], None) {
                Wake::Ready(0) => (&mut self.client, &mut upstream),
                Wake::Ready(_) => (&mut upstream, &mut self.client),
                Wake::Late => continue,
                Wake::Order(order) => {
                    self.obey(order)?;
                    continue;
                }
            };
            match from.read(&mut chunk) {
                Ok(length @ 1..) => to.write_all(&chunk[..length]).map_err(|_| Ended)?,
                Ok(0) | Err(_) => {
                    let _ = to.shutdown(Shutdown::Write);
                    return Err(Ended);
                }
            }
        }
    }
}

/// The events by which poll(2) tells that the client closes, without waking at anything else it sends.
fn client_has_gone() -> PollFlags {
    PollFlags::from_bits_retain(libc::POLLRDHUP)
}
