//! Timers of a service in callback style.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::Hash;
use super::socket::milliseconds;
use crate::bindings::sockets::halfopen::tcp::timers;

/// A timer of a service in callback style, made by [`set_timer`] or [`set_interval`].
///
/// Dropping it clears it: nothing is called any more. So a value that implements
/// [`Events`](crate::Events) and keeps its timers ends them with its connection.
#[derive(Debug)]
#[must_use = "dropping a timer clears it"]
pub struct Timer {
    number: u32,
}

impl Timer {
    /// Lets the timer go on without a value that can clear it.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The function is dropped outside of the table: it may own timers.
        let fire = TIMERS.with_borrow_mut(|all| all.remove(&self.number));
        if fire.is_some() {
            timers::clear(self.number);
        }
    }
}

/// What a timer calls.
enum Fire {
    Once(Box<dyn FnOnce()>),
    Again(Box<dyn FnMut()>),
    /// The function of an interval, while it runs.
    Running,
}

thread_local! {
    /// The timers that are set. The table is not in use while a timer's function runs, which
    /// may set and clear timers.
    static TIMERS: RefCell<HashMap<u32, Fire, Hash>> =
        const { RefCell::new(HashMap::with_hasher(Hash::new())) };
}

/// Calls `fire` once, after this time, rounded up to whole milliseconds; with zero, as soon as
/// the event that is being handled has returned. A timer is late, never early.
///
/// Needs [`callbacks!(…, timers)`](macro@crate::callbacks). Returns `None`, and never calls
/// `fire`, if the instance has 10,000 timers already. A timer keeps no instance alive: in an
/// instance that serves one connection it may not come after the connection has closed.
///
/// ```no_run
/// use halfopen_guest::{Events, Socket, callbacks};
/// use std::time::Duration;
///
/// callbacks!(Greeter::new, timers);
///
/// /// Greets a client that has said nothing for a second, and goes on.
/// struct Greeter {
///     greeting: Option<callbacks::Timer>,
/// }
///
/// impl Greeter {
///     fn new(socket: &Socket) -> Self {
///         let client = socket.clone();
///         let greet = move || _ = client.write("hello?\n");
///         Greeter {
///             greeting: callbacks::set_timer(Duration::from_secs(1), greet),
///         }
///     }
/// }
///
/// impl Events for Greeter {
///     fn data(&mut self, _: &Socket, _: Vec<u8>) {
///         self.greeting = None; // clears the timer
///     }
/// }
/// ```
#[must_use = "dropping a timer clears it"]
pub fn set_timer(after: Duration, fire: impl FnOnce() + 'static) -> Option<Timer> {
    let number = timers::set_timer(milliseconds(after));
    keep(number, Fire::Once(Box::new(fire)))
}

/// Calls `fire` again and again, at multiples of this time from now on, rounded up to whole
/// milliseconds, at least one. Calls that are missed because the service was busy are left
/// out.
///
/// Otherwise it is like [`set_timer`].
#[must_use = "dropping a timer clears it"]
pub fn set_interval(every: Duration, fire: impl FnMut() + 'static) -> Option<Timer> {
    let number = timers::set_interval(milliseconds(every));
    keep(number, Fire::Again(Box::new(fire)))
}

fn keep(number: u32, fire: Fire) -> Option<Timer> {
    if number == 0 {
        return None;
    }
    TIMERS.with_borrow_mut(|all| all.insert(number, fire));
    Some(Timer { number })
}

#[doc(hidden)]
pub fn fired(number: u32) {
    let fire = TIMERS.with_borrow_mut(|all| {
        let fire = all.remove(&number)?;
        if let Fire::Again(_) = fire {
            all.insert(number, Fire::Running);
        }
        Some(fire)
    });
    match fire {
        Some(Fire::Once(fire)) => fire(),
        Some(Fire::Again(mut fire)) => {
            fire();
            let mut fire = Some(Fire::Again(fire));
            TIMERS.with_borrow_mut(|all| {
                // It is no longer there if its own function has cleared it.
                if let Some(running) = all.get_mut(&number) {
                    *running = fire.take().unwrap_or(Fire::Running);
                }
            });
        }
        Some(Fire::Running) | None => {}
    }
}
