//! Certificates for the tests, and the clients and servers that use them.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use tempfile::TempDir;

use crate::patience::PATIENCE;
use crate::runner::guest_path;
use crate::server::{Server, command};

/// A certificate authority, and the certificates that it signs, as files.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority, whose certificate is `ca.pem`.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Authority {
            folder: tempfile::tempdir()?,
            issuer,
        };
        fs::write(authority.path("ca.pem"), authority.issuer.pem())?;
        Ok(authority)
    }

    /// Returns the path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate for a name, and writes it with its key.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn sign(&self, file: &str, name: &str) -> Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.path(&format!("{file}.pem")), certificate.pem())?;
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// Returns the flags that serve these certificates.
    #[must_use]
    pub fn flags(&self, files: &[&str]) -> Vec<String> {
        let mut flags = Vec::new();
        for file in files {
            for (flag, kind) in [("--tls-cert", "pem"), ("--tls-key", "key")] {
                let path = self.path(&format!("{file}.{kind}"));
                flags.extend([flag.to_owned(), path.display().to_string()]);
            }
        }
        flags
    }

    /// Serves a guest with the certificates in these files, by the `halfopen` command.
    ///
    /// # Errors
    ///
    /// If the server does not start.
    pub fn serve(
        &self,
        halfopen: &Path,
        guest: &str,
        files: &[&str],
        more: &[&str],
    ) -> Result<Server> {
        let mut serve = command(halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.args(self.flags(files)).args(more);
        serve.arg(guest_path(guest));
        Server::start(serve, 1)
    }

    /// Connects as a client that trusts the authority, and may show a certificate of it.
    ///
    /// # Errors
    ///
    /// If the handshake fails.
    pub fn connect(&self, to: SocketAddr, name: &str, own: Option<&str>) -> Result<Secure> {
        self.secure(TcpStream::connect(to)?, name, own)
    }

    /// Does the handshake on a stream.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn secure(&self, stream: TcpStream, name: &str, own: Option<&str>) -> Result<Secure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_file_iter(self.path(&format!("{own}.pem")))?
                    .collect::<Result<_, _>>()?;
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{own}.key")))?;
                config.with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = vec![b"other".to_vec(), b"echo".to_vec()];
        let name = ServerName::try_from(name.to_owned())?;
        let session = ClientConnection::new(Arc::new(config), name)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut secure = Secure(StreamOwned::new(session, stream));
        // Completes the handshake, so that its errors are returned here.
        secure.0.conn.complete_io(&mut secure.0.sock)?;
        Ok(secure)
    }
}

/// The client's end of a TLS connection.
#[derive(Debug)]
pub struct Secure(pub StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    /// Sends `close_notify`, which ends this direction of the session, and no FIN.
    ///
    /// # Errors
    ///
    /// If the connection has failed.
    pub fn close_notify(&mut self) -> Result<()> {
        self.0.conn.send_close_notify();
        while self.0.conn.wants_write() {
            self.0.conn.write_tls(&mut self.0.sock)?;
        }
        Ok(())
    }

    /// Receives so many bytes.
    ///
    /// # Errors
    ///
    /// If the server ends before.
    pub fn receive(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Receives a line, and returns it without its end.
    ///
    /// # Errors
    ///
    /// If the server ends before.
    pub fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.extend(self.receive(1)?);
        }
        line.pop();
        Ok(String::from_utf8(line)?)
    }

    /// Receives until the server's `close_notify`. An end without it is an error.
    ///
    /// # Errors
    ///
    /// If the connection has failed.
    pub fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// The server's end of a TLS connection.
pub type SecureServer = StreamOwned<ServerConnection, TcpStream>;

impl Authority {
    /// Does the server's side of a handshake on a stream, with the certificate in these files.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn accept(&self, stream: TcpStream, file: &str, alpn: &[&str]) -> Result<SecureServer> {
        let chain = CertificateDer::pem_file_iter(self.path(&format!("{file}.pem")))?
            .collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        stream.set_read_timeout(Some(PATIENCE))?;
        let session = ServerConnection::new(Arc::new(config))?;
        let mut secure = StreamOwned::new(session, stream);
        secure.conn.complete_io(&mut secure.sock)?;
        Ok(secure)
    }
}
