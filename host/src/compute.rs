//! Limits how long a guest may compute without waiting for anything.
//!
//! A guest that computes is interrupted at each epoch, and gives way to others. What is
//! counted is how often in a row: it starts anew when the guest has waited in between,
//! or its connections have moved data.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::task::coop::has_budget_remaining;
use tokio::task::yield_now;

use crate::engine::EPOCH;

/// Counts the times that a store's guest was given a turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// Runs what gives the guest its turns.
    pub(crate) async fn of<F: Future>(&self, running: F) -> F::Output {
        let mut running = pin!(running);
        let turn = Arc::new(Turn::default());
        let waker = Waker::from(turn.clone());
        poll_fn(|cx| {
            self.0.fetch_add(1, Ordering::Relaxed);
            turn.begin(cx.waker());
            let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
            let again = turn.end();
            if again && polled.is_pending() {
                if has_budget_remaining() {
                    cx.waker().wake_by_ref();
                } else {
                    // It has had its share: first come others, and what the system has to
                    // tell.
                    let _ = pin!(yield_now()).poll(cx);
                }
            }
            polled
        })
        .await
    }
}

/// Wakes a task; within its turn it only notes that there is to be another.
#[derive(Debug, Default)]
struct Turn {
    state: AtomicU8,
    task: AtomicWaker,
}

/// It is not its turn.
const WAITING: u8 = 0;
/// It is.
const RUNNING: u8 = 1;
/// It is, and it has been woken meanwhile.
const WOKEN: u8 = 2;

impl Turn {
    fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.state.store(RUNNING, Ordering::SeqCst);
    }

    /// Whether it was woken meanwhile.
    fn end(&self) -> bool {
        self.state.swap(WAITING, Ordering::SeqCst) == WOKEN
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .compare_exchange(RUNNING, WOKEN, Ordering::SeqCst, Ordering::SeqCst);
        if noted == Err(WAITING) {
            self.task.wake();
        }
    }
}

/// What is known of the guest's computing.
#[derive(Debug)]
pub(crate) struct Compute {
    limit: Option<Duration>,
    turns: Turns,
    /// How far things were when it was interrupted last.
    last_turn: u64,
    last_moved: u64,
    computed: Duration,
}

impl Compute {
    /// At most so long at a time; zero is no limit.
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

    /// The guest was interrupted after an epoch of computing; `moved` counts what its
    /// connections have moved so far.
    ///
    /// # Errors
    /// If it has computed for too long.
    pub(crate) fn interrupted(&mut self, moved: u64) -> wasmtime::Result<()> {
        let turn = self.turns.0.load(Ordering::Relaxed);
        // The next turn after an interruption is the rest of the same computation, or
        // its end; one more, and the guest has waited.
        let goes_on = turn <= self.last_turn + 1 && moved == self.last_moved;
        self.last_turn = turn;
        self.last_moved = moved;
        self.computed = if goes_on {
            self.computed + EPOCH
        } else {
            EPOCH
        };
        match self.limit {
            Some(limit) if self.computed > limit => Err(wasmtime::Error::msg(format!(
                "it computed for {} s without waiting; --max-compute is the limit",
                limit.as_secs_f64()
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

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
        assert!(error.to_string().contains("--max-compute"), "{error}");
    }

    #[test]
    fn waiting_and_moving_data_start_anew() {
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

    /// Neither a task that wakes itself, nor one that has no budget left, is forgotten.
    #[tokio::test]
    async fn whoever_is_woken_within_a_turn_gets_another() {
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
            turns.of(woken).await;
            turns.of(without_budget).await;
        };
        timeout(Duration::from_secs(10), all).await.unwrap();
        assert!(turns.0.load(Ordering::Relaxed) >= 3 + 1000 / 128);
    }

    /// From another thread as well, at whatever moment.
    #[tokio::test]
    async fn whoever_is_woken_from_elsewhere_gets_another() {
        let turns = Turns::default();
        for _ in 0..1000 {
            let (told, waiting) = tokio::sync::oneshot::channel();
            let teller = std::thread::spawn(move || told.send(()));
            let heard = timeout(Duration::from_secs(10), turns.of(waiting)).await;
            heard.unwrap().unwrap();
            teller.join().unwrap().unwrap();
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let mut compute = Compute::new(Duration::ZERO);
        for _ in 0..1000 {
            turn(&compute);
            compute.interrupted(0).unwrap();
        }
    }
}
