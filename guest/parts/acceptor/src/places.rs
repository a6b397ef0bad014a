//! The bound on the number of connections that are served at once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The free places, which all listeners share.
#[derive(Clone)]
pub(crate) struct Places(Rc<Shared>);

struct Shared {
    free: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

/// The place of one connection; free again on drop.
pub(crate) struct Place(Places);

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Places(Rc::new(Shared {
            free: Cell::new(count),
            waiting: RefCell::default(),
        }))
    }

    /// Waits until a place is free, and takes it.
    pub(crate) async fn take(&self) -> Place {
        poll_fn(|cx| match self.0.free.get().checked_sub(1) {
            Some(free) => {
                self.0.free.set(free);
                Poll::Ready(Place(self.clone()))
            }
            None => {
                self.0.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Shared { free, waiting } = &*self.0.0;
        free.set(free.get() + 1);
        // Each woken listener checks again; at most one waits per listener.
        for waker in waiting.take() {
            waker.wake();
        }
    }
}
