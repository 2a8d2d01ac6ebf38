//! Where Consul is and who we are to it: the flags of that name, spelled as `consul` spells them, on every command.

use std::path::PathBuf;

use clap::Args;
use consul_lock::Client;
use consul_lock::consul::{ConfigError, Secret, Settings};

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Consul's address [CONSUL_HTTP_ADDR].
    ///
    /// As host:port, http://, https:// or unix://; without any, http://127.0.0.1:8500.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http_addr: Option<String>,
    /// ACL token; others can see it in a list of processes, so rather use a file [CONSUL_HTTP_TOKEN].
    #[arg(long, hide_short_help = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// ACL token's file [CONSUL_HTTP_TOKEN_FILE].
    ///
    /// It wins over --token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// CA certificate in PEM [CONSUL_CACERT].
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Folder of CA certificates in PEM [CONSUL_CAPATH].
    #[arg(long, hide_short_help = true, value_name = "DIR")]
    pub(crate) ca_path: Option<PathBuf>,
    /// Client certificate in PEM [CONSUL_CLIENT_CERT].
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The client certificate's key in PEM [CONSUL_CLIENT_KEY].
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// Name that the server's certificate must carry [CONSUL_TLS_SERVER_NAME].
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// Datacenter of the lock [default: the agent's].
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub(crate) datacenter: Option<String>,
    /// Namespace, Consul Enterprise [CONSUL_NAMESPACE].
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Partition, Consul Enterprise [CONSUL_PARTITION].
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub(crate) partition: Option<String>,
}

impl Connection {
    /// A client with these flags, else with the environment's variables, else with the defaults.
    ///
    /// # Errors
    /// What cannot be used, with its exit code.
    pub(crate) fn client(self) -> Result<Client, ConfigError> {
        let settings = Settings {
            http_addr: self.http_addr,
            token: self.token.map(Secret::new),
            token_file: self.token_file,
            ca_file: self.ca_file,
            ca_path: self.ca_path,
            client_cert: self.client_cert,
            client_key: self.client_key,
            tls_server_name: self.tls_server_name,
            datacenter: self.datacenter,
            namespace: self.namespace,
            partition: self.partition,
        };
        Client::new(settings.resolve_here()?)
    }

    /// The first connection flag that was given, for `--local`, which has no use for any.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--http-addr", self.http_addr.is_some()),
            ("--token", self.token.is_some()),
            ("--token-file", self.token_file.is_some()),
            ("--ca-file", self.ca_file.is_some()),
            ("--ca-path", self.ca_path.is_some()),
            ("--client-cert", self.client_cert.is_some()),
            ("--client-key", self.client_key.is_some()),
            ("--tls-server-name", self.tls_server_name.is_some()),
            ("--datacenter", self.datacenter.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--partition", self.partition.is_some()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }
}
