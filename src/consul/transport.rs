//! What lies below HTTP where ureq has nothing of its own: connections to a unix socket, and finding the addresses of the
//! agent. Both stand on ureq's `unversioned` interfaces, which may change with a minor release.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use std::os::fd::AsRawFd;
use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// How long a looked-up address is used without asking again: long enough for one run, short enough for a name that
/// follows a fail-over.
const FRESH: Duration = Duration::from_secs(10);

/// Finds the addresses of the agent. ureq asks before every request, even one on an open connection, and starts a thread
/// each time; so addresses in figures and `localhost` are answered at once, and a looked-up one is kept for a while. When
/// the name server fails, the last answer still counts: an outage of DNS must not cost a lock.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    /// The host as it stands in our URLs, which may be the name in the server's certificate.
    alias: String,
    target: Target,
    inner: DefaultResolver,
    last: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

enum Target {
    /// A unix socket has none.
    None,
    Fixed(Vec<SocketAddr>),
    Name(Uri),
}

impl Names {
    /// For a unix socket.
    pub(super) fn none() -> Self {
        Self::with(String::new(), Target::None)
    }

    /// For `host`, which our URLs call `alias`. Fails only for a host that no URL can carry.
    pub(super) fn of(host: &str, port: u16, alias: &str) -> Option<Self> {
        let target = match host.parse::<IpAddr>() {
            Ok(ip) => Target::Fixed(vec![SocketAddr::new(ip, port)]),
            Err(_) if host == "localhost" => {
                let ips: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                Target::Fixed(ips.map(|ip| SocketAddr::new(ip, port)).to_vec())
            }
            Err(_) => Target::Name(format!("http://{host}:{port}/").parse().ok()?),
        };
        Some(Self::with(alias.to_owned(), target))
    }

    fn with(alias: String, target: Target) -> Self {
        Self(Arc::new(Inner { alias, target, inner: DefaultResolver::default(), last: Mutex::new(None) }))
    }

    /// Asks again next time; called when the addresses led nowhere.
    pub(super) fn forget(&self) {
        if let Some((asked, _)) = self.last().as_mut() {
            *asked = asked.checked_sub(FRESH).unwrap_or(*asked);
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<SocketAddr>)>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filled(&self, addrs: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut result = self.empty();
        for addr in addrs.iter().take(16) {
            result.push(*addr);
        }
        result
    }

    fn look_up(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        self.0.inner.resolve(uri, config, timeout).map_err(|error| match error {
            Error::Io(error) => Error::Other(Box::new(error)),
            other => other,
        })
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("alias", &self.0.alias).finish_non_exhaustive()
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        // A proxy's name is none of ours.
        if uri.host().is_some_and(|host| host != self.0.alias) && !matches!(self.0.target, Target::None) {
            return self.look_up(uri, config, timeout);
        }
        let name = match &self.0.target {
            Target::None => return Ok(self.empty()),
            Target::Fixed(addrs) => return Ok(self.filled(addrs)),
            Target::Name(name) => name,
        };
        let known = self.last().clone();
        if let Some((asked, addrs)) = &known
            && asked.elapsed() < FRESH
        {
            return Ok(self.filled(addrs));
        }
        match (self.look_up(name, config, timeout), known) {
            (Ok(found), _) => {
                *self.last() = Some((Instant::now(), found.to_vec()));
                Ok(found)
            }
            (Err(_), Some((_, addrs))) => Ok(self.filled(&addrs)),
            (Err(error), None) => Err(error),
        }
    }
}

/// Opens connections to a unix socket.
#[derive(Debug)]
pub(super) struct UnixConnector {
    path: PathBuf,
}

impl UnixConnector {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Connector for UnixConnector {
    type Out = UnixTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<UnixTransport>, Error> {
        let stream = match dial(&self.path, details.timeout.not_zero().map(|limit| *limit)) {
            Ok(stream) => Arc::new(stream),
            // A full backlog: connect(2) on a unix socket honours SO_SNDTIMEO with EAGAIN.
            Err(error) if is_timeout(&error) => return Err(Error::Timeout(ureq::Timeout::Connect)),
            Err(error) => return Err(Error::Io(error)),
        };
        let handle = Arc::new(Handle(Arc::downgrade(&stream)));
        let weak: Weak<dyn ShutdownHandle> = Arc::downgrade(&(Arc::clone(&handle) as Arc<dyn ShutdownHandle>));
        (details.register_shutdown)(weak)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers, _handle: handle }))
    }
}

/// connect(2), bounded: std's would wait for ever while the listener's backlog is full.
fn dial(path: &std::path::Path, limit: Option<Duration>) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(limit) = limit {
        let micros = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new((micros / 1_000_000) as _, (micros % 1_000_000) as _))?;
    }
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

struct Handle(Weak<UnixStream>);

impl ShutdownHandle for Handle {
    fn shutdown(&self) {
        if let Some(stream) = self.0.upgrade() {
            // An error means that it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A connection to a unix socket.
pub(super) struct UnixTransport {
    stream: Arc<UnixStream>,
    buffers: LazyBuffers,
    /// The agent keeps only a weak reference.
    _handle: Arc<Handle>,
}

impl fmt::Debug for UnixTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnixTransport")
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        match (&*self.stream).write_all(&self.buffers.output()[..amount]) {
            Err(error) if is_timeout(&error) => Err(Error::Timeout(timeout.reason)),
            result => Ok(result?),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let until = timeout.not_zero().map(|limit| Instant::now() + *limit);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout(timeout.reason));
            }
            self.stream.set_read_timeout(left)?;
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                // A read with a timeout is not restarted after a signal, whatever SA_RESTART says (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Error::Timeout(timeout.reason)),
                Err(error) => return Err(error.into()),
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
            }
        }
    }

    /// Open, and nothing to read: a byte that nobody asked for belongs to no answer of ours.
    fn is_open(&mut self) -> bool {
        let quiet = |mut stream: &UnixStream| {
            stream.set_nonblocking(true)?;
            let result = stream.read(&mut [0]);
            stream.set_nonblocking(false)?;
            result
        };
        quiet(&self.stream).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(names: &Names, url: &str) -> Result<Vec<SocketAddr>, Error> {
        let url: Uri = url.parse().expect("a URL");
        let config = ureq::Agent::new_with_defaults().config().clone();
        names.resolve(&url, &config, NextTimeout::default()).map(|addrs| addrs.to_vec())
    }

    #[test]
    fn figures_and_localhost_need_no_name_server() {
        let addr = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let names = Names::of("10.1.2.3", 8500, "10.1.2.3").expect("fit");
        assert_eq!(resolve(&names, "http://10.1.2.3:8500/").expect("known"), [addr("10.1.2.3:8500")]);
        let names = Names::of("localhost", 8500, "localhost").expect("fit");
        let both = [addr("127.0.0.1:8500"), addr("[::1]:8500")];
        assert_eq!(resolve(&names, "http://localhost:8500/").expect("known"), both);
        assert_eq!(resolve(&Names::none(), "http://localhost/").expect("none needed"), []);
    }

    #[test]
    fn the_name_in_the_certificate_leads_to_the_true_host() {
        let names = Names::of("10.1.2.3", 8501, "server.dc1.consul").expect("fit");
        let found = resolve(&names, "https://server.dc1.consul:8501/").expect("known");
        assert_eq!(found, ["10.1.2.3:8501".parse().expect("an address")]);
    }

    #[test]
    fn the_last_answer_counts_while_the_name_server_fails() {
        // A label of 64 bytes is no name, so that the lookup fails on this machine already.
        let host = "x".repeat(64);
        let url = format!("http://{host}:8500/");
        let names = Names::of(&host, 8500, &host).expect("fit");
        assert!(matches!(resolve(&names, &url), Err(Error::Other(_))));
        let known: SocketAddr = "10.1.2.3:8500".parse().expect("an address");
        *names.last() = Some((Instant::now(), vec![known]));
        names.forget();
        assert_eq!(resolve(&names, &url).expect("the last answer"), [known]);
    }

    #[test]
    fn a_socket_with_a_full_backlog_is_given_up_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("full");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let limit = Duration::from_millis(50);
        let started = Instant::now();
        let mut taken = Vec::new();
        // The backlog of std's listeners is bounded by net.core.somaxconn.
        let error = loop {
            match dial(&path, Some(limit)) {
                Ok(stream) => taken.push(stream),
                Err(error) => break error,
            }
        };
        assert!(is_timeout(&error), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
