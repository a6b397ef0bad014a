//! Limits how long a guest may compute without waiting for anything.
//!
//! A guest that computes is interrupted at each epoch, and yields to others. The limit
//! counts interruptions in a row; the count starts again when the guest has waited in
//! between, or its connections have moved data.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use pin_project_lite::pin_project;
use tokio::task::coop::has_budget_remaining;
use tokio::task::yield_now;

use super::EPOCH;
use super::problem::ComputedTooLong;
use super::ticker::runs;

/// Counts the turns of a store's guest, which end when the guest waits or is interrupted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// Runs the future that runs a guest in callback style, and counts each poll of it as a
    /// turn.
    pub(crate) fn count<F: Future>(&self, running: F) -> impl Future<Output = F::Output> {
        Running {
            turns: self,
            wakes: None,
            running,
        }
    }

    /// Runs the future that runs a guest in await style, and counts each poll of it as a turn.
    ///
    /// A wake during a turn leads to the next turn at once, except where the task's budget
    /// is used up: then other tasks, and the events of the kernel, come first.
    pub(crate) fn run<F: Future>(&self, running: F) -> impl Future<Output = F::Output> {
        let turn = Arc::new(Turn::default());
        let waker = Waker::from(turn.clone());
        Running {
            turns: self,
            wakes: Some((turn, waker)),
            running,
        }
    }
}

pin_project! {
    /// Runs a guest. An async function would have room for `running` twice, as its argument
    /// and while it waits for it, and each connection may have an instance.
    struct Running<'a, F> {
        turns: &'a Turns,
        // Where the wakes of a guest in await style go.
        wakes: Option<(Arc<Turn>, Waker)>,
        #[pin]
        running: F,
    }
}

impl<F: Future> Future for Running<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.turns.0.fetch_add(1, Ordering::Relaxed);
        runs();
        let Some((turn, waker)) = this.wakes else {
            return this.running.poll(cx);
        };
        turn.begin(cx.waker());
        let polled = this.running.poll(&mut Context::from_waker(waker));
        let again = turn.end();
        if again && polled.is_pending() {
            if has_budget_remaining() {
                cx.waker().wake_by_ref();
            } else {
                let _ = pin!(yield_now()).poll(cx);
            }
        }
        polled
    }
}

/// Wakes a task, except during a turn of its own: then the wake is only recorded.
#[derive(Debug, Default)]
struct Turn {
    state: AtomicU8,
    task: AtomicWaker,
}

/// The task is not in a turn.
const WAITING: u8 = 0;
/// The task is in a turn.
const RUNNING: u8 = 1;
/// The task is in a turn, and was woken since it began.
const WOKEN: u8 = 2;

impl Turn {
    fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.state.store(RUNNING, Ordering::SeqCst);
    }

    /// Ends the turn, and returns whether the task was woken during it.
    fn end(&self) -> bool {
        self.state.swap(WAITING, Ordering::SeqCst) == WOKEN
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let recorded =
            self.state
                .compare_exchange(RUNNING, WOKEN, Ordering::SeqCst, Ordering::SeqCst);
        if recorded == Err(WAITING) {
            self.task.wake();
        }
    }
}

/// How long a guest has computed without waiting.
#[derive(Debug)]
pub(crate) struct Compute {
    limit: Option<Duration>,
    turns: Turns,
    /// The number of turns at the last interruption.
    last_turn: u64,
    /// How often the connections had moved data at the last interruption.
    last_moved: u64,
    /// How long the guest has computed since it last waited.
    computed: Duration,
}

impl Compute {
    /// Allows a guest to compute for `limit` at a time; zero means no limit.
    pub(crate) fn new(limit: Duration) -> Self {
        Compute {
            limit: (!limit.is_zero()).then_some(limit),
            turns: Turns::default(),
            last_turn: 0,
            last_moved: 0,
            computed: Duration::ZERO,
        }
    }

    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// Records that the guest was interrupted after an epoch of computing. `moved` counts how
    /// often its connections have moved data.
    ///
    /// Returns how long the guest has computed since it last waited, in whole epochs.
    ///
    /// # Errors
    /// If the guest has computed for too long.
    pub(crate) fn interrupted(&mut self, moved: u64) -> wasmtime::Result<Duration> {
        let turn = self.turns.0.load(Ordering::Relaxed);
        // The next turn after an interruption is the rest of the same computation, or
        // its end. A further turn means that the guest has waited.
        let goes_on = turn <= self.last_turn + 1 && moved == self.last_moved;
        self.last_turn = turn;
        self.last_moved = moved;
        self.computed = if goes_on {
            self.computed + EPOCH
        } else {
            EPOCH
        };
        match self.limit {
            Some(limit) if self.computed > limit => Err(ComputedTooLong(limit).into()),
            _ => Ok(self.computed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::coop::consume_budget;
    use tokio::time::timeout;

    use super::*;

    fn turn(compute: &Compute) {
        compute.turns.0.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_loop_is_stopped_at_the_limit() {
        let mut compute = Compute::new(3 * EPOCH);
        for _ in 0..3 {
            turn(&compute);
            compute.interrupted(0).unwrap();
        }
        turn(&compute);
        let error = compute.interrupted(0).unwrap_err();
        assert!(error.is::<ComputedTooLong>(), "{error}");
    }

    #[test]
    fn waiting_and_moving_data_reset_the_count() {
        let mut compute = Compute::new(3 * EPOCH);
        for moved in 0..100 {
            turn(&compute);
            compute.interrupted(moved).unwrap();
        }
        for _ in 0..100 {
            turn(&compute);
            compute.interrupted(100).unwrap();
            // The end of that turn's work, and the next event.
            turn(&compute);
        }
    }

    /// This holds for a task that wakes itself, and for one without budget.
    #[tokio::test]
    async fn a_wake_within_a_turn_leads_to_another() {
        let turns = Turns::default();
        let mut left = 3;
        let woken = poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let without_budget = async {
            for _ in 0..1000 {
                consume_budget().await;
                if !has_budget_remaining() {
                    let mut first = true;
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if std::mem::take(&mut first) {
                            Poll::Pending
                        } else {
                            Poll::Ready(())
                        }
                    })
                    .await;
                }
            }
        };
        let all = async {
            turns.run(woken).await;
            turns.run(without_budget).await;
        };
        timeout(Duration::from_secs(10), all).await.unwrap();
        assert!(turns.0.load(Ordering::Relaxed) >= 3 + 1000 / 128);
    }

    #[tokio::test]
    async fn a_wake_from_another_thread_leads_to_another_turn() {
        let turns = Turns::default();
        for _ in 0..1000 {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let waker = std::thread::spawn(move || sender.send(()));
            let woken = timeout(Duration::from_secs(10), turns.run(receiver)).await;
            woken.unwrap().unwrap();
            waker.join().unwrap().unwrap();
        }
    }

    #[test]
    fn zero_means_no_limit() {
        let mut compute = Compute::new(Duration::ZERO);
        for _ in 0..1000 {
            turn(&compute);
            compute.interrupted(0).unwrap();
        }
    }
}
