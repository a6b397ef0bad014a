//! The TLS handshake on a connection in use.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use rustls::Connection;
use tokio::io::Interest;

use super::tls::{Handshake, Nonblocking, Secure, Session};
use crate::tcp::ErrorCode;
use crate::tcp::state::State;

/// The error of a peer that has gone before the handshake was done.
const LEFT: &str = "TLS: the peer has ended the connection during the handshake";

/// The types of the records of which a handshake consists (RFC 8446 section 5.1): an alert, and
/// a message of the handshake.
const RECORDS: [u8; 2] = [21, 22];

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Shaken {
    /// The session is open.
    Open,
    /// The peer has sent something else than TLS: clear text.
    ClearText,
}

impl Secure {
    /// Does the handshake, for the one task that asks for it.
    ///
    /// # Errors
    /// If it fails, after an alert to the peer, or the connection has failed. The error is
    /// recorded in `state`.
    pub(super) fn poll_handshake(
        &self,
        cx: &mut Context<'_>,
        state: &State,
    ) -> Poll<Result<Shaken, ErrorCode>> {
        let mut session = self.session();
        let shaken = ready!(self.poll_shake(cx, &mut session));
        if matches!(shaken, Ok(Shaken::Open))
            && let Some(Handshake { ends: true, .. }) = session.handshake.take()
        {
            session.tls.send_close_notify();
        }
        Poll::Ready(shaken.map_err(|error| state.lock().fail(error)))
    }

    fn poll_shake(
        &self,
        cx: &mut Context<'_>,
        session: &mut Session,
    ) -> Poll<Result<Shaken, ErrorCode>> {
        loop {
            ready!(self.poll_write_records(cx, session))?;
            let Some(handshake) = &mut session.handshake else {
                return Poll::Ready(Ok(Shaken::Open));
            };
            if !session.tls.is_handshaking() {
                return Poll::Ready(Ok(Shaken::Open));
            }
            ready!(self.stream().poll_read_ready(cx))?;
            if !handshake.begun {
                match self.first_byte() {
                    Ok(Some(first)) if !RECORDS.contains(&first) => {
                        return Poll::Ready(Ok(Shaken::ClearText));
                    }
                    Ok(_) => handshake.begun = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            match session.tls.read_tls(&mut Nonblocking(self)) {
                Ok(0) => return Poll::Ready(Err(ErrorCode::Other(Some(LEFT.to_owned())))),
                Ok(_) => self.process(session)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Looks at the first byte that has arrived; `None` at the end.
    fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let peek = || Ok(recv(self.stream(), &mut first, RecvFlags::PEEK)?.0);
        let length = self.stream().try_io(Interest::READABLE, peek)?;
        Ok((length > 0).then_some(first[0]))
    }

    /// Calls `look` with the session.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Connection) -> T) -> T {
        look(&self.session().tls)
    }
}
