//! Waits for the time that the state has ordered.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures::future::{self, Either};
use futures::task::AtomicWaker;
use halfopen_guest::bindings::imports::wasi::clocks::monotonic_clock;

use crate::orders::carry_out;

thread_local! {
    static TIME: Cell<Option<u64>> = const { Cell::new(None) };
    /// Whether the task that waits was started.
    static STARTED: Cell<bool> = const { Cell::new(false) };
}

/// The task that waits.
static TASK: AtomicWaker = AtomicWaker::new();

/// Orders to ask for orders at this time, and at no other.
pub(crate) fn order(time: u64) {
    TIME.set(Some(time));
    if STARTED.replace(true) {
        TASK.wake();
    } else {
        // Within the call that happens to be there; the others wake it there.
        halfopen_guest::spawn(run());
    }
}

async fn run() {
    loop {
        let time = poll_fn(|context| {
            TASK.register(context.waker());
            TIME.get().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let another = poll_fn(|context| {
            TASK.register(context.waker());
            match TIME.get() == Some(time) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        });
        let passed = pin!(monotonic_clock::wait_until(time));
        if let Either::Left(_) = future::select(passed, another).await {
            TIME.set(None);
            carry_out();
            // A time that has passed already is no wait.
            halfopen_guest::yield_now().await;
        }
    }
}
