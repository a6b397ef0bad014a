//! The tasks that wait for a connection.

use std::task::{Wake, Waker};

use super::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a task waits for. Of each kind, one task can wait at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Data from the peer, or the end of it.
    Receive,
    /// Room for data to send.
    Send,
    /// Room for data that its writer has given up after a part of it was encrypted.
    Flush,
    /// Room for our end.
    Finish,
    /// The next part of a TLS handshake.
    Handshake,
    /// A failure, on behalf of the future of the receiving direction.
    Received,
    /// A failure, on behalf of the future of the sending direction.
    Sent,
    /// A failure, on behalf of a pump whose sink the connection is.
    Pump,
}

/// How many kinds of waiting there are.
const KINDS: usize = Wait::Pump as usize + 1;

/// Who waits for a failure.
const FOR_FAILURE: [Wait; 3] = [Wait::Received, Wait::Sent, Wait::Pump];

/// The tasks that wait for a connection.
///
/// The reactor has a record of them as well, but drops it without waking anybody when the
/// connection leaves the reactor.
///
/// As a waker, it wakes those who wait for a failure.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wakers: [Option<Waker>; KINDS],
    /// Whether the reactor has been asked for an error, and has not answered.
    watched: bool,
}

impl Waiters {
    /// Lets a task wait, instead of the one that has waited for the same.
    pub(super) fn add(&self, wait: Wait, waker: &Waker) {
        let mut inner = self.lock();
        let replaced = inner.add(wait, waker);
        drop(inner);
        // Dropping a waker may run other code, which must not find the lock taken.
        drop(replaced);
    }

    /// Lets a task wait for a failure. Returns whether the caller has to ask the reactor for
    /// it now; otherwise somebody else has.
    pub(super) fn watch(&self, wait: Wait, waker: &Waker) -> bool {
        let mut inner = self.lock();
        let replaced = inner.add(wait, waker);
        let watched = std::mem::replace(&mut inner.watched, true);
        drop(inner);
        drop(replaced);
        !watched
    }

    /// Wakes the task that waits for this, if there is one.
    pub(super) fn wake_one(&self, wait: Wait) {
        let waker = self.lock().wakers[wait as usize].take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes every task that waits.
    pub(super) fn wake_all(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Returns the waker that `waker` replaces.
    fn add(&mut self, wait: Wait, waker: &Waker) -> Option<Waker> {
        let slot = &mut self.wakers[wait as usize];
        match slot {
            Some(slot) if slot.will_wake(waker) => None,
            _ => slot.replace(waker.clone()),
        }
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.watched = false;
        let wakers = FOR_FAILURE.map(|wait| inner.wakers[wait as usize].take());
        drop(inner);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn everybody_is_woken_once() {
        let waiters = Waiters::default();
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        for (wait, count) in [Wait::Receive, Wait::Send, Wait::Sent].iter().zip(&counts) {
            waiters.add(*wait, &count.clone().into());
        }
        waiters.wake_all();
        waiters.wake_all();
        let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1; 3]);
    }

    #[test]
    fn the_reactor_is_asked_once_until_it_answers() {
        let waiters = Arc::new(Waiters::default());
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        let [received, sent, reader] = counts.clone().map(Waker::from);
        waiters.add(Wait::Receive, &reader);
        assert!(waiters.watch(Wait::Received, &received));
        assert!(!waiters.watch(Wait::Sent, &sent));
        Waker::from(waiters.clone()).wake_by_ref();
        let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1, 0], "only those who wait for a failure");
        assert!(waiters.watch(Wait::Received, &received));
    }
}
