//! Which Consul, on which ports, with which configuration.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use super::super::tls::Certificates;
use super::Options;

/// The ports of one agent.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
    pub server: u16,
    pub serf: u16,
}

impl Ports {
    /// Four free ports. They are from below the range that the kernel gives to outgoing connections, so that none is
    /// taken while an agent is down for a moment.
    pub fn choose(ip: Ipv4Addr) -> Self {
        loop {
            let [http, https, server, serf] = [(); 4].map(|()| free_port(ip));
            // Drawn at random, two of them can be one.
            if HashSet::from([http, https, server, serf]).len() == 4 {
                return Self { http, https, server, serf };
            }
        }
    }
}

/// A port that is free for TCP and UDP at this moment and that the kernel gives to nobody unasked.
pub fn free_port(ip: Ipv4Addr) -> u16 {
    (0..200)
        .map(|_| fastrand::u16(12_000..32_000))
        .find(|port| TcpListener::bind((ip, *port)).is_ok() && UdpSocket::bind((ip, *port)).is_ok())
        .expect("one of 200 ports is free")
}

/// The text of the configuration file.
pub fn configuration(
    ip: Ipv4Addr,
    ports: Ports,
    options: &Options,
    tls: Option<&Certificates>,
    socket: &Path,
) -> String {
    let Ports { http, https, server, serf } = ports;
    let https = if tls.is_some() { i32::from(https) } else { -1 };
    let socket = if options.unix_socket { format!(" unix://{}", socket.display()) } else { String::new() };
    let mut hcl = format!(
        "ports {{\n  http = {http}, https = {https}, server = {server}, serf_lan = {serf}\n  \
         serf_wan = -1, dns = -1, grpc = -1\n}}\n\
         addresses {{ http = \"{ip}{socket}\", https = \"{ip} 127.0.0.2\" }}\n\
         disable_update_check = true\n"
    );
    if options.durable {
        hcl += "performance { raft_multiplier = 1 }\n";
    }
    if options.acl {
        hcl += "acl { enabled = true, default_policy = \"deny\" }\n";
    }
    if let Some(certificates) = tls {
        hcl += &certificates.hcl(options.tls);
    }
    hcl
}

/// The Consul to test against: CONSUL_BIN, else the first on PATH, else the one that scripts/fetch-consul has fetched.
pub fn consul_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("CONSUL_BIN").filter(|name| !name.is_empty()) {
        return std::path::absolute(named).expect("the working directory exists");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    std::env::split_paths(&path)
        .map(|folder| folder.join("consul"))
        .chain([root.join(target).join("consul/consul")])
        .find(|candidate| candidate.is_file())
        .expect("no Consul to test against: run scripts/fetch-consul, or name one in CONSUL_BIN")
}
