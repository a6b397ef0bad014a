//! TLS that begins on a connection in use (rules S1 to S8).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Wake};
use std::time::Duration;

use rustls::Connection;
use tokio::time::sleep;

use super::Socket;
use crate::tcp::live::Live;
use crate::tcp::sync::Arc;
use crate::tcp::transport::Shaken;
use crate::tcp::waiters::Wait;
use crate::tcp::{Ending, ErrorCode, Limit, PeerTls, secured};

/// How a TLS session begins.
#[derive(Debug)]
pub(in crate::tcp) struct Beginning {
    /// The session, of which nothing is sent yet.
    pub(in crate::tcp) session: Connection,
    /// How long the handshake may take.
    pub(in crate::tcp) limit: Duration,
    /// Describes the session to the service.
    pub(in crate::tcp) describe: fn(&Connection) -> PeerTls,
}

impl Socket {
    /// Whether TLS may begin: both directions are open, and the connection has none.
    pub(in crate::tcp) fn may_secure(&self) -> bool {
        let open = {
            let state = self.state.lock();
            state.may_finish() && !state.received_end()
        };
        let shared = self.slot.share();
        open && shared.live().is_some_and(|live| live.transport.is_plain())
    }

    /// The number of bytes that were received.
    pub(in crate::tcp) fn received(&self) -> u64 {
        self.state.meter().map_or(0, |meter| meter.bytes().0)
    }

    /// Begins TLS behind everything that was sent, and calls `report` once the handshake is
    /// done or has failed. A task does the handshake. It keeps the connection, whoever lets go
    /// of it: nothing closes while it goes on.
    ///
    /// # Errors
    /// `invalid-state` unless TLS may begin. `report` is not called then.
    pub(in crate::tcp) fn secure(
        self: &Arc<Self>,
        beginning: Beginning,
        report: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) -> Result<(), ErrorCode> {
        let Beginning {
            session,
            limit,
            describe,
        } = beginning;
        let sent = self.state.meter().map_or(0, |meter| meter.bytes().1);
        if !self.may_secure() || !self.slot.secure(session, sent) {
            return Err(self.failure().unwrap_or(ErrorCode::InvalidState));
        }
        // Whoever waits has asked the transport of before.
        Wake::wake_by_ref(&self.waiters);
        self.waiters.wake_all();
        let socket = self.clone();
        self.runtime.spawn(async move {
            let shaken = socket.shake(limit).await;
            if shaken.is_ok() {
                socket.secured(describe);
            }
            report(shaken);
        });
        Ok(())
    }

    /// Ends the connection, because data in the clear came behind the request for TLS. Returns
    /// its error.
    pub(in crate::tcp) fn refuse_clear_text(&self) -> ErrorCode {
        self.abort(Ending::ClearText);
        self.failure().unwrap_or(ErrorCode::ConnectionAborted)
    }

    /// Does the handshake.
    async fn shake(&self, limit: Duration) -> Result<(), ErrorCode> {
        let mut limit = pin!(sleep(limit));
        let shaken = poll_fn(|cx| {
            let shake = |live: &Live, cx: &mut std::task::Context<'_>| {
                live.transport.poll_handshake(cx, &self.state)
            };
            if let Poll::Ready(shaken) = self.poll_live(cx, Wait::Handshake, shake) {
                return Poll::Ready(shaken);
            }
            limit.as_mut().poll(cx).map(|()| {
                self.abort(Ending::Limit(Limit::Handshake));
                None
            })
        });
        match shaken.await {
            Some(Ok(Shaken::Open)) => Ok(()),
            Some(Ok(Shaken::ClearText)) => Err(self.refuse_clear_text()),
            Some(Err(error)) => {
                // Nothing of what has arrived is for the service.
                self.release();
                Err(error)
            }
            None => Err(self.failure().unwrap_or(ErrorCode::ConnectionAborted)),
        }
    }

    /// Records that the handshake is done, and lets go on who has waited for it.
    fn secured(&self, describe: fn(&Connection) -> PeerTls) {
        let session = match self.slot.share().live() {
            Some(live) => live.transport.look(describe),
            None => None,
        };
        if let Some(session) = session {
            self.report(|| secured(&session));
            // Nobody else sets it: TLS begins once.
            _ = self.own_session.set(Box::new(session));
        }
        if let Some(meter) = self.state.meter() {
            meter.secured();
        }
        self.waiters.wake_all();
    }
}
