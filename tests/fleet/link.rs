//! A client's connection, in the clear or under TLS, and how it ended.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use halfopen_tests::patience::PATIENCE;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// An end that a client had not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The connection was not made.
    Refused,
    /// It ended in a way that the client can tell from the end of an answer: RST, or under TLS a FIN
    /// without `close_notify`.
    Told,
    /// It ended as if the answer were complete.
    Truncated,
    /// Nothing came for [`PATIENCE`].
    Silent,
    /// Other bytes came than were sent.
    Wrong,
}

/// What happens when TLS begins.
pub(crate) type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// A connection.
#[derive(Debug)]
pub(crate) enum Link {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    /// Connects. The handshake is done when this returns.
    pub(crate) fn connect(to: SocketAddr, tls: Option<&Tls>, port: &mut u16) -> Result<Self, Cut> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(|_| Cut::Refused)?;
        *port = stream.local_addr().map_err(|_| Cut::Refused)?.port();
        let settings = || -> io::Result<()> {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))
        };
        settings().map_err(|_| Cut::Refused)?;
        let Some((config, name)) = tls else {
            return Ok(Link::Clear(stream));
        };
        let session =
            ClientConnection::new(config.clone(), name.clone()).map_err(|_| Cut::Wrong)?;
        let mut stream = StreamOwned::new(session, stream);
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => Ok(Link::Tls(Box::new(stream))),
            // An end before the handshake is complete is no end of an answer.
            Err(error) => Err(match kind(&error, true) {
                Cut::Truncated => Cut::Told,
                other => other,
            }),
        }
    }

    /// The client's port.
    pub(crate) fn port(&self) -> u16 {
        let stream = match self {
            Link::Clear(stream) => stream,
            Link::Tls(stream) => &stream.sock,
        };
        stream.local_addr().map_or(0, |address| address.port())
    }

    /// Sends bytes, and receives as many: the same ones.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let secure = matches!(self, Link::Tls(_));
        let mut answer = vec![0; bytes.len()];
        let mut both = |stream: &mut dyn Stream| -> io::Result<()> {
            stream.write_all(bytes)?;
            stream.flush()?;
            stream.read_exact(&mut answer)
        };
        both(self.stream()).map_err(|error| kind(&error, secure))?;
        if answer == bytes {
            Ok(())
        } else {
            Err(Cut::Wrong)
        }
    }

    /// Ends this direction, and receives the end of the other one, with nothing before it.
    pub(crate) fn finish(mut self) -> Result<(), Cut> {
        let secure = matches!(self, Link::Tls(_));
        let end = match &mut self {
            Link::Clear(stream) => stream.shutdown(Shutdown::Write),
            Link::Tls(stream) => {
                stream.conn.send_close_notify();
                let flushed = stream.flush();
                flushed.and_then(|()| stream.sock.shutdown(Shutdown::Write))
            }
        };
        end.map_err(|error| kind(&error, secure))?;
        match self.stream().read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Cut::Wrong),
            Err(error) => Err(kind(&error, secure)),
        }
    }

    fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Link::Clear(stream) => stream,
            Link::Tls(stream) => stream.as_mut(),
        }
    }
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// What an error means. rustls has the same kind of error for a FIN without `close_notify` as
/// `read_exact` has for an end, and a text of its own.
fn kind(error: &io::Error, secure: bool) -> Cut {
    match error.kind() {
        ErrorKind::UnexpectedEof if secure && error.to_string().contains("close_notify") => {
            Cut::Told
        }
        ErrorKind::UnexpectedEof => Cut::Truncated,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Cut::Silent,
        ErrorKind::InvalidData => Cut::Wrong,
        _ => Cut::Told,
    }
}

/// A pause between two exchanges of a long connection.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);
