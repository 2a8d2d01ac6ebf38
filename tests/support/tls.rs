//! Certificates for an agent's HTTPS port, made by Consul's own `consul tls`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::agent::consul_binary;

/// How an agent serves HTTPS, beside its plain port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// With a certificate of its own.
    Server,
    /// With a certificate of its own, and only to clients that show one (`verify_incoming_https`).
    Mutual,
}

/// A certificate authority, with one certificate for the server and one for a client. The server's is good for
/// `server.dc1.consul`, `localhost` and 127.0.0.1.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub server_cert: PathBuf,
    pub server_key: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in this folder.
    pub fn make(dir: &Path) -> Self {
        for arguments in
            [&["ca", "create"][..], &["cert", "create", "-server", "-dc=dc1"], &["cert", "create", "-client"]]
        {
            let output = Command::new(consul_binary())
                .arg("tls")
                .args(arguments)
                .current_dir(dir)
                .output()
                .unwrap_or_else(|error| panic!("cannot run consul tls: {error}"));
            assert!(output.status.success(), "consul tls {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let file = |name: &str| {
            let path = dir.join(name);
            assert!(path.exists(), "consul tls made no {name}");
            path
        };
        Self {
            ca: file("consul-agent-ca.pem"),
            server_cert: file("dc1-server-consul-0.pem"),
            server_key: file("dc1-server-consul-0-key.pem"),
            client_cert: file("dc1-client-consul-0.pem"),
            client_key: file("dc1-client-consul-0-key.pem"),
        }
    }

    /// The part of an agent's configuration that names them.
    pub fn hcl(&self, tls: Tls) -> String {
        format!(
            "ca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\nverify_incoming_https = {}\n",
            self.ca,
            self.server_cert,
            self.server_key,
            tls == Tls::Mutual
        )
    }
}
