//! What TLS needs: the roots to trust, and our own certificate with its key. Everything is read and checked here, at the
//! start: the TLS library would panic at the first connection over a key that does not match its certificate, or over a
//! certificate of X.509 version 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::address::Origin;
use super::config::ConfigError;
use super::quote::plain;
use super::settings::read;

/// Where the distributions keep the roots that the machine trusts, most common first.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust.
pub(super) enum Roots {
    File(PathBuf, Origin),
    Folder(PathBuf, Origin),
    /// What the machine trusts; SSL_CERT_FILE and SSL_CERT_DIR say where else to look, as for Go and OpenSSL.
    System {
        file: Option<String>,
        folder: Option<String>,
    },
}

type Named = (PathBuf, Origin);

/// Reads and checks everything.
pub(super) fn config(roots: Roots, pair: Option<(Named, Named)>, verify: bool) -> Result<TlsConfig, ConfigError> {
    let pair = pair.map(|(cert, key)| client(cert, key)).transpose()?;
    // Without verification nobody asks the roots; but a file that was named must still be one.
    let roots = match roots {
        Roots::System { .. } if !verify => Some(Vec::new()),
        Roots::File(path, origin) => Some(file(&path, origin)?),
        Roots::Folder(path, origin) => Some(folder(&path, origin)?),
        Roots::System { file, folder } => system(file, folder)?,
    };
    let mut builder = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .disable_verification(!verify)
        .client_cert(pair);
    // A machine without any roots gets the ones that are built in.
    builder = builder.root_certs(roots.map_or(RootCerts::WebPki, RootCerts::from));
    Ok(builder.build())
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}

fn file(path: &Path, origin: Origin) -> Result<Vec<Certificate<'static>>, ConfigError> {
    let found = certificates(&read(path, origin)?);
    if found.is_empty() { Err(no_certificate(path, origin)) } else { Ok(found) }
}

/// Every certificate in the files of a folder. Files without one are passed over: such folders hold a README as often as
/// not.
fn folder(path: &Path, origin: Origin) -> Result<Vec<Certificate<'static>>, ConfigError> {
    let failed =
        |path: &Path, error: &std::io::Error| ConfigError::Read { origin, path: path.to_owned(), reason: plain(error) };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let file = entry.map_err(|error| failed(path, &error))?.path();
        // Following links, which is how such folders are usually made; a dangling one is passed over.
        if fs::metadata(&file).is_ok_and(|meta| meta.is_file()) {
            found.extend(certificates(&read(&file, origin)?));
        }
    }
    if found.is_empty() { Err(no_certificate(path, origin)) } else { Ok(found) }
}

fn no_certificate(path: &Path, origin: Origin) -> ConfigError {
    let mend = "name the certificate of the CA that signed the server's";
    ConfigError::Pem { origin, path: path.to_owned(), wanted: "certificate", mend }
}

/// What the machine trusts, or `None` where nothing is to be found.
fn system(
    named_file: Option<String>,
    named_folder: Option<String>,
) -> Result<Option<Vec<Certificate<'static>>>, ConfigError> {
    let mut found = Vec::new();
    if let Some(named) = &named_file {
        found.extend(file(Path::new(named), Origin::Variable("SSL_CERT_FILE"))?);
    }
    if let Some(named) = &named_folder {
        for part in named.split(':').filter(|part| !part.is_empty()) {
            found.extend(folder(Path::new(part), Origin::Variable("SSL_CERT_DIR"))?);
        }
    }
    if named_file.is_none() && named_folder.is_none() {
        let first = BUNDLES.iter().filter_map(|path| fs::read(path).ok()).map(|pem| certificates(&pem));
        found = first.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    }
    Ok((!found.is_empty()).then_some(found))
}

/// Our certificate with its key, known to belong together.
fn client((cert, cert_origin): Named, (key, key_origin): Named) -> Result<ClientCert, ConfigError> {
    let chain = certificates(&read(&cert, cert_origin)?);
    if chain.is_empty() {
        let mend = "name the file with your certificate";
        return Err(ConfigError::Pem { origin: cert_origin, path: cert, wanted: "certificate", mend });
    }
    let pem = read(&key, key_origin)?;
    let (Ok(private), Ok(der)) = (PrivateKey::from_pem(&pem), PrivateKeyDer::from_pem_slice(&pem)) else {
        let mend = "name the file with its key, in PKCS#1, PKCS#8 or SEC1, and not encrypted";
        return Err(ConfigError::Pem { origin: key_origin, path: key, wanted: "private key", mend });
    };
    check(&chain, der).map_err(|error| match error {
        Unfit::Key(reason) => ConfigError::Pair { origin: key_origin, path: key, reason },
        Unfit::Certificate(reason) => ConfigError::Pair { origin: cert_origin, path: cert, reason },
    })?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

enum Unfit {
    Key(String),
    Certificate(String),
}

/// Asks the TLS library the very question whose answer it later expects to be yes.
fn check(chain: &[Certificate<'static>], key: PrivateKeyDer<'static>) -> Result<(), Unfit> {
    let chain = chain.iter().map(|cert| CertificateDer::from(cert.der().to_vec())).collect();
    let provider = ring::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|error| {
        Unfit::Key(format!(
            "{error}: make an RSA key of 2048 bits or more, an ECDSA one (P-256, P-384) or an Ed25519 one"
        ))
    })?;
    match CertifiedKey::new(chain, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Unfit::Key("it does not belong to the client certificate: name the pair that was made together".into()))
        }
        Err(error) => {
            let what = error.to_string();
            let what = if what.contains("UnsupportedCertVersion") { "it is of X.509 version 1" } else { &what };
            let mend = "make it anew as version 3, as `consul tls cert create -client` does";
            Err(Unfit::Certificate(format!("{what}: {mend}")))
        }
    }
}
