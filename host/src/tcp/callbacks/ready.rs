//! The sockets of an instance for which something can be done.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake};

use futures::task::AtomicWaker;

/// The sockets that were woken since the driver last looked.
#[derive(Debug, Default)]
pub(super) struct Ready {
    sockets: Mutex<Vec<u32>>,
    /// The task of the driver.
    driver: AtomicWaker,
}

/// Wakes the driver of an instance for one socket.
#[derive(Debug)]
pub(super) struct Signal {
    ready: Arc<Ready>,
    socket: u32,
    /// Whether the socket is in the list.
    listed: AtomicBool,
}

impl Ready {
    pub(super) fn signal(self: &Arc<Self>, socket: u32) -> Arc<Signal> {
        Arc::new(Signal {
            ready: self.clone(),
            socket,
            listed: AtomicBool::new(false),
        })
    }

    /// Waits until the list is not empty.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.sockets().is_empty() {
            return Poll::Ready(());
        }
        self.driver.register(cx.waker());
        // A socket that was woken meanwhile has woken nobody.
        match self.sockets().is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Exchanges the list for an empty one.
    pub(super) fn take(&self, empty: &mut Vec<u32>) {
        mem::swap(&mut *self.sockets(), empty);
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<u32>> {
        // No code panics while it holds the lock.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signal {
    /// Records that the socket has left the list: from now on a wake enters it again.
    pub(super) fn begin(&self) {
        self.listed.store(false, Ordering::SeqCst);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut sockets = self.ready.sockets();
        sockets.push(self.socket);
        let first = sockets.len() == 1;
        drop(sockets);
        if first {
            self.ready.driver.wake();
        }
    }
}
