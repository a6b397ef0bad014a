//! Sending, and the end of the sending direction.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use super::Socket;
use crate::tcp::ErrorCode;
use crate::tcp::live::Live;
use crate::tcp::sync::atomic::Ordering;
use crate::tcp::turn::poll_turn;
use crate::tcp::waiters::Wait;

impl Socket {
    /// Waits until something can be sent, or sending has become impossible.
    pub(in crate::tcp) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_turn(cx));
        let writable =
            |live: &Live, cx: &mut Context<'_>| live.transport.poll_writable(cx, &self.state);
        self.poll_live(cx, Wait::Send, writable).map(|_| ())
    }

    /// Sends a part of `data`, at least one byte.
    ///
    /// After `Pending`, the next call has to be given the same data, unless
    /// [`abandon_send`](Self::abandon_send) comes first.
    pub(in crate::tcp) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        ready!(poll_turn(cx));
        let send =
            |live: &Live, cx: &mut Context<'_>| live.transport.poll_send(cx, data, &self.state);
        let Poll::Ready(sent) = self.poll_live(cx, Wait::Send, send) else {
            self.stalled();
            return Poll::Pending;
        };
        Poll::Ready(match sent {
            Some(Ok(length)) => {
                if let Some(meter) = self.state.meter() {
                    meter.add_sent(length, data.get(..length));
                }
                if self.flushing.load(Ordering::Relaxed) {
                    // This call has sent what the task was to send.
                    self.waiters.wake_one(Wait::Flush);
                }
                Ok(length)
            }
            Some(Err(error)) => {
                self.settle();
                Err(error)
            }
            None => Err(self.ended()),
        })
    }

    /// Gives up a pending [`poll_send`](Self::poll_send), and returns how many bytes of
    /// its data are sent all the same.
    pub(in crate::tcp) fn abandon_send(&self) -> usize {
        let (sent, unsent) = match self.slot.share().live() {
            Some(live) => (live.transport.abandon_send(), live.transport.holds_unsent()),
            None => (0, false),
        };
        if unsent {
            self.flush();
        } else if let Some(meter) = self.state.meter() {
            meter.unstalled();
        }
        sent
    }

    /// Sends, in a task, what writers were told is sent.
    fn flush(&self) {
        if self.flushing.swap(true, Ordering::SeqCst) {
            // The reactor may have replaced the task by the writer that has given up.
            return self.waiters.wake_one(Wait::Flush);
        }
        let socket = self.me.clone();
        self.runtime
            .spawn(poll_fn(move |cx| match socket.upgrade() {
                Some(socket) => socket.poll_flush(cx),
                None => Poll::Ready(()),
            }));
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let flush = |live: &Live, cx: &mut Context<'_>| live.transport.poll_flush(cx, &self.state);
        let unsent = |live: &Live| live.transport.holds_unsent();
        loop {
            match ready!(self.poll_live(cx, Wait::Flush, flush)) {
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    self.settle();
                    break;
                }
                None => break,
            }
            self.flushing.store(false, Ordering::SeqCst);
            // A writer that gave up before this moment has started no other task.
            if !self.slot.share().live().is_some_and(unsent)
                || self.flushing.swap(true, Ordering::SeqCst)
            {
                break;
            }
        }
        if let Some(meter) = self.state.meter() {
            meter.unstalled();
        }
        // The reactor has woken this task instead of the others that send.
        self.waiters.wake_one(Wait::Send);
        self.waiters.wake_one(Wait::Finish);
        Poll::Ready(())
    }

    /// Half-closes the connection: sends our FIN behind everything sent (rule W1), and then
    /// calls `report`, with an error if the connection has failed.
    ///
    /// With TLS, the kernel may not have room for the end. A task then sends it, and the
    /// direction remains open until the kernel has it: the connection can reach a limit, and
    /// be reset. If nothing uses the connection any more, its close takes over.
    pub(in crate::tcp) fn finish_sending(
        &self,
        report: impl FnOnce(Result<(), ErrorCode>) + Send + 'static,
    ) {
        if let Err(error) = self.begin_finish() {
            return report(Err(error));
        }
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(finished) = self.poll_finish(&mut cx) {
            return report(finished);
        }
        let socket = self.me.clone();
        self.runtime.spawn(async move {
            let finished = poll_fn(|cx| match socket.upgrade() {
                Some(socket) => socket.poll_finish(cx),
                None => Poll::Ready(Err(ErrorCode::ConnectionAborted)),
            });
            report(finished.await);
        });
    }

    /// Begins to half-close the connection.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(in crate::tcp) fn begin_finish(&self) -> Result<(), ErrorCode> {
        let shared = self.slot.share();
        let mut state = self.state.lock();
        if let Some(failure) = state.failure() {
            return Err(failure.clone());
        }
        let begins = state.may_finish();
        state.begin_finish();
        // The transport's lock comes first.
        drop(state);
        if let (true, Some(live)) = (begins, shared.live()) {
            live.transport.begin_finish();
        }
        Ok(())
    }

    /// Completes [`begin_finish`](Self::begin_finish).
    pub(in crate::tcp) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<Result<(), ErrorCode>> {
        let finish =
            |live: &Live, cx: &mut Context<'_>| live.transport.poll_finish(cx, &self.state);
        let Poll::Ready(finished) = self.poll_live(cx, Wait::Finish, finish) else {
            self.stalled();
            return Poll::Pending;
        };
        Poll::Ready(match finished {
            Some(Ok(())) => {
                if let Some(meter) = self.state.meter() {
                    meter.unstalled();
                }
                if self.flushing.load(Ordering::Relaxed) {
                    self.waiters.wake_one(Wait::Flush);
                }
                if self.state.lock().over() {
                    self.release();
                }
                Ok(())
            }
            Some(Err(error)) => {
                self.settle();
                Err(error)
            }
            None => Err(self.ended()),
        })
    }

    /// Records that data waits for the peer.
    fn stalled(&self) {
        if let Some(meter) = self.state.meter() {
            meter.stalled();
        }
    }

    /// The error of sending on a connection that has ended.
    pub(super) fn ended(&self) -> ErrorCode {
        self.failure().unwrap_or(ErrorCode::ConnectionAborted)
    }
}
