//! The thread that increments the epochs of engines, while a guest runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// How often a component that computes without waiting yields to others: 10 ms.
///
/// An embedder with an [`Engine`] of its own switches on [`epoch_interruption`](wasmtime::Config::epoch_interruption) and
/// calls [`Engine::increment_epoch`] at this interval. For an engine of
/// [`EngineOptions::build`](crate::EngineOptions::build), a thread does so while guests of servers and programs run.
pub const EPOCH: Duration = Duration::from_millis(10);

/// The one ticker of this process: it wakes up as often for many engines as for one.
static TICKER: OnceLock<Ticker> = OnceLock::new();

struct Ticker {
    engines: Mutex<Vec<EngineWeak>>,
    /// Whether a guest ran since the last epoch. Guests write it only where it changes: threads
    /// that run guests all the time do not take it from one another.
    ran: AtomicBool,
    /// Whether the thread sleeps until a guest runs.
    sleeps: AtomicBool,
    thread: Thread,
}

/// Increments the engine's epoch every [`EPOCH`] in which a guest runs, for as long as the
/// engine is used.
pub(super) fn tick(engine: &Engine) {
    let ticker = TICKER.get_or_init(|| Ticker {
        engines: Mutex::default(),
        ran: AtomicBool::new(false),
        sleeps: AtomicBool::new(false),
        thread: thread::spawn(|| TICKER.wait().run()).thread().clone(),
    });
    ticker.engines().push(engine.weak());
}

/// Reports that a guest runs. One that goes on is interrupted at the next epoch, and has to
/// report that again.
pub(super) fn runs() {
    let Some(ticker) = TICKER.get() else {
        return;
    };
    // In one order with what `run` does: either the thread sees that a guest ran, or it is seen
    // here that the thread sleeps.
    if !ticker.ran.load(Ordering::SeqCst) {
        ticker.ran.store(true, Ordering::SeqCst);
    }
    if ticker.sleeps.load(Ordering::SeqCst) && ticker.sleeps.swap(false, Ordering::SeqCst) {
        ticker.thread.unpark();
    }
}

impl Ticker {
    fn run(&self) {
        loop {
            self.sleeps.store(true, Ordering::SeqCst);
            if !self.ran.swap(false, Ordering::SeqCst) {
                thread::park();
            }
            self.sleeps.store(false, Ordering::SeqCst);
            thread::sleep(EPOCH);
            self.engines().retain(|engine| {
                let engine = engine.upgrade();
                engine.inspect(Engine::increment_epoch).is_some()
            });
        }
    }

    fn engines(&self) -> std::sync::MutexGuard<'_, Vec<EngineWeak>> {
        // No code panics while it holds the lock.
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The epoch is past the first one when a guest with a deadline of one epoch traps.
    #[test]
    fn a_guest_that_runs_is_interrupted_each_time() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).unwrap();
        tick(&engine);
        let module = wasmtime::Module::new(&engine, ENDLESS).unwrap();
        for _ in 0..3 {
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_epoch_deadline(1);
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let endless = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
            runs();
            let trap = endless.call(&mut store, ()).unwrap_err();
            assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::Interrupt));
            // Time in which the thread goes to sleep, most times; it must wake up either way.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `(module (func (export "f") (loop (br 0))))`
    const ENDLESS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";
}
