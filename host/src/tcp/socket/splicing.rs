//! Moving bytes to another connection inside the kernel, where both are plain TCP.

use std::task::{Context, Poll, ready};

use super::Socket;
use crate::tcp::ErrorCode;
use crate::tcp::live::Live;
use crate::tcp::transport::KernelPipe;
use crate::tcp::turn::poll_turn;
use crate::tcp::waiters::Wait;

impl Socket {
    /// Whether the bytes of the connection are those of its socket.
    pub(in crate::tcp) fn is_plain(&self) -> bool {
        let shared = self.slot.share();
        shared.live().is_some_and(|live| live.transport.is_plain())
    }

    /// Whether somebody wants to see the bytes, which have to pass through memory then.
    pub(in crate::tcp) fn is_looked_into(&self) -> bool {
        let meter = self.state.meter();
        meter.is_some_and(|meter| meter.track().wants_payload())
    }

    /// Moves up to `most` bytes that were received into a pipe. Returns how many; 0 says
    /// nothing about the connection, and [`poll_receive`](Self::poll_receive) has to be asked.
    pub(in crate::tcp) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut KernelPipe,
        most: usize,
    ) -> Poll<usize> {
        ready!(poll_turn(cx));
        let fill = |live: &Live, cx: &mut Context<'_>| {
            let transport = &live.transport;
            transport.poll_fill(cx, pipe, most, &self.state)
        };
        let filled = ready!(self.poll_live(cx, Wait::Receive, fill)).unwrap_or(0);
        if filled > 0
            && let Some(meter) = self.state.meter()
        {
            meter.add_received(filled, None);
        }
        Poll::Ready(filled)
    }

    /// Sends what is in a pipe, as far as the kernel has room.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(in crate::tcp) fn drain(&self, pipe: &mut KernelPipe) -> Result<(), ErrorCode> {
        let held = pipe.held();
        let drained = match self.slot.share().live() {
            Some(live) => live.transport.drain(pipe, &self.state),
            None => return Err(self.ended()),
        };
        if pipe.held() < held
            && let Some(meter) = self.state.meter()
        {
            meter.add_sent(held - pipe.held(), None);
        }
        if drained.is_err() {
            self.settle();
        }
        drained
    }
}
