//! The end of a connection, whoever still holds its socket (rule C5).

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep;

use super::Socket;
use crate::tcp::waiters::Wait;
use crate::tcp::{Ending, ErrorCode};

/// How long the data that arrived before a reset can be read (rule R3).
const UNREAD: Duration = Duration::from_secs(10);

impl Socket {
    /// Waits until the connection fails, for instance by a reset while the guest neither
    /// reads nor writes (rule C6). Never resolves if it does not fail.
    pub(in crate::tcp) async fn failed(&self, wait: Wait) -> ErrorCode {
        poll_fn(|cx| self.poll_failed(cx, wait)).await
    }

    /// Waits until the connection fails.
    pub(in crate::tcp) fn poll_failed(&self, cx: &mut Context<'_>, wait: Wait) -> Poll<ErrorCode> {
        // Whoever records a failure wakes afterwards, so waiting comes first.
        let ask = self.waiters.watch(wait, cx.waker());
        if let Some(failure) = self.failure() {
            return Poll::Ready(failure);
        }
        if !ask {
            return Poll::Pending;
        }
        let failed = match self.slot.share().live() {
            Some(live) => live.poll_failure(&self.state, &self.waiters),
            // Both directions have ended, and nothing can fail any more.
            None => Poll::Pending,
        };
        if failed.is_ready() {
            self.settle();
        }
        failed
    }

    /// Discards what is not sent, and sends RST at once (rule C3). On a connection that has
    /// failed or ended before, only ends what is left of it.
    pub(crate) fn abort(&self, ending: Ending) {
        let mut state = self.state.lock();
        let resets = state.abort(ending);
        let ends = resets || state.failure().is_some() || state.over();
        drop(state);
        if ends {
            self.release();
        }
    }

    /// Ends a connection that has failed: at once if nothing is left to receive, and
    /// otherwise when that is received, or [`UNREAD`] later.
    pub(super) fn settle(&self) {
        let unread = {
            let received_end = self.state.lock().received_end();
            let shared = self.slot.share();
            shared
                .live()
                .is_some_and(|live| !received_end && live.transport.holds_unread())
        };
        if !unread {
            return self.release();
        }
        if !self.lingering.swap(true, Ordering::AcqRel) {
            let socket = self.me.clone();
            self.runtime.spawn(async move {
                sleep(UNREAD).await;
                if let Some(socket) = socket.upgrade() {
                    socket.release();
                }
            });
        }
        self.waiters.wake_all();
    }

    /// Notices an end that nobody waits for: a failure of the connection, or the peer's FIN
    /// after ours.
    pub(super) fn notice_end(&self) {
        let failed = {
            let shared = self.slot.share();
            let Some(live) = shared.live() else {
                return;
            };
            let awaits_end = {
                let state = self.state.lock();
                state.finished() && !state.received_end() && state.failure().is_none()
            };
            let failed = live.take_failure(&self.state).is_some();
            match failed {
                false if awaits_end => live.transport.at_end(&self.state).map_err(|_| ()),
                false => Ok(false),
                true => Err(()),
            }
        };
        match failed {
            Ok(false) => {}
            // A failure that was recorded meanwhile ends the connection as well.
            Ok(true) => drop(self.receive_end()),
            Err(()) => self.settle(),
        }
    }

    /// Closes the descriptor and drops the guard, if that has not been done. The state says
    /// why by now: the connection has failed, or both directions have ended.
    pub(super) fn release(&self) {
        let Some(live) = self.slot.take() else {
            return;
        };
        // Whoever is first to release sends the RST of a reset, even if another has
        // recorded it.
        let reset = self.state.lock().aborted();
        self.waiters.wake_all();
        live.close(reset);
    }
}
