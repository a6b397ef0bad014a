//! TLS for a server's connections, by rustls, and for those that its service makes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{
    ClientHello, NoClientAuth, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

pub use super::tickets::{NoTickets, TicketKeys, Tickets};
use crate::server::report::Refusal;
use crate::tcp::{client_config, reset_on_close};

/// Makes the TLS configuration of a server from files in PEM form: TLS 1.2 and 1.3 with the
/// cipher suites that rustls considers safe.
///
/// ```no_run
/// use halfopen::Server;
/// use halfopen::tls::TlsFiles;
///
/// let tls = TlsFiles::new("chain.pem", "key.pem").alpn(["echo"]).load()?;
/// let server = Server::builder().tls(tls);
/// # Ok::<_, halfopen::tls::TlsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlsFiles {
    certificates: Vec<(PathBuf, PathBuf)>,
    client_ca: Option<PathBuf>,
    alpn: Vec<String>,
    tickets: Option<(Tickets, String)>,
}

/// The reason why files make no TLS configuration, with the file's path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    /// Returns the file that the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl TlsFiles {
    /// Takes a certificate chain from one file and its private key from another.
    #[must_use]
    pub fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        TlsFiles {
            certificates: vec![(chain.into(), key.into())],
            client_ca: None,
            alpn: Vec::new(),
            tickets: None,
        }
    }

    /// Adds a certificate for clients that ask for one of its names (SNI). Clients that ask
    /// for no name or for an unknown one get the first certificate.
    #[must_use]
    pub fn and(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificates.push((chain.into(), key.into()));
        self
    }

    /// Accepts only clients that have a certificate of one of the authorities in a file
    /// (default: clients need no certificate).
    #[must_use]
    pub fn client_ca(mut self, authorities: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(authorities.into());
        self
    }

    /// Offers application protocols (ALPN), the preferred one first (default: none).
    #[must_use]
    pub fn alpn<S: Into<String>>(mut self, protocols: impl IntoIterator<Item = S>) -> Self {
        self.alpn.extend(protocols.into_iter().map(Into::into));
        self
    }

    /// Lets clients resume their sessions with tickets of these keys (default: with what the
    /// configuration remembers of some hundred sessions). A ticket is good for all
    /// configurations with the same keys, the same `name` and the same
    /// [authorities](Self::client_ca): the certificate of a client that resumes is not checked
    /// again.
    #[must_use]
    pub fn tickets(mut self, tickets: &Tickets, name: impl Into<String>) -> Self {
        self.tickets = Some((tickets.clone(), name.into()));
        self
    }

    /// Reads the files, and makes the configuration.
    ///
    /// # Errors
    /// If a file cannot be read, is not in PEM form, or a key does not belong to its
    /// certificate.
    pub fn load(self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = self
            .certificates
            .iter()
            .map(|(chain, key)| certificate(&provider, chain, key))
            .collect::<Result<_, _>>()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        // What a ticket is good for. A name has no byte 0.
        let mut context = Vec::new();
        if let Some((_, name)) = &self.tickets {
            context.extend(name.bytes().chain([0]));
        }
        let verifier = match &self.client_ca {
            None => Arc::new(NoClientAuth),
            Some(path) => {
                let authorities = chain(path)?;
                context.extend(authorities.iter().flat_map(|one| one.iter()));
                let roots = Arc::new(roots(path, authorities)?);
                WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| failed(path, error))?
            }
        };
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Certificates(certificates)));
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        if let Some((tickets, _)) = &self.tickets {
            config.ticketer = tickets.of(&context);
        }
        Ok(Arc::new(config))
    }
}

/// Makes the TLS configuration of a client that trusts the authorities in a file in PEM form,
/// and no others, for [`Grants::tls_client`](crate::Grants::tls_client).
///
/// # Errors
/// If the file cannot be read, is not in PEM form, or has no certificate.
pub fn trusting(authorities: impl AsRef<Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let path = authorities.as_ref();
    roots(path, chain(path)?).map(client_config)
}

/// Trusts the authorities that a file has.
fn roots(
    path: &Path,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots
            .add(certificate)
            .map_err(|error| failed(path, error))?;
    }
    Ok(roots)
}

fn certificate(
    provider: &CryptoProvider,
    chain_path: &Path,
    key_path: &Path,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = chain(chain_path)?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            failed(key_path, "no private key in it; it has to be in PEM form")
        }
        error => unreadable(key_path, error),
    })?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let chain = chain_path.display();
                failed(
                    key_path,
                    format!("not the private key of the certificate in {chain}"),
                )
            }
            error => failed(key_path, error),
        })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(path, error))?;
    match certificates.is_empty() {
        true => Err(failed(
            path,
            "no certificate in it; it has to be in PEM form",
        )),
        false => Ok(certificates),
    }
}

fn unreadable(path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => failed(path, error),
        error => failed(path, error),
    }
}

fn failed(path: &Path, reason: impl ToString) -> TlsError {
    TlsError {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The reason why a handshake failed.
pub(super) struct Failed {
    pub(super) refusal: Refusal,
    pub(super) reason: String,
}

/// Does the server's side of a handshake.
///
/// # Errors
/// If the handshake fails, after an alert to the peer; or if it takes longer than `limit`
/// or is `cut` short, and the connection is reset.
pub(super) async fn handshake(
    config: &Arc<ServerConfig>,
    stream: TcpStream,
    limit: Duration,
    cut: impl Future<Output = Refusal>,
) -> Result<(TcpStream, ServerConnection), Failed> {
    let mut handshake = TlsAcceptor::from(config.clone()).accept(stream);
    let (refusal, reason) = tokio::select! {
        done = &mut handshake => match done {
            Ok(secure) => return Ok(secure.into_inner()),
            Err(error) => (Refusal::Handshake, error.to_string()),
        },
        () = sleep(limit) => (Refusal::Handshake, "not done in time".to_owned()),
        refusal = cut => (refusal, "cut short".to_owned()),
    };
    // After a failure the handshake has closed the stream.
    if let Some(stream) = handshake.get_ref() {
        reset_on_close(stream);
    }
    Err(Failed { refusal, reason })
}

/// Chooses a certificate by the name that the client asks for.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let requested = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|certificate| has(certificate, &name))
        });
        requested.or(self.0.first()).cloned()
    }
}

fn has(certificate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Ok(leaf) = certificate.end_entity_cert() else {
        return false;
    };
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
}
