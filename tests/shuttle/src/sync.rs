//! What tokio has in its module `sync`.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use shuttle::sync::Mutex;

/// Wakes everybody who waits.
#[derive(Debug, Default)]
pub struct Notify(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// How often everybody was woken.
    calls: u64,
    wakers: Vec<Waker>,
}

/// Waits for the first call since it was made.
#[derive(Debug)]
pub struct Notified<'n> {
    notify: &'n Notify,
    calls: u64,
}

impl Notify {
    /// Makes one that nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Notify::default()
    }

    /// Begins to wait, before it is polled.
    pub fn notified(&self) -> Notified<'_> {
        let calls = self.0.lock().expect("no thread panics with it").calls;
        Notified {
            notify: self,
            calls,
        }
    }

    /// Wakes everybody who has begun to wait.
    pub fn notify_waiters(&self) {
        let wakers = {
            let mut waiting = self.0.lock().expect("no thread panics with it");
            waiting.calls += 1;
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Notified<'_> {
    /// Has no effect: it waits since it was made.
    pub fn enable(self: Pin<&mut Self>) -> bool {
        false
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.notify.0.lock().expect("no thread panics with it");
        if waiting.calls != self.calls {
            return Poll::Ready(());
        }
        waiting.wakers.push(context.waker().clone());
        Poll::Pending
    }
}
