//! A proxy in front of an agent that misbehaves as real ones do, on order. It understands HTTP; a TLS connection it
//! passes through, where only the faults of connections concern it.
//!
//! Every order ([`Proxy::set`], [`Proxy::rules`]) wakes all connections at once: they poll a pipe that closes with it,
//! and nothing here polls for time.

mod connection;
mod order;
mod request;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::agent::free_port;
use connection::Connection;
use order::{Change, Order, Publisher, Wake, wait};
use request::Request;

/// What goes wrong. Unless it says otherwise, it does so for requests that arrive from now on.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The request reaches Consul late.
    Delay(Duration),
    /// Consul gets the request at once, its answer comes late.
    DelayReply(Duration),
    /// Half-open: connections are accepted and stay open, and nothing is ever answered. As the fault of everything
    /// ([`Proxy::set`]) it takes answers that are under way too; what it has swallowed stays so when it is over.
    Drop,
    /// The port is closed, and so are all connections. Only for everything.
    Refuse,
    /// The connection is reset (RST) when the request has come. As the fault of everything: all present ones at once.
    Reset,
    /// All connections are reset again and again, with this time between. Only for everything.
    ResetEvery(Duration),
    /// This answer, Consul hears nothing.
    Status(u16, String),
    /// 307 to this URL, Consul hears nothing.
    Redirect(String),
    /// Consul's answer, announced as longer than it is; then the connection is closed.
    Truncate,
    /// 200 with half a JSON document; Consul hears nothing.
    Malformed,
    /// 200 with a JSON string of this many bytes; Consul hears nothing.
    Huge(usize),
    /// The connection is closed without an answer; Consul hears nothing.
    CloseUnanswered,
    /// Consul does what was asked; the connection is closed without its answer.
    LoseReply,
    /// Consul does what was asked; 200 with this JSON comes in place of its answer.
    Instead(String),
    /// The last answer of status 200, or 409 as a transaction's refusal, to the same method and path, whatever query and
    /// body; passed on if there is none yet.
    Stale,
}

/// A fault for some requests.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    method: Option<String>,
    prefix: String,
    every: usize,
    times: usize,
    matched: usize,
}

impl Rule {
    /// For all requests.
    pub fn new(fault: Fault) -> Self {
        Self { fault, method: None, prefix: String::new(), every: 1, times: usize::MAX, matched: 0 }
    }

    /// Only for this method.
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// Only for paths that begin so.
    pub fn prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }

    /// Only for each `n`th of the requests that match; 5 is a fault rate of 20 %.
    pub fn one_in(self, n: usize) -> Self {
        Self { every: n, ..self }
    }

    /// Only so many times.
    pub fn times(self, n: usize) -> Self {
        Self { times: n, ..self }
    }

    fn applies(&mut self, request: &Request) -> bool {
        if self.method.as_ref().is_some_and(|method| *method != request.method)
            || !request.target.starts_with(&self.prefix)
        {
            return false;
        }
        self.matched += 1;
        let applies = self.times > 0 && self.matched.is_multiple_of(self.every);
        self.times -= usize::from(applies);
        applies
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Connections are numbered from 1.
    pub connection: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub body: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What was done to it.
    pub fault: Fault,
}

impl Seen {
    /// The header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

/// A proxy on a port of its own; dropping it closes everything.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

/// What the proxy's threads share.
struct Shared {
    upstream: String,
    /// The path that Consul's own paths are below.
    prefix: String,
    orders: Publisher,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    recorded: Mutex<HashMap<(String, String), Vec<u8>>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

impl Proxy {
    /// A faultless proxy in front of `upstream` (host:port).
    pub fn start(upstream: &str) -> Self {
        Self::start_below("", upstream)
    }

    /// As [`Proxy::start`], with Consul below the path `prefix`, such as `/front`; anything else is a 404.
    pub fn start_below(prefix: &str, upstream: &str) -> Self {
        let shared = Shared {
            upstream: upstream.to_owned(),
            prefix: prefix.to_owned(),
            orders: Publisher::default(),
            rules: Mutex::default(),
            seen: Mutex::default(),
            recorded: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        };
        let mut proxy = Self { shared: Arc::new(shared), port: free_port(Ipv4Addr::LOCALHOST), acceptor: None };
        proxy.listen();
        proxy
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// This fault for everything, in place of all before.
    pub fn set(&mut self, fault: Fault) {
        *lock(&self.shared.rules) = vec![Rule::new(fault.clone())];
        match fault {
            Fault::Refuse => return self.close(Order::Close),
            Fault::Drop => self.shared.orders.publish(Order::Swallow),
            Fault::Reset => self.shared.orders.publish(Order::Reset),
            Fault::ResetEvery(time) => {
                self.shared.orders.publish(Order::None);
                let (shared, change) = (Arc::clone(&self.shared), self.shared.orders.latest());
                thread::spawn(move || shared.reset_every(time, change));
            }
            _ => self.shared.orders.publish(Order::None),
        }
        self.listen();
    }

    /// These rules, in place of all before; the first that applies to a request is its fault. [`Fault::Refuse`] and
    /// [`Fault::ResetEvery`] are no faults of a request.
    pub fn rules(&mut self, rules: Vec<Rule>) {
        for Rule { fault, .. } in &rules {
            assert!(!matches!(fault, Fault::Refuse | Fault::ResetEvery(_)), "{fault:?} is only for everything: set()");
        }
        *lock(&self.shared.rules) = rules;
        self.shared.orders.publish(Order::None);
        self.listen();
    }

    /// Resets all present connections once, and changes nothing else.
    pub fn reset_connections(&self) {
        self.shared.orders.publish(Order::ResetOnce);
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many connections are open at the moment.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    fn listen(&mut self) {
        if self.acceptor.is_some() {
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the proxy's port is free");
        let (shared, change) = (Arc::clone(&self.shared), self.shared.orders.latest());
        self.acceptor = Some(thread::spawn(move || shared.accept(&listener, change)));
    }

    /// Returns when the port is closed.
    fn close(&mut self, order: Order) {
        self.shared.orders.publish(order);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the proxy accepts without a fault");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.orders.publish(Order::Close);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener, mut change: Arc<Change>) {
        loop {
            match wait(&mut change, &[listener.as_fd()], None) {
                Wake::Order(Order::Close) => return,
                Wake::Ready(_) => {
                    let Ok((client, _)) = listener.accept() else { continue };
                    let number = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    self.open.fetch_add(1, Ordering::SeqCst);
                    let (shared, change) = (Arc::clone(&self), Arc::clone(&change));
                    thread::spawn(move || {
                        Connection::new(&shared, client, change, number).serve();
                        shared.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
                _ => {}
            }
        }
    }

    /// Until there is another fault.
    fn reset_every(&self, time: Duration, mut change: Arc<Change>) {
        loop {
            match wait(&mut change, &[], Some(Instant::now() + time)) {
                Wake::Late => self.orders.publish(Order::ResetOnce),
                Wake::Order(Order::ResetOnce) => {}
                _ => return,
            }
        }
    }

    /// Writes the request down and says what is to go wrong with it.
    fn receive(&self, connection: usize, request: &Request) -> Fault {
        let mut rules = lock(&self.rules);
        let fault = rules.iter_mut().find_map(|rule| rule.applies(request).then(|| rule.fault.clone()));
        let fault = fault.unwrap_or(Fault::None);
        drop(rules);
        lock(&self.seen).push(Seen {
            at: Instant::now(),
            connection,
            method: request.method.clone(),
            target: request.target.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
            headers: request.headers.clone(),
            fault: fault.clone(),
        });
        fault
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of the proxy panics")
}
