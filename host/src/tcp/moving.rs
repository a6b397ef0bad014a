//! Moves what one connection receives to another.

use std::cell::Cell;
use std::convert::Infallible;
use std::task::{Context, Poll, ready};

use super::flow::Flow;
use super::sizes::{BUFFER, MOVED};
use super::transport::KernelPipe;
use super::{ErrorCode, Socket};

thread_local! {
    /// A buffer of [`BUFFER`] bytes. It holds bytes only within one poll, so that all
    /// connections of a thread share it.
    static SHARED_BUFFER: Cell<Box<[u8]>> = Cell::default();
}

/// What is on the way from one connection to another. A connection takes memory for it only
/// while its sink accepts less than was received.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// What was received and not yet sent.
    rest: Vec<u8>,
    flow: Flow,
}

/// Why nothing more is moved.
#[derive(Debug)]
pub(super) enum Stop {
    /// The peer of the source has sent FIN.
    Ended,
    SourceFailed(ErrorCode),
    SinkFailed(ErrorCode),
}

impl Moving {
    /// Whether everything that was received is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Moves data until the source has none or the sink accepts none.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &Socket,
        sink: &Socket,
    ) -> Poll<Stop> {
        match ready!(self.poll_all(cx, source, sink)) {
            Err(stop) => Poll::Ready(stop),
        }
    }

    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        source: &Socket,
        sink: &Socket,
    ) -> Poll<Result<Infallible, Stop>> {
        loop {
            ready!(self.poll_rest(cx, sink))?;
            if !ready!(self.poll_splice(cx, source, sink))? {
                ready!(self.poll_copy(cx, source, sink))?;
            }
        }
    }

    /// Sends what was received before.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        sink: &Socket,
    ) -> Poll<Result<(), Stop>> {
        let mut sent = 0;
        while sent < self.rest.len() {
            match sink.poll_send(cx, &self.rest[sent..]) {
                Poll::Ready(length) => sent += length.map_err(Stop::SinkFailed)?,
                Poll::Pending => {
                    self.rest.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        // Idle connections hold no memory.
        self.rest = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Moves some data inside the kernel. Returns whether that was possible; otherwise the
    /// source has to be received from.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &Socket,
        sink: &Socket,
    ) -> Poll<Result<bool, Stop>> {
        if !self.flow.is_large() || !source.is_plain() || !sink.is_plain() {
            return Poll::Ready(Ok(false));
        }
        if source.is_looked_into() || sink.is_looked_into() {
            return Poll::Ready(Ok(false));
        }
        let Some(mut pipe) = KernelPipe::take() else {
            return Poll::Ready(Ok(false));
        };
        let most = pipe.size().min(MOVED);
        let length = ready!(source.poll_fill(cx, &mut pipe, most));
        self.flow.moved(length);
        if length == 0 {
            return Poll::Ready(Ok(false));
        }
        sink.drain(&mut pipe).map_err(Stop::SinkFailed)?;
        if pipe.held() > 0 {
            self.rest = vec![0; pipe.held()];
            // What cannot be read is lost, so the sink must not see FIN.
            let lost = |error: std::io::Error| Stop::SourceFailed(error.into());
            pipe.read_back(&mut self.rest).map_err(lost)?;
        }
        Poll::Ready(Ok(true))
    }

    /// Moves some data through memory.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        source: &Socket,
        sink: &Socket,
    ) -> Poll<Result<(), Stop>> {
        let mut buffer = SHARED_BUFFER.take();
        if buffer.is_empty() {
            buffer = vec![0; BUFFER].into_boxed_slice();
        }
        let copied = self.poll_copy_through(&mut buffer, cx, source, sink);
        SHARED_BUFFER.set(buffer);
        copied
    }

    fn poll_copy_through(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
        source: &Socket,
        sink: &Socket,
    ) -> Poll<Result<(), Stop>> {
        let length = match source.poll_receive(cx, buffer) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(Stop::Ended)),
            Poll::Ready(length) => length.map_err(Stop::SourceFailed)?,
            Poll::Pending => {
                self.flow.waits();
                return Poll::Pending;
            }
        };
        self.flow.received(length);
        let mut sent = 0;
        while sent < length {
            match sink.poll_send(cx, &buffer[sent..length]) {
                Poll::Ready(length) => sent += length.map_err(Stop::SinkFailed)?,
                Poll::Pending => {
                    self.rest = buffer[sent..length].to_vec();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
