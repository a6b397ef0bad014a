//! The turns that a task takes among the other tasks of its thread.

use std::task::{Context, Poll};

use tokio::task::coop::has_budget_remaining;

/// Resolves if the current task has cooperative budget left; otherwise wakes the task for
/// its next turn.
///
/// tokio's own I/O checks the budget as well, but defers the wake until the task yields. A
/// task that serves many connections in one `FuturesUnordered` would therefore poll all of
/// them in vain: thousands for every 128 that make progress. `FuturesUnordered` stops
/// early when the futures that it polls wake themselves at once.
pub(super) fn poll_turn(cx: &mut Context<'_>) -> Poll<()> {
    if has_budget_remaining() {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt as _;
    use futures::stream::FuturesUnordered;
    use tokio::task::coop::consume_budget;

    use super::*;

    #[tokio::test]
    async fn a_task_without_budget_stops_polling_its_connections() {
        const CONNECTIONS: usize = 10_000;
        let polls = AtomicUsize::new(0);
        let polls = &polls;
        let connection = || {
            let mut served = Box::pin(async {
                poll_fn(poll_turn).await;
                consume_budget().await;
            });
            poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                served.as_mut().poll(cx)
            })
        };
        let connections: FuturesUnordered<_> = (0..CONNECTIONS).map(|_| connection()).collect();
        connections.collect::<()>().await;
        // Once each, and a few more at the end of each turn.
        let polls = polls.load(Ordering::Relaxed);
        assert!(polls < CONNECTIONS + CONNECTIONS / 10, "{polls} polls");
    }
}
