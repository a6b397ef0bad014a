//! A service in callback style that sets, clears and forgets timers of the SDK.
//!
//! It says `late` to a client that has said nothing for 1 s. A client that says `c` gets
//! three numbers, from an interval whose own function clears it; one that says `f` gets
//! `forgotten` from a timer that was forgotten; one that says `d` gets nothing from a timer that
//! was dropped.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use callbacks::{Timer, set_interval, set_timer};
use halfopen_guest::{Events, Socket, callbacks};

callbacks!(Alarm::new, timers, isolation = shared);

const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(1);

struct Alarm {
    late: Option<Timer>,
}

impl Alarm {
    fn new(socket: &Socket) -> Self {
        Alarm {
            late: set_timer(LATE, write(socket, "late\n")),
        }
    }
}

impl Events for Alarm {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.late = None;
        for byte in chunk {
            match byte {
                b'c' => count(socket.clone()),
                b'f' => set_timer(SOON, write(socket, "forgotten\n"))
                    .into_iter()
                    .for_each(Timer::forget),
                b'd' => drop(set_timer(SOON, write(socket, "dropped\n"))),
                _ => {}
            }
        }
    }
}

fn write(socket: &Socket, text: &'static str) -> impl FnOnce() + 'static {
    let socket = socket.clone();
    move || _ = socket.write(text)
}

fn count(socket: Socket) {
    let timer = Rc::new(RefCell::new(None));
    let own = timer.clone();
    let mut number = 0;
    let next = move || {
        number += 1;
        socket.write(format!("{number}\n"));
        if number == 3 {
            own.take(); // drops the timer while its function runs
        }
    };
    timer.replace(set_interval(SOON, next));
}
