//! TLS that a service begins on a socket in use (rules S1 to S8).

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::Entry;
use crate::tcp::ErrorCode;
use crate::tcp::callbacks::securing::Securing;
use crate::tcp::socket::securing::Beginning;

impl Entry {
    /// Begins TLS behind what is written. `unprocessed` is the number of bytes that the service
    /// has received behind the request for it; with any, the connection is reset.
    ///
    /// # Errors
    /// `invalid-state` unless both directions are the service's and open, and TLS has not begun.
    pub(in crate::tcp::callbacks) fn secure(
        &mut self,
        beginning: Beginning,
        unprocessed: u32,
    ) -> Result<(), ErrorCode> {
        let may_secure = self.machine.can_write() && self.may_pipe();
        let socket = self.socket.as_ref().filter(|_| may_secure);
        let socket = socket.filter(|socket| socket.may_secure());
        let socket = socket.ok_or(ErrorCode::InvalidState)?;
        if unprocessed > 0 || !self.held.is_empty() {
            let error = socket.refuse_clear_text();
            self.machine.fail(error);
            return Ok(());
        }
        let left = self.machine.unsent();
        let beginning = Box::new(beginning);
        self.securing = Some(Box::new(Securing::Clear { left, beginning }));
        if left == 0 {
            self.shake();
        }
        Ok(())
    }

    /// Sends what has to be sent in the clear, and then begins the handshake. Returns whether
    /// nothing of that is left.
    pub(super) fn send_clear(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let (Some(socket), Some(securing)) = (&self.socket, &mut self.securing) else {
                return true;
            };
            let Securing::Clear { left, .. } = &mut **securing else {
                return true;
            };
            if self.machine.stopped() {
                self.securing = None;
                return true;
            }
            let front = self.queue.front();
            match socket.poll_send(cx, &front[..front.len().min(*left)]) {
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => self.machine.fail(error),
                Poll::Ready(Ok(length)) => {
                    socket.count_transfer();
                    if let Some(watch) = &mut self.watch {
                        watch.moved();
                    }
                    self.queue.advance(length);
                    self.machine.taken(length);
                    *left -= length;
                    if *left == 0 {
                        self.shake();
                    }
                }
            }
        }
    }

    /// Begins the handshake: everything before it is sent.
    fn shake(&mut self) {
        let Some(Securing::Clear { beginning, .. }) = self.securing.take().map(|boxed| *boxed)
        else {
            return;
        };
        let Some(socket) = &self.socket else {
            return;
        };
        let (report, done) = oneshot::channel();
        match socket.secure(*beginning, |shaken| drop(report.send(shaken))) {
            Ok(()) => self.securing = Some(Box::new(Securing::Handshake(done))),
            Err(error) => self.machine.fail(error),
        }
    }

    /// Whether the handshake is done, for the event that reports it; a handshake that has failed
    /// is the connection's failure.
    pub(super) fn poll_secured(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Securing::Handshake(done)) = self.securing.as_deref_mut() else {
            return false;
        };
        if self.machine.stopped() {
            self.securing = None;
            return false;
        }
        let Poll::Ready(shaken) = Pin::new(done).poll(cx) else {
            return false;
        };
        self.securing = None;
        match shaken.unwrap_or(Err(ErrorCode::ConnectionAborted)) {
            Ok(()) => {
                if let Some(watch) = &mut self.watch {
                    watch.moved();
                }
                true
            }
            Err(error) => {
                self.machine.fail(error);
                false
            }
        }
    }
}
