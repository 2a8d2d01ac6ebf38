//! The certificates that a server presents, looked at without trusting them: a handshake of its own that ends as soon as
//! they are here, so that neither a token nor a request goes to whoever that is.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::address::Place;
use super::certificate::Certificate;
use super::client::Client;
use super::quote::{one_line, plain};

impl Client {
    /// The chain that the server presents, its own certificate first, unverified; what cannot be read of it is left out.
    /// `None`: there is no TLS to this address. Through a proxy nothing is looked at.
    ///
    /// # Errors
    /// Why there is none, as the end of a sentence.
    pub fn presented_chain(&self, timeout: Duration) -> Result<Option<Vec<Certificate>>, String> {
        let config = self.config();
        let Place::Tcp { tls: true, host, port, .. } = config.address.place() else { return Ok(None) };
        if config.proxy.is_some() {
            return Err("there is a proxy in between".to_owned());
        }
        let name = config.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|error| one_line(&error.to_string()))?;
        let stream = connect(host, *port, timeout)?;
        let chain = handshake(name, stream)?;
        Ok(Some(chain.iter().filter_map(|der| Certificate::read(der)).collect()))
    }
}

fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| plain(&error))?;
    let mut failed = "the name has no address".to_owned();
    for address in addresses {
        let connected = TcpStream::connect_timeout(&address, timeout).and_then(|stream| {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = plain(&error),
        }
    }
    Err(failed)
}

fn handshake(name: ServerName<'static>, mut stream: TcpStream) -> Result<Vec<Vec<u8>>, String> {
    let said = |error: rustls::Error| one_line(&error.to_string());
    let provider = Arc::new(ring::default_provider());
    let seen = Arc::new(Seen { provider: Arc::clone(&provider), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(said)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(said)?;
    // Always an error: `Seen` sees to it.
    let ended = connection.complete_io(&mut stream).err();
    let chain = std::mem::take(&mut *seen.chain.lock().unwrap_or_else(PoisonError::into_inner));
    if chain.is_empty() {
        return Err(ended.map_or_else(|| "none was presented".to_owned(), |error| plain(&error)));
    }
    Ok(chain)
}

/// Writes the certificates down and trusts none.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<Vec<u8>>>,
}

impl Seen {
    /// Ends the handshake.
    fn enough() -> rustls::Error {
        rustls::Error::General("seen enough".to_owned())
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(own).chain(above).map(|der| der.to_vec()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Err(Self::enough())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::enough())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::enough())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
