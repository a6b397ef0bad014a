//! The tasks of one call of the component: what was called, and what that spawns.
//!
//! `wit-bindgen` can spawn tasks and wake one call from another by itself. But then it
//! gives way to the host after every event at which all tasks were polled, which is a
//! second call into the component and a turn of the host's loop for each chunk of data;
//! and each call that goes to sleep starts a read that its next event cancels. Here a call
//! polls the tasks that were woken until none is left, and has a *bell*: a stream of its
//! own. Another call that wakes one of these tasks writes to the bell, and the host then
//! runs this call.
//!
//! The bell is polled with the call's own context, outside the set of tasks. A wake from
//! another call consumes the waker of that set, so an event that is reported through the
//! set would not reach the call any more.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::channel::oneshot;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;
use wit_bindgen::StreamWriter;
use wit_bindgen::rt::async_support::StreamResult;

use crate::bindings::imports::wit_stream;

/// How often the tasks that are woken are polled before the host has its turn.
const ROUNDS: usize = 4;

type Task = LocalBoxFuture<'static, ()>;
type CallId = u64;

thread_local! {
    /// The call whose tasks are being polled.
    static CURRENT: Cell<Option<CallId>> = const { Cell::new(None) };
    static NEXT: Cell<CallId> = const { Cell::new(0) };
    /// What was spawned since the tasks were last polled.
    static SPAWNED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    /// The current call is to give way to the host.
    static GIVE_WAY: Cell<bool> = const { Cell::new(false) };
    static BELLS: RefCell<BTreeMap<CallId, StreamWriter<u8>>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// Runs a task beside the one that calls this. It goes on after that has returned, and
/// the instance is kept for it; it does not outlive the instance.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    SPAWNED.with_borrow_mut(|spawned| spawned.push(task.boxed_local()));
}

/// Lets the host and the other connections of the instance go on, once: for a service
/// that computes for long.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        GIVE_WAY.set(true);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a call: `main`, whose result is the call's, and what it spawns, which goes on
/// afterwards.
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
    /// A call without tasks.
    fn new() -> Self {
        let id = NEXT.replace(NEXT.get() + 1);
        let woken = Arc::new(Woken {
            call: id,
            woken: AtomicBool::new(false),
            poller: AtomicWaker::new(),
        });
        // wit-bindgen's own set of tasks gives way to the host when all of them were
        // polled. Here is one that seldom is.
        let (over, waits) = oneshot::channel();
        wit_bindgen::spawn_local(async {
            let _ = waits.await;
        });
        Tasks {
            id,
            waker: woken.clone().into(),
            woken,
            bell: bell(id).boxed_local(),
            tasks: FuturesUnordered::new(),
            _over: over,
        }
    }

    /// Polls the tasks that were woken; ready when no task is left.
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
            if GIVE_WAY.take() {
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
        // What goes with the tasks may wake other calls.
        let _within = Within::call(self.id);
        self.tasks.clear();
        drop(BELLS.with_borrow_mut(|bells| bells.remove(&self.id)));
    }
}

/// Listens for wakes from other calls. A byte carries nothing: its event makes the host
/// run the call.
async fn bell(id: CallId) {
    let (writer, mut reader) = wit_stream::new();
    BELLS.with_borrow_mut(|bells| bells.insert(id, writer));
    let mut buffer = Vec::with_capacity(1);
    loop {
        let (result, filled) = reader.read(buffer).await;
        if matches!(result, StreamResult::Dropped) {
            // Dropped with the call, and then this is not polled any more.
            return std::future::pending().await;
        }
        buffer = filled;
        buffer.clear();
    }
}

/// Wakes a call that sleeps. Its bell is being read, so that takes the ring at once.
fn ring(id: CallId) {
    BELLS.with_borrow_mut(|bells| {
        if let Some(bell) = bells.get_mut(&id) {
            let ringing = pin!(bell.write(vec![0]));
            let _ = ringing.poll(&mut Context::from_waker(Waker::noop()));
        }
    });
}

/// Whether a call was woken since its tasks were last polled.
struct Woken {
    call: CallId,
    woken: AtomicBool,
    /// What `wit-bindgen` polls the call by.
    poller: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.woken.swap(true, Ordering::Relaxed);
        match CURRENT.get() {
            // It will see that it was woken.
            Some(current) if current == self.call => {}
            // The ring comes as an event.
            Some(_) if before => {}
            Some(_) => ring(self.call),
            // An event of its own has come.
            None => self.poller.wake(),
        }
    }
}

/// Notes whose tasks are being polled, until it is dropped.
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
