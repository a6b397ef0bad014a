//! The clients' ends of connections.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use super::services::NAME;

/// A connection whose sending direction can be ended on its own.
pub(crate) trait Wire: Read + Write + Send {
    /// Ends the sending direction.
    fn finish(&mut self) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A TLS connection.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

impl Wire for Secure {
    fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(Shutdown::Write)
    }
}

/// Connects from one address of this machine to another.
pub(crate) fn connect(from: [u8; 4], to: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    connect_with(from, to, timeout, |_| Ok(()))
}

/// Connects, with a socket that `prepare` has set up.
pub(crate) fn connect_with(
    from: [u8; 4],
    to: SocketAddr,
    timeout: Duration,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    prepare(&socket)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::from(from), 0)).into())?;
    socket
        .connect_timeout(&to.into(), timeout)
        .with_context(|| format!("cannot connect to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends RST.
pub(crate) fn reset(stream: TcpStream) {
    // It fails if the connection has failed, which is as good here.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Sends until the server has taken nothing for a moment, without reading anything.
pub(crate) fn fill(stream: &mut (impl Write + ?Sized), most: usize) {
    let chunk = [b'x'; 16 * 1024];
    let mut sent = 0;
    while sent < most {
        match stream.write(&chunk) {
            Ok(length) if length > 0 => sent += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
}

/// Makes the configuration of a TLS client that trusts this certificate.
pub(crate) fn trusting(certificate: CertificateDer<'static>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Makes the TLS handshake.
pub(crate) fn secure(stream: TcpStream, config: &Arc<ClientConfig>) -> Result<Secure> {
    let name = ServerName::try_from(NAME)?;
    let session = ClientConnection::new(config.clone(), name)?;
    let mut secure = StreamOwned::new(session, stream);
    secure.conn.complete_io(&mut secure.sock)?;
    Ok(secure)
}
