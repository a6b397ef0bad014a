//! A service that obeys its client, for the tests: each byte of the first chunk is an
//! order, and each event is printed. `tests/node/cases.mjs` is the same program for Node.
//!
//! | order | action |
//! |---|---|
//! | `w` | write `hello` |
//! | `W`, `B` | write 8 MiB, 64 MiB |
//! | `z` | write nothing |
//! | `e` | end |
//! | `d` | destroy |
//! | `r` | reset |
//! | `p`, `u` | pause, resume |
//! | `t` | wait a moment |
//! | `n` | wait for the peer's FIN |

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use halfopen_guest::futures::channel::oneshot;
use halfopen_guest::{Connection, Error, Events, Options, Socket, env, log, service, spawn, time};

/// Longer than any exchange on loopback takes, even on a busy machine.
const MOMENT: Duration = Duration::from_millis(250);

service!(handle);

async fn handle(connection: Connection) -> Result<(), String> {
    let allow = env::args()
        .iter()
        .any(|argument| argument == "--allow-half-open");
    let options = Options::default().allow_half_open(allow);
    let cases = |_: &Socket| Cases::default();
    connection.serve(options, cases).await;
    Ok(())
}

#[derive(Default)]
struct Cases {
    started: bool,
    ended: Rc<RefCell<Option<oneshot::Sender<()>>>>,
}

impl Events for Cases {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if self.started {
            log!("data {}", chunk.len());
            return;
        }
        self.started = true;
        let (sender, receiver) = oneshot::channel();
        self.ended.replace(Some(sender));
        // Orders before the first wait are obeyed within this callback.
        let mut orders = VecDeque::from(chunk);
        while let Some(&order) = orders.front()
            && !matches!(order, b't' | b'n')
        {
            obey(socket, order);
            orders.pop_front();
        }
        if !orders.is_empty() {
            spawn(obey_all(socket.clone(), orders, receiver));
        }
    }

    fn end(&mut self, _: &Socket) {
        log!("end");
        if let Some(sender) = self.ended.take() {
            // It fails if no task waits, which is fine.
            let _ = sender.send(());
        }
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        log!("error {}", error.name());
    }

    fn close(&mut self, _: &Socket, had_error: bool) {
        log!("close {had_error}");
    }
}

async fn obey_all(socket: Socket, orders: VecDeque<u8>, ended: oneshot::Receiver<()>) {
    let mut ended = Some(ended);
    for order in orders {
        match order {
            b't' => time::sleep(MOMENT).await,
            b'n' => {
                if let Some(ended) = ended.take() {
                    // It fails if the connection ends without the peer's FIN.
                    let _ = ended.await;
                }
            }
            order => obey(&socket, order),
        }
    }
}

fn obey(socket: &Socket, order: u8) {
    match order {
        b'w' => _ = socket.write(b"hello"),
        b'W' => _ = socket.write(vec![b'x'; 8 << 20]),
        b'B' => _ = socket.write(vec![b'x'; 64 << 20]),
        b'z' => _ = socket.write(b""),
        b'e' => socket.end(),
        b'd' => socket.destroy(),
        b'r' => socket.reset(),
        b'p' => socket.pause(),
        b'u' => socket.resume(),
        other => log!("unknown order {other}"),
    }
}
