//! A real Consul agent for a test of its own: it starts in about 0.3 s, on ports and in a folder that nobody else has,
//! and is gone with the value, or with the test process.

mod api;
mod setup;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::tls::{Certificates, Tls};
use super::ward::Ward;
use super::{eventually, process_state};
pub(super) use setup::Ports;
use setup::configuration;
pub use setup::{consul_binary, free_port};

/// How long anything of an agent's may take before the test gives up; generous, for slow machines.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `LockFlagValue` of Consul's Go client, which marks a key as a lock.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// What an agent is to be. The default is a plain `consul agent -dev`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// ACLs on, default deny; see [`Agent::root_token`] and [`Agent::token_with`].
    pub acl: bool,
    /// HTTPS beside the plain port.
    pub tls: Tls,
    /// A unix socket beside the plain port.
    pub unix_socket: bool,
    /// A server with a data directory instead of `-dev`: it remembers everything over [`Agent::restart`].
    pub durable: bool,
    /// Further configuration.
    pub hcl: String,
}

/// A place in a cluster.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Dev,
    Server { expect: usize, join: Vec<String> },
    Client { join: Vec<String> },
}

/// A running agent.
pub struct Agent {
    ward: Ward,
    dir: PathBuf,
    ip: Ipv4Addr,
    ports: Ports,
    command: Vec<String>,
    options: Options,
    certificates: Option<Certificates>,
    token: Option<String>,
}

impl Agent {
    /// `consul agent -dev`, ready for sessions.
    pub fn plain() -> Self {
        Self::start(Options::default())
    }

    /// An agent as asked for, ready for sessions.
    pub fn start(options: Options) -> Self {
        let role = if options.durable { Role::Server { expect: 1, join: Vec::new() } } else { Role::Dev };
        Self::start_as(&role, Ipv4Addr::LOCALHOST, &options)
    }

    /// Starts until the ports are really ours: another process may take one between our look and the agent's.
    pub(super) fn start_as(role: &Role, ip: Ipv4Addr, options: &Options) -> Self {
        for _ in 0..5 {
            let mut agent = Self::launch(role, ip, Ports::choose(ip), options);
            if agent.is_up() && agent.make_ready() {
                return agent;
            }
        }
        panic!("five times an agent's ports were taken by somebody else");
    }

    /// Starts the process and waits for nothing.
    pub(super) fn launch(role: &Role, ip: Ipv4Addr, ports: Ports, options: &Options) -> Self {
        let dir = tempfile::Builder::new().prefix("consul-lock-agent-").tempdir().expect("a temporary folder").keep();
        let certificates = (options.tls != Tls::Off).then(|| Certificates::make(&dir));
        // Two files, since Consul merges what stands in two and takes no block twice in one.
        let (config, further) = (dir.join("agent.hcl"), dir.join("further.hcl"));
        let text = configuration(ip, ports, options, certificates.as_ref(), &dir.join("http.sock"));
        fs::write(&config, text).expect("the configuration can be written");
        fs::write(&further, &options.hcl).expect("the configuration can be written");

        let mut command = vec![consul_binary().display().to_string(), "agent".into()];
        command.extend([format!("-bind={ip}"), format!("-client={ip}"), format!("-node=node-{ip}-{}", ports.http)]);
        command.extend([&config, &further].map(|file| format!("-config-file={}", file.display())));
        command.push("-log-level=debug".into());
        let join = match role {
            Role::Dev => {
                command.push("-dev".into());
                &[][..]
            }
            Role::Server { expect, join } => {
                command.extend(["-server".into(), format!("-bootstrap-expect={expect}")]);
                join
            }
            Role::Client { join } => join,
        };
        if !matches!(role, Role::Dev) {
            command.extend([format!("-data-dir={}", dir.join("data").display()), "-retry-interval=1s".into()]);
        }
        command.extend(join.iter().map(|peer| format!("-retry-join={peer}")));

        let ward = Ward::start(&dir, &dir.join("agent.log"), &command);
        Self { ward, dir, ip, ports, command, options: options.clone(), certificates, token: None }
    }

    /// Waits until the agent answers over HTTP; false if it died for a port that was taken. It need not have a leader.
    pub(super) fn is_up(&self) -> bool {
        let start = Instant::now();
        loop {
            if self.ask("GET", "/v1/status/leader", b"", Duration::from_secs(5)).is_ok() {
                return true;
            }
            if !self.ward.is_alive() {
                assert!(self.log().contains("address already in use"), "the agent died:\n{}", self.log());
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "the agent does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until there is a leader and this agent's own node is registered and healthy: only then can a session be
    /// bound to it.
    ///
    /// False if the agent died for a port that was taken. Whoever has the port may be another test's agent, and answer
    /// in its place: so one that is alone must name itself as the leader.
    fn make_ready(&mut self) -> bool {
        let alone = self.command.iter().any(|argument| argument == "-dev" || argument == "-bootstrap-expect=1");
        let led = eventually("the agent knows a leader", PATIENCE, || {
            if !self.ward.is_alive() {
                return Some(false);
            }
            let reply = self.ask("GET", "/v1/status/leader", b"", PATIENCE).ok()?.json();
            let leader = reply.as_str()?;
            (if alone { leader == self.raft_addr() } else { leader.contains(':') }).then_some(true)
        });
        if !led {
            return false;
        }
        if self.options.acl && self.token.is_none() {
            let answer = eventually("the ACLs can be set up", PATIENCE, || {
                self.ask("PUT", "/v1/acl/bootstrap", b"", PATIENCE).ok().filter(|reply| reply.status == 200)
            });
            self.token = answer.json()["SecretID"].as_str().map(str::to_owned);
        }
        if let Some(token) = self.token.clone() {
            // The agent registers itself with it; it is kept in memory only. A server that leads again but has not
            // applied its log yet answers 403 "ACL not found" to tokens that it gave out itself.
            let body = json!({ "Token": token }).to_string();
            eventually("the agent has its token", PATIENCE, || {
                let reply = self.ask("PUT", "/v1/agent/token/agent", body.as_bytes(), PATIENCE).ok()?;
                (reply.status == 200).then_some(())
            });
        }
        let health = format!("/v1/health/node/{}?consistent", self.node());
        eventually("the agent's node is registered and healthy", PATIENCE, || {
            let reply = self.ask("GET", &health, b"", PATIENCE).ok()?;
            let checks = reply.json();
            checks.as_array()?.iter().any(|c| c["CheckID"] == "serfHealth" && c["Status"] == "passing").then_some(true)
        })
    }

    /// The plain HTTP port: `127.0.0.1:PORT`.
    pub fn http_addr(&self) -> String {
        format!("{}:{}", self.ip, self.ports.http)
    }

    /// The HTTPS port, by an address that the certificate names: `https://127.0.0.1:PORT`.
    pub fn https_addr(&self) -> String {
        format!("https://{}:{}", self.ip, self.ports.https)
    }

    /// The HTTPS port, by an address that the certificate does not name: `https://127.0.0.2:PORT`. A client must be
    /// told to expect `server.dc1.consul`.
    pub fn https_addr_without_name(&self) -> String {
        format!("https://127.0.0.2:{}", self.ports.https)
    }

    /// The unix socket: `unix:///…/http.sock`.
    pub fn socket_addr(&self) -> String {
        format!("unix://{}", self.dir.join("http.sock").display())
    }

    /// The certificates of [`Options::tls`].
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("the agent was started with TLS")
    }

    /// The name of the agent's node.
    pub fn node(&self) -> String {
        format!("node-{}-{}", self.ip, self.ports.http)
    }

    /// The address of its raft port, as `/v1/status/leader` gives it.
    pub(super) fn raft_addr(&self) -> String {
        format!("{}:{}", self.ip, self.ports.server)
    }

    /// The bootstrap token of [`Options::acl`], which may do everything; the helpers here use it.
    pub fn root_token(&self) -> &str {
        self.token.as_deref().expect("the agent was started with ACLs")
    }

    /// The agent's log, over all its restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("agent.log")).unwrap_or_default()).into_owned()
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.ward.pid().as_raw()
    }

    /// The folder with everything of this agent's.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sends the agent a signal. A client agent leaves its cluster on SIGTERM.
    pub fn signal(&self, signal: Signal) {
        self.ward.signal(signal);
    }

    /// SIGSTOP, and waits until it is stopped: connections are accepted by the kernel and nothing answers.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        eventually("the agent is stopped", PATIENCE, || (process_state(self.pid()) == Some('T')).then_some(()));
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGKILL, and waits until it is dead.
    pub fn kill9(&self) {
        self.signal(Signal::SIGKILL);
        eventually("the agent is dead", PATIENCE, || (!self.ward.is_alive()).then_some(()));
    }

    /// Whether the process runs and is not stopped.
    pub fn is_running(&self) -> bool {
        self.ward.is_alive() && process_state(self.pid()) != Some('T')
    }

    /// Kills the agent if it lives and starts it on the same ports, with the same data directory if it has one
    /// ([`Options::durable`]; `-dev` forgets everything). Returns when it is ready for sessions.
    pub fn restart(&mut self) {
        self.relaunch();
        assert!(self.make_ready(), "the agent died again:\n{}", self.log());
    }

    /// [`Agent::restart`] that returns as soon as the agent answers over HTTP, leader or not.
    pub(super) fn relaunch(&mut self) {
        if self.command.iter().any(|argument| argument == "-dev") {
            self.token = None;
        }
        self.ward.end_keeping_folder();
        self.ward = Ward::start(&self.dir, &self.dir.join("agent.log"), &self.command);
        assert!(self.is_up(), "the agent's ports were taken while it was down:\n{}", self.log());
    }
}
