//! `cases` in callback style: it obeys the first chunk of its client, an order a byte, and
//! prints each event. `tests/guests/cases` lists the orders.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use bindings::exports::halfopen::tcp::timer_events::Guest;
use bindings::halfopen::tcp::timers;
use halfopen_guest::{Error, Events, Socket, callbacks, env, log};

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package halfopen:orders;
            world timing {
                import halfopen:tcp/timers@0.1.0;
                export halfopen:tcp/timer-events@0.1.0;
            }
        ",
        world: "halfopen:orders/timing",
        generate_all,
    });
}

/// Longer than any exchange on loopback takes, even on a busy machine.
const MOMENT_MILLISECONDS: u32 = 250;

callbacks!(Orders::new);

thread_local! {
    /// Who goes on when which timer fires.
    static WAITING: RefCell<HashMap<u32, Rc<Queue>>> = RefCell::default();
}

struct Orders {
    /// What each line begins with.
    prefix: String,
    started: bool,
    queue: Rc<Queue>,
}

/// The orders of one connection.
struct Queue {
    socket: Socket,
    orders: RefCell<VecDeque<u8>>,
    ended: Cell<bool>,
    /// Whether the next order waits for the peer's FIN.
    waits_for_end: Cell<bool>,
}

impl Orders {
    fn new(socket: &Socket) -> Self {
        let given = |name: &str| env::args().iter().any(|argument| argument == name);
        socket.allow_half_open(given("--allow-half-open"));
        Orders {
            prefix: match socket.peer_addr() {
                Ok(peer) if given("--name-peer") => format!("{} ", peer.port()),
                _ => String::new(),
            },
            started: false,
            queue: Rc::new(Queue {
                socket: socket.clone(),
                orders: RefCell::default(),
                ended: Cell::new(false),
                waits_for_end: Cell::new(false),
            }),
        }
    }
}

impl Events for Orders {
    fn data(&mut self, _: &Socket, chunk: Vec<u8>) {
        if self.started {
            log!("{}data {}", self.prefix, chunk.len());
            return;
        }
        self.started = true;
        self.queue.orders.borrow_mut().extend(chunk);
        obey(&self.queue);
    }

    fn end(&mut self, _: &Socket) {
        log!("{}end", self.prefix);
        self.queue.ended.set(true);
        if self.queue.waits_for_end.take() {
            obey(&self.queue);
        }
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        log!("{}error {}", self.prefix, error.name());
    }

    fn close(&mut self, _: &Socket, had_error: bool) {
        log!("{}close {had_error}", self.prefix);
    }
}

impl Guest for Orders {
    fn fired(timer: u32) {
        if let Some(queue) = WAITING.with_borrow_mut(|waiting| waiting.remove(&timer)) {
            obey(&queue);
        }
    }
}

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Orders with_types_in bindings);
};

/// Obeys the orders up to the next one that waits.
fn obey(queue: &Rc<Queue>) {
    let socket = &queue.socket;
    loop {
        let Some(order) = queue.orders.borrow_mut().pop_front() else {
            return;
        };
        match order {
            b'w' => _ = socket.write(b"hello"),
            b'k' => _ = socket.write(vec![b'x'; 32 << 10]),
            b'W' => _ = socket.write(vec![b'x'; 8 << 20]),
            b'B' => _ = socket.write(vec![b'x'; 64 << 20]),
            b'z' => _ = socket.write(b""),
            b'e' => socket.end(),
            b'd' => socket.destroy(),
            b'r' => socket.reset(),
            b'p' => socket.pause(),
            b'u' => socket.resume(),
            b't' => {
                let timer = timers::set_timer(MOMENT_MILLISECONDS);
                WAITING.with_borrow_mut(|waiting| waiting.insert(timer, queue.clone()));
                return;
            }
            b'n' if queue.ended.get() => {}
            b'n' => {
                queue.waits_for_end.set(true);
                return;
            }
            other => log!("unknown order {other}"),
        }
    }
}
