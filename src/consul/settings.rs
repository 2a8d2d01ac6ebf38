//! How to reach Consul, as typed: the flags and variables that `consul` itself has, spelled and weighed as there. A flag wins
//! over its variable, and an empty variable counts as unset. Whatever cannot be honoured is an error here, before anything
//! is sent.

use std::cell::RefCell;
use std::env::VarError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::HeaderValue;

use super::address::{Address, Origin, Place};
use super::config::{Config, ConfigError, Secret};
use super::quote::plain;
use super::{proxy, tls};

/// The connection flags as typed; `None` is a flag that was not given. See [`Settings::resolve`] for the variables
/// behind them. A token, client certificate or key, name, datacenter, namespace or partition given as `""` means none, whatever
/// its variable says; an empty address or path of another file is an error.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `--http-addr`: `host:port`, `http://…`, `https://…` or `unix://…`.
    pub http_addr: Option<String>,
    /// `--token`.
    pub token: Option<Secret>,
    /// `--token-file`; wins over `--token`.
    pub token_file: Option<PathBuf>,
    /// `--ca-file`: certificates in PEM to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `--ca-path`: a folder of such files.
    pub ca_path: Option<PathBuf>,
    /// `--client-cert`: our certificate, and those between it and its root, in PEM.
    pub client_cert: Option<PathBuf>,
    /// `--client-key`: its key in PEM (PKCS#1, PKCS#8 or SEC1).
    pub client_key: Option<PathBuf>,
    /// `--tls-server-name`: the name to find in the server's certificate instead of the host's.
    pub tls_server_name: Option<String>,
    /// `--datacenter`.
    pub datacenter: Option<String>,
    /// `--namespace` (Consul Enterprise).
    pub namespace: Option<String>,
    /// `--partition` (Consul Enterprise).
    pub partition: Option<String>,
}

/// The environment as [`Settings::resolve`] sees it: empty variables are unset.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Joins the flags with Consul's variables (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE,
    /// CONSUL_HTTP_AUTH, CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT,
    /// CONSUL_CLIENT_KEY, CONSUL_TLS_SERVER_NAME, CONSUL_NAMESPACE, CONSUL_PARTITION; Consul's page "Commands: Environment
    /// Variables") and HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and reads the files that they name. The TLS variables mean
    /// nothing to an address without TLS; a TLS flag with such an address is an error.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::is_usage`] tells wrong words from unfit files.
    pub fn resolve(self, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let env: Env<'_> = &|name| env(name).filter(|value| !value.is_empty());
        let address = self.address(env)?;
        let tls = self.tls(env, &address)?;
        let (token, token_origin) = self.token(env)?.unzip();
        let auth = match env("CONSUL_HTTP_AUTH") {
            Some(auth) => {
                let pair = if auth.contains(':') { auth } else { format!("{auth}:") };
                let origin = Origin::Variable("CONSUL_HTTP_AUTH");
                Some(header(&format!("Basic {}", STANDARD.encode(pair)), origin)?)
            }
            None => None,
        };
        let proxy = match address.place() {
            Place::Tcp { tls, host, port, .. } => proxy::choose(env, *tls, host, *port)?,
            Place::Unix { .. } => None,
        };
        let server_name = match pick(self.tls_server_name, "--tls-server-name", env, "CONSUL_TLS_SERVER_NAME") {
            Some((name, origin)) if address.is_tls() => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                if !name.chars().all(fits) {
                    return Err(ConfigError::ServerName { origin, name });
                }
                if let Some((_, variable)) = proxy {
                    return Err(ConfigError::NameThroughProxy { origin, variable });
                }
                Some(name.to_ascii_lowercase())
            }
            _ => None,
        };
        Ok(Config {
            address: Arc::new(address),
            token,
            token_origin,
            auth,
            datacenter: self.datacenter.filter(|name| !name.is_empty()),
            namespace: pick(self.namespace, "--namespace", env, "CONSUL_NAMESPACE").map(|(name, _)| name),
            partition: pick(self.partition, "--partition", env, "CONSUL_PARTITION").map(|(name, _)| name),
            tls,
            server_name,
            proxy: proxy.map(|(proxy, _)| proxy),
        })
    }

    /// As [`Settings::resolve`], with this process's own environment.
    ///
    /// # Errors
    /// As there, and [`ConfigError::NotText`] for a variable that is no UTF-8: to pass it over would lead to another Consul
    /// than the one that was meant, or there as somebody else.
    pub fn resolve_here(self) -> Result<Config, ConfigError> {
        let unfit = RefCell::new(None);
        let result = self.resolve(&|name| match std::env::var(name) {
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                unfit.borrow_mut().get_or_insert_with(|| name.to_owned());
                None
            }
        });
        match unfit.into_inner() {
            Some(variable) => Err(ConfigError::NotText { variable }),
            None => result,
        }
    }

    fn address(&self, env: Env<'_>) -> Result<Address, ConfigError> {
        let ssl = boolean(env, "CONSUL_HTTP_SSL")?.unwrap_or(false);
        let (text, origin) = match (&self.http_addr, env("CONSUL_HTTP_ADDR")) {
            (Some(text), _) => (text.clone(), Origin::Flag("--http-addr")),
            (None, Some(text)) => (text, Origin::Variable("CONSUL_HTTP_ADDR")),
            (None, None) => {
                return Address::default_with(ssl)
                    .map_err(|reason| ConfigError::Address { origin: Origin::Default, reason });
            }
        };
        Address::parse(&text, origin, ssl).map_err(|reason| ConfigError::Address { origin, reason })
    }

    /// The token: of flags and variables the flags count, and of a file and a text the file.
    fn token(&self, env: Env<'_>) -> Result<Option<(HeaderValue, Origin)>, ConfigError> {
        let (flag, variable) = (Origin::Flag("--token-file"), Origin::Variable("CONSUL_HTTP_TOKEN_FILE"));
        let named = |text: &str, origin| header(text, origin).map(|token| Some((token, origin)));
        let from_file = |path: &Path, origin| {
            let bytes = read(path, origin)?;
            let unfit = || ConfigError::UnfitToken { origin, path: path.to_owned() };
            let token = std::str::from_utf8(&bytes).map_err(|_| unfit())?.trim();
            if token.is_empty() {
                return Err(ConfigError::EmptyToken { origin, path: path.to_owned() });
            }
            named(token, origin).map_err(|_| unfit())
        };
        match (&self.token_file, &self.token) {
            (Some(path), _) => return from_file(path, flag),
            (None, Some(token)) if token.reveal().is_empty() => return Ok(None),
            (None, Some(token)) => return named(token.reveal(), Origin::Flag("--token")),
            (None, None) => {}
        }
        match (env("CONSUL_HTTP_TOKEN_FILE"), env("CONSUL_HTTP_TOKEN")) {
            (Some(path), _) => from_file(Path::new(&path), variable),
            (None, Some(token)) => named(&token, Origin::Variable("CONSUL_HTTP_TOKEN")),
            (None, None) => Ok(None),
        }
    }

    fn tls(&self, env: Env<'_>, address: &Address) -> Result<Option<ureq::tls::TlsConfig>, ConfigError> {
        let verify = boolean(env, "CONSUL_HTTP_SSL_VERIFY")?.unwrap_or(true);
        if !address.is_tls() {
            let flags = [
                ("--ca-file", self.ca_file.is_some()),
                ("--ca-path", self.ca_path.is_some()),
                ("--client-cert", self.client_cert.is_some()),
                ("--client-key", self.client_key.is_some()),
                ("--tls-server-name", self.tls_server_name.is_some()),
            ];
            return match flags.iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(ConfigError::NeedsTls { flag, address: format!("{address:#}") }),
                None => Ok(None),
            };
        }
        let path = |flag: &Option<PathBuf>, name, variable| {
            let text = flag.as_ref().map(|path| path.as_os_str().to_owned());
            match text {
                Some(text) => (!text.is_empty()).then(|| (PathBuf::from(text), Origin::Flag(name))),
                None => env(variable).map(|text| (PathBuf::from(text), Origin::Variable(variable))),
            }
        };
        let roots = match (&self.ca_file, &self.ca_path) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoRoots),
            (Some(file), None) => tls::Roots::File(file.clone(), Origin::Flag("--ca-file")),
            (None, Some(folder)) => tls::Roots::Folder(folder.clone(), Origin::Flag("--ca-path")),
            // Of the two variables the file counts, as in Consul's Go client.
            (None, None) => match (env("CONSUL_CACERT"), env("CONSUL_CAPATH")) {
                (Some(file), _) => tls::Roots::File(file.into(), Origin::Variable("CONSUL_CACERT")),
                (None, Some(folder)) => tls::Roots::Folder(folder.into(), Origin::Variable("CONSUL_CAPATH")),
                (None, None) => tls::Roots::System { file: env("SSL_CERT_FILE"), folder: env("SSL_CERT_DIR") },
            },
        };
        let cert = path(&self.client_cert, "--client-cert", "CONSUL_CLIENT_CERT");
        let key = path(&self.client_key, "--client-key", "CONSUL_CLIENT_KEY");
        let pair = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some((_, given)), None) => {
                return Err(ConfigError::HalfPair {
                    given,
                    missing: other(given, "--client-key", "CONSUL_CLIENT_KEY"),
                });
            }
            (None, Some((_, given))) => {
                return Err(ConfigError::HalfPair {
                    given,
                    missing: other(given, "--client-cert", "CONSUL_CLIENT_CERT"),
                });
            }
        };
        tls::config(roots, pair, verify).map(Some)
    }
}

fn pick(flag: Option<String>, name: &'static str, env: Env<'_>, variable: &'static str) -> Option<(String, Origin)> {
    match flag {
        Some(value) => (!value.is_empty()).then_some((value, Origin::Flag(name))),
        None => env(variable).map(|value| (value, Origin::Variable(variable))),
    }
}

/// The missing half of a pair, named as the given one is.
fn other(given: Origin, flag: &'static str, variable: &'static str) -> &'static str {
    if matches!(given, Origin::Flag(_)) { flag } else { variable }
}

/// A truth value as Go's `strconv.ParseBool` reads it.
fn boolean(env: Env<'_>, variable: &'static str) -> Result<Option<bool>, ConfigError> {
    match env(variable) {
        None => Ok(None),
        Some(text) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Some(false)),
            _ => Err(ConfigError::Boolean {
                variable,
                text: text.chars().filter(|c| !c.is_control()).take(40).collect(),
            }),
        },
    }
}

fn header(text: &str, origin: Origin) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| ConfigError::Header { origin })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The content of a file that a flag or variable names.
pub(super) fn read(path: &Path, origin: Origin) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::Read { origin, path: path.to_owned(), reason: plain(&error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn resolve(settings: Settings, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        settings.resolve(&|name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(content.as_bytes()).expect("written");
        file
    }

    fn token(config: &Config) -> Option<&str> {
        config.token.as_ref().map(|value| value.to_str().expect("ascii"))
    }

    #[test]
    fn nothing_said_means_the_agent_on_this_machine() {
        let config = resolve(Settings::default(), &[]).expect("fit");
        assert_eq!(format!("{:#}", config.address()), "http://127.0.0.1:8500 (default)");
        assert_eq!((config.has_token(), config.tls.is_some(), config.proxy.is_some()), (false, false, false));
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_an_empty_variable_is_unset() {
        let settings = Settings { http_addr: Some("a:1".into()), namespace: Some("n".into()), ..Settings::default() };
        let env = [("CONSUL_HTTP_ADDR", "b:2"), ("CONSUL_NAMESPACE", "m"), ("CONSUL_PARTITION", "p")];
        let config = resolve(settings, &env).expect("fit");
        assert_eq!(format!("{:#}", config.address()), "http://a:1 (--http-addr)");
        assert_eq!(config.namespace.as_deref(), Some("n"));
        assert_eq!(config.partition.as_deref(), Some("p"));
        let config = resolve(Settings::default(), &[("CONSUL_HTTP_ADDR", ""), ("CONSUL_HTTP_TOKEN", "")]).expect("fit");
        assert_eq!(config.address().origin(), Origin::Default);
        assert!(!config.has_token());
    }

    #[test]
    fn a_token_file_wins_over_a_token_and_flags_over_variables() {
        let first = file(" first\n");
        let second = file("second");
        let path = |file: &tempfile::NamedTempFile| file.path().to_str().expect("utf-8").to_owned();
        let (one, two) = (path(&first), path(&second));
        let env = [("CONSUL_HTTP_TOKEN", "text"), ("CONSUL_HTTP_TOKEN_FILE", two.as_str())];
        let flags = |token: Option<&str>, token_file: Option<&str>| Settings {
            token: token.map(Secret::from),
            token_file: token_file.map(PathBuf::from),
            ..Settings::default()
        };
        assert_eq!(token(&resolve(flags(Some("flag"), Some(&one)), &env).expect("fit")), Some("first"));
        assert_eq!(token(&resolve(flags(Some("flag"), None), &env).expect("fit")), Some("flag"));
        assert_eq!(token(&resolve(flags(None, None), &env).expect("fit")), Some("second"));
        assert_eq!(token(&resolve(flags(None, None), &env[..1]).expect("fit")), Some("text"));
        assert_eq!(token(&resolve(flags(Some(""), None), &env).expect("fit")), None);
    }

    #[test]
    fn an_unfit_token_file_is_an_error_of_configuration() {
        let empty = file(" \n");
        let folder = tempfile::tempdir().expect("a folder");
        for path in [empty.path(), folder.path(), Path::new("/nonexistent/token")] {
            let settings = Settings { token_file: Some(path.to_owned()), ..Settings::default() };
            let error = resolve(settings, &[]).expect_err("unfit");
            assert!(!error.is_usage() && error.to_string().contains("--token-file"), "{error}");
        }
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_without_being_shown() {
        let error = resolve(Settings::default(), &[("CONSUL_HTTP_TOKEN", "sec\nret")]).expect_err("unfit");
        assert_eq!(error, ConfigError::Header { origin: Origin::Variable("CONSUL_HTTP_TOKEN") });
        assert!(!error.to_string().contains("ret\"") && error.is_usage());
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let env =
            [("CONSUL_HTTP_TOKEN", "s3cret"), ("CONSUL_HTTP_AUTH", "user:pa55"), ("HTTP_PROXY", "http://u:pr0xy@h:1")];
        let settings = Settings { http_addr: Some("consul.example:80".into()), ..Settings::default() };
        let config = resolve(settings, &env).expect("fit");
        let shown = format!("{config:?}");
        assert!(shown.contains("h:1"), "{shown}");
        let settings = Settings { token: Some("s3cret".into()), ..Settings::default() };
        for secret in ["s3cret", "pa55", "pr0xy", &STANDARD.encode("user:pa55")] {
            assert!(!shown.contains(secret), "{shown}");
            assert!(!format!("{settings:?}").contains(secret));
        }
    }

    #[test]
    fn basic_auth_takes_a_user_with_or_without_a_password() {
        for (text, pair) in [("user:pa:ss", "user:pa:ss"), ("user", "user:")] {
            let config = resolve(Settings::default(), &[("CONSUL_HTTP_AUTH", text)]).expect("fit");
            let expected = format!("Basic {}", STANDARD.encode(pair));
            assert_eq!(config.auth.expect("given").to_str().expect("ascii"), expected);
        }
    }

    #[test]
    fn wrong_words_are_usage_errors_that_name_their_origin() {
        let flag = |http_addr: &str| Settings { http_addr: Some(http_addr.into()), ..Settings::default() };
        let ca = Settings { ca_file: Some("/ca".into()), ..Settings::default() };
        let half = Settings { client_cert: Some("/cert".into()), ..flag("https://a") };
        type Case<'a> = (Settings, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 8] = [
            (
                flag("ftp://a"),
                &[],
                "the address of --http-addr has the unknown scheme \"ftp\": use http, https or unix",
            ),
            (flag(""), &[], "the address of --http-addr is empty: write host:port"),
            (Settings::default(), &[("CONSUL_HTTP_ADDR", "a:0")], "the address of CONSUL_HTTP_ADDR has the port \"0\""),
            (Settings::default(), &[("CONSUL_HTTP_SSL", "yes")], "CONSUL_HTTP_SSL is \"yes\": write true or false"),
            (Settings::default(), &[("CONSUL_HTTP_SSL_VERIFY", "2")], "CONSUL_HTTP_SSL_VERIFY is \"2\""),
            (ca, &[], "--ca-file needs TLS, and http://127.0.0.1:8500 (default) has none"),
            (half, &[], "--client-cert without --client-key"),
            (flag("https://a"), &[("CONSUL_CLIENT_KEY", "/key")], "CONSUL_CLIENT_KEY without CONSUL_CLIENT_CERT"),
        ];
        for (settings, env, message) in cases {
            let error = resolve(settings, env).expect_err(message);
            assert!(error.is_usage() && error.to_string().starts_with(message), "{error}");
        }
    }

    #[test]
    fn tls_variables_mean_nothing_to_an_address_without_tls() {
        let env = [("CONSUL_CACERT", "/nonexistent"), ("CONSUL_CLIENT_CERT", "/nonexistent")];
        assert!(resolve(Settings::default(), &env).is_ok());
        let ssl = [env[0], env[1], ("CONSUL_HTTP_SSL", "true")];
        assert!(resolve(Settings::default(), &ssl).is_err());
    }
}
