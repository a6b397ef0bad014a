//! A value that its users take in turns, first come, first served.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A value that one user has at a time; the others wait in the order in which they came
/// (rule L6). A user who gives up waiting holds up nobody.
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
///
/// use halfopen_model::Turns;
///
/// let turns = Turns::new(1);
/// let mut context = Context::from_waker(Waker::noop());
/// let mut first = pin!(turns.turn());
/// let Poll::Ready(mut turn) = first.as_mut().poll(&mut context) else {
///     panic!("nobody else has it");
/// };
/// let mut second = pin!(turns.turn());
/// assert!(second.as_mut().poll(&mut context).is_pending());
/// *turn.get() += 1;
/// drop(turn);
/// assert!(second.as_mut().poll(&mut context).is_ready());
/// ```
#[derive(Debug)]
pub struct Turns<T> {
    state: RefCell<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// The value, unless a user has it.
    free: Option<T>,
    /// Those who wait. The first of them stays here until it takes the value, so that
    /// nobody who comes later can take it before.
    waiting: VecDeque<(Ticket, Waker)>,
    next: Ticket,
}

type Ticket = u64;

/// The exclusive use of the value of a [`Turns`]; ends on drop.
#[derive(Debug)]
pub struct Turn<'a, T> {
    turns: &'a Turns<T>,
    value: Option<T>,
}

/// Waits for a [`Turn`]; [`Turns::turn`] returns it.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Waiting<'a, T> {
    turns: &'a Turns<T>,
    /// The place in the queue, from the first poll that has to wait until the turn.
    ticket: Option<Ticket>,
}

impl<T> Turns<T> {
    /// Makes a value available.
    pub fn new(value: T) -> Self {
        Turns {
            state: RefCell::new(State {
                free: Some(value),
                waiting: VecDeque::new(),
                next: 0,
            }),
        }
    }

    /// Waits for the value. The place in the queue counts from the first poll; to drop the
    /// future gives it up.
    pub fn turn(&self) -> Waiting<'_, T> {
        Waiting {
            turns: self,
            ticket: None,
        }
    }
}

impl<T> State<T> {
    /// Wakes the first in the queue if it can take the value.
    fn wake_first(&self) {
        if self.free.is_some()
            && let Some((_, first)) = self.waiting.front()
        {
            first.wake_by_ref();
        }
    }
}

impl<'a, T> Future for Waiting<'a, T> {
    type Output = Turn<'a, T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn<'a, T>> {
        let turns = self.turns;
        let mut state = turns.state.borrow_mut();
        let is_first = match (self.ticket, state.waiting.front()) {
            (None, None) => true,
            (Some(own), Some((first, _))) => own == *first,
            _ => false,
        };
        if is_first && let Some(value) = state.free.take() {
            if self.ticket.take().is_some() {
                state.waiting.pop_front();
            }
            return Poll::Ready(Turn {
                turns,
                value: Some(value),
            });
        }
        let waker = context.waker().clone();
        match self.ticket {
            None => {
                let ticket = state.next;
                state.next += 1;
                state.waiting.push_back((ticket, waker));
                self.ticket = Some(ticket);
            }
            Some(own) => {
                let place = state.waiting.iter_mut().find(|(ticket, _)| *ticket == own);
                if let Some((_, kept)) = place {
                    *kept = waker;
                }
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if let Some(own) = self.ticket {
            let mut state = self.turns.state.borrow_mut();
            state.waiting.retain(|(ticket, _)| *ticket != own);
            // It may have been woken, and passes that on.
            state.wake_first();
        }
    }
}

impl<T> Turn<'_, T> {
    /// The value.
    ///
    /// # Panics
    /// Never: a turn has its value until it is dropped.
    pub fn get(&mut self) -> &mut T {
        self.value
            .as_mut()
            .expect("a turn has its value until it is dropped")
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.turns.state.borrow_mut();
        state.free = self.value.take();
        state.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A user of the value, as a task that is polled when it is woken.
    struct User<'a> {
        number: usize,
        woken: Arc<Woken>,
        waiting: Option<Pin<Box<Waiting<'a, ()>>>>,
        turn: Option<Turn<'a, ()>>,
    }

    impl<'a> User<'a> {
        fn new(number: usize, turns: &'a Turns<()>) -> Self {
            User {
                number,
                woken: Arc::default(),
                waiting: Some(Box::pin(turns.turn())),
                turn: None,
            }
        }

        fn poll(&mut self) -> bool {
            let waker = Waker::from(self.woken.clone());
            let waiting = self.waiting.as_mut().unwrap();
            match waiting.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(turn) => {
                    self.turn = Some(turn);
                    self.waiting = None;
                    true
                }
                Poll::Pending => false,
            }
        }
    }

    #[test]
    fn who_gives_up_passes_the_wake_on() {
        // The second gives up before the first is done, or after it was woken.
        for late in [false, true] {
            let turns = Turns::new(());
            let mut users: Vec<User<'_>> = (0..3).map(|number| User::new(number, &turns)).collect();
            assert!(users[0].poll() && !users[1].poll() && !users[2].poll());
            if late {
                users[0].turn = None;
                users[1].waiting = None;
            } else {
                users[1].waiting = None;
                users[0].turn = None;
            }
            assert!(users[2].woken.0.load(Ordering::Relaxed), "late: {late}");
            assert!(users[2].poll());
        }
    }

    #[test]
    fn who_comes_later_does_not_overtake_who_was_woken() {
        let turns = Turns::new(());
        let mut users: Vec<User<'_>> = (0..3).map(|number| User::new(number, &turns)).collect();
        assert!(users[0].poll() && !users[1].poll());
        users[0].turn = None;
        assert!(!users[2].poll(), "the second was here before");
        assert!(users[1].poll());
    }

    proptest! {
        /// Whoever comes, finishes and gives up, in any order: as long as somebody waits,
        /// somebody has the value or is woken to take it, and all take it in their order.
        #[test]
        fn nobody_waits_in_vain(steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 1..60)) {
            let turns = Turns::new(());
            let mut users: Vec<User<'_>> = Vec::new();
            let mut served = None;
            for (number, (step, index)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        users.push(User::new(number, &turns));
                        let last = users.last_mut().unwrap();
                        last.woken.0.store(true, Ordering::Relaxed);
                        // A place counts from the first poll.
                        if last.poll() {
                            prop_assert!(served < Some(number));
                            served = Some(number);
                        }
                        last.woken.0.store(false, Ordering::Relaxed);
                    }
                    1 if !users.is_empty() => drop(users.remove(index.index(users.len()))),
                    2 => users.retain(|user| user.turn.is_none()),
                    _ => for user in &mut users {
                        if user.waiting.is_some() && user.woken.0.swap(false, Ordering::Relaxed) && user.poll() {
                            prop_assert!(served < Some(user.number));
                            served = Some(user.number);
                        }
                    },
                }
                let first = users.iter().find(|user| user.waiting.is_some());
                let taken = users.iter().filter(|user| user.turn.is_some()).count();
                prop_assert!(taken <= 1);
                if let Some(first) = first && taken == 0 {
                    prop_assert!(first.woken.0.load(Ordering::Relaxed), "nobody is woken");
                }
            }
        }
    }
}
