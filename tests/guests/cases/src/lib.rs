//! A service that obeys its client, for the tests: each byte of the first chunk is an
//! order, and each event is printed. `tests/node/cases.mjs` is the same program for Node.
//!
//! | order | action |
//! |---|---|
//! | `w` | write `hello` |
//! | `k`, `W`, `B` | write 32 KiB, 8 MiB, 64 MiB |
//! | `z` | write nothing |
//! | `e` | end |
//! | `d` | destroy |
//! | `r` | reset |
//! | `p`, `u` | pause, resume |
//! | `t` | wait a moment |
//! | `n` | wait for the peer's FIN |
//!
//! With the argument `--name-peer`, each line begins with the peer's port.

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
    let given = |name: &str| env::args().iter().any(|argument| argument == name);
    let options = Options::default().allow_half_open(given("--allow-half-open"));
    let name_peer = given("--name-peer");
    let cases = |socket: &Socket| Cases {
        prefix: match socket.peer_addr() {
            Ok(peer) if name_peer => format!("{} ", peer.port()),
            _ => String::new(),
        },
        ..Cases::default()
    };
    connection.serve(options, cases).await;
    Ok(())
}

#[derive(Default)]
struct Cases {
    /// What each line begins with.
    prefix: String,
    started: bool,
    ended: Rc<RefCell<Option<oneshot::Sender<()>>>>,
}

impl Events for Cases {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if self.started {
            log!("{}data {}", self.prefix, chunk.len());
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
        log!("{}end", self.prefix);
        if let Some(sender) = self.ended.take() {
            // It fails if no task waits, which is fine.
            let _ = sender.send(());
        }
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        log!("{}error {}", self.prefix, error.name());
    }

    fn close(&mut self, _: &Socket, had_error: bool) {
        log!("{}close {had_error}", self.prefix);
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
        b'k' => _ = socket.write(vec![b'x'; 32 << 10]),
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
