//! The tasks of one call into the component: the called function, and the tasks that it
//! spawns.
//!
//! `wit-bindgen` could spawn tasks and wake one call from another by itself, but at a
//! price. After every event at which it has polled all tasks, it yields to the host, which
//! costs a second call into the component and a turn of the host's loop for each chunk of
//! data; and each call that goes to sleep starts a read that its next event cancels. Here,
//! a call polls its woken tasks until none is left, and has a *bell*: a stream to itself.
//! Another call that wakes one of its tasks writes to the bell, and the host then runs the
//! call.
//!
//! The bell is polled with the call's own context, outside the set of tasks. A wake from
//! another call consumes the waker of that set, so an event that is reported through the
//! set would no longer reach the call.

mod bell;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::channel::oneshot;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;

/// How often a call polls its woken tasks before it yields to the host.
const ROUNDS: usize = 4;

type Task = LocalBoxFuture<'static, ()>;
type CallId = u64;

thread_local! {
    /// The call whose tasks are being polled.
    static CURRENT: Cell<Option<CallId>> = const { Cell::new(None) };
    static NEXT: Cell<CallId> = const { Cell::new(0) };
    /// The tasks spawned since the last poll.
    static SPAWNED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    /// Whether the current call has to yield to the host.
    static YIELDING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a task concurrently with its caller.
///
/// The task continues after the handler of the connection has returned, and keeps the
/// instance alive; when the instance ends, so does the task.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    SPAWNED.with_borrow_mut(|spawned| spawned.push(task.boxed_local()));
}

/// Yields once to the host and to the other connections of the instance. A service that
/// computes for long calls this now and then.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        YIELDING.set(true);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a call: `main`, whose result is the call's result, and the tasks that it spawns,
/// which continue afterwards.
pub(crate) async fn call<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(Cell::new(None));
    let mut tasks = Tasks::new();
    let returned = result.clone();
    spawn(async move { returned.set(Some(main.await)) });
    let result = poll_fn(|context| {
        let over = tasks.poll(context);
        match result.take() {
            Some(result) => Poll::Ready((result, over)),
            None => Poll::Pending,
        }
    });
    let (result, over) = result.await;
    if over.is_pending() {
        wit_bindgen::spawn_local(async move { poll_fn(|context| tasks.poll(context)).await });
    }
    result
}

/// The tasks of a call.
struct Tasks {
    id: CallId,
    woken: Arc<Woken>,
    waker: Waker,
    bell: Task,
    tasks: FuturesUnordered<Task>,
    /// Dropped with the last task.
    _over: oneshot::Sender<()>,
}

impl Tasks {
    /// Creates a call without tasks.
    fn new() -> Self {
        let id = NEXT.replace(NEXT.get() + 1);
        let woken = Arc::new(Woken {
            call: id,
            woken: AtomicBool::new(false),
            poller: AtomicWaker::new(),
        });
        // wit-bindgen yields to the host when all tasks of its own set were polled. This
        // task, which is hardly ever polled, prevents that.
        let (over, waits) = oneshot::channel();
        wit_bindgen::spawn_local(async {
            let _ = waits.await;
        });
        Tasks {
            id,
            waker: woken.clone().into(),
            woken,
            bell: bell::listen(id).boxed_local(),
            tasks: FuturesUnordered::new(),
            _over: over,
        }
    }

    /// Polls the woken tasks; ready when no task is left.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _within = Within::call(self.id);
        self.woken.poller.register(context.waker());
        // The bell never ends: polling it makes it listen for the next wake.
        let _ = self.bell.poll_unpin(context);
        for _ in 0..ROUNDS {
            self.woken.woken.store(false, Ordering::Relaxed);
            let mut own = Context::from_waker(&self.waker);
            while let Poll::Ready(Some(())) = self.tasks.poll_next_unpin(&mut own) {}
            let spawned = SPAWNED.take();
            let none_spawned = spawned.is_empty();
            self.tasks.extend(spawned);
            if self.tasks.is_empty() {
                return Poll::Ready(());
            }
            if YIELDING.take() {
                break;
            }
            if none_spawned && !self.woken.woken.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Dropping the tasks may wake other calls.
        let _within = Within::call(self.id);
        self.tasks.clear();
        bell::remove(self.id);
    }
}

/// Records that a call was woken since it last polled its tasks.
struct Woken {
    call: CallId,
    woken: AtomicBool,
    /// The waker of the context in which `wit-bindgen` polls the call.
    poller: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.woken.swap(true, Ordering::Relaxed);
        match CURRENT.get() {
            // The call is running, and checks `woken` before it sleeps.
            Some(current) if current == self.call => {}
            // The bell has already been rung.
            Some(_) if before => {}
            Some(_) => bell::ring(self.call),
            // No call is polling: `wit-bindgen` reports an event of this one.
            None => self.poller.wake(),
        }
    }
}

/// Marks a call as the current one; restores the previous one on drop.
struct Within(Option<CallId>);

impl Within {
    fn call(id: CallId) -> Self {
        Within(CURRENT.replace(Some(id)))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
