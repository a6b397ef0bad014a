//! Watches other servers: connects to each of its arguments, `NAME:PORT`, every minute, and tells
//! whoever asks which of them accept connections. It works while nobody is connected.
//!
//! ```text
//! halfopen serve guest/dist/monitor.wasm --keep-running \
//!   --allow-connect example.com:443 -- example.com:443
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use halfopen_guest::{Error, Events, Socket, callbacks, env, log, starting};

callbacks!(Asking::new, timers, isolation = shared);
starting!(begin);

thread_local! {
    /// What was last found out about each server.
    static STATES: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// Called because of `--keep-running`, before anybody connects.
fn begin() {
    // `--env EVERY=10` is every ten seconds.
    let every = env::var("EVERY").and_then(|seconds| seconds.parse().ok());
    look();
    if let Some(timer) = callbacks::set_interval(Duration::from_secs(every.unwrap_or(60)), look) {
        timer.forget();
    }
}

/// Begins to connect to each server.
fn look() {
    for server in env::args() {
        let (name, port) = server.rsplit_once(':').unwrap_or((&server, ""));
        let probe = Probe(server.clone());
        let begun = callbacks::connect_to_name(name, port.parse().unwrap_or(0), |_| probe);
        if let Err(error) = begun {
            note(&server, format!("not tried: {error}"));
        }
    }
}

fn note(server: &str, state: String) {
    STATES.with_borrow_mut(|states| {
        if states.get(server) != Some(&state) {
            log!("{server} {state}");
            states.insert(server.to_owned(), state);
        }
    });
}

/// A connection to a server, which is closed as soon as it exists.
struct Probe(String);

impl Events for Probe {
    fn connect(&mut self, socket: &Socket) {
        note(&self.0, "accepts connections".to_owned());
        socket.destroy();
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        note(&self.0, format!("fails: {error}"));
    }
}

/// Somebody who asks.
struct Asking;

impl Asking {
    fn new(socket: &Socket) -> Self {
        STATES.with_borrow(|states| {
            if states.is_empty() {
                socket.write("Nothing is known.\n");
            }
            for (server, state) in states {
                socket.write(format!("{server} {state}\n"));
            }
        });
        socket.end();
        Asking
    }
}

impl Events for Asking {}
