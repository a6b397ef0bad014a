//! A relay to a server that inspects what clients send.
//!
//! An [`Inspect`] reads the client's direction of a connection, and passes it on, skips it or
//! replaces it, message by message; the host pipes the answers. Backpressure works in both
//! directions, each of them ends on its own, and a failure of one side resets the other.
//!
//! ```no_run
//! use halfopen_guest::callbacks;
//! use halfopen_guest::callbacks::inspected::{Flow, Inspect, Inspected, Stop, Upstream};
//!
//! callbacks!(|client| Inspected::new(client, || {
//!     let server = Upstream::new(([127, 0, 0, 1], 1234).into());
//!     Ok((server, Box::new(Lines)))
//! }), secure);
//!
//! /// Lets no line pass that begins with `!`.
//! struct Lines;
//!
//! impl Inspect for Lines {
//!     fn next(&mut self, flow: &mut Flow) -> Result<(), Stop> {
//!         let line = flow.line(8192)?;
//!         let length = line.len();
//!         match line.starts_with(b"!") {
//!             true => flow.skip(length),
//!             false => flow.pass(length),
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! The component says `secure`, because each side may have TLS. The example `guard` stands before
//! databases in this way.

mod flow;
mod upstream;

use crate::callbacks::{connect, pipe, secure_as_server};
use crate::{Error, ErrorCode, Events, Socket, log_error};

pub use flow::{Flow, Inspect, Stop};
pub use upstream::Upstream;

/// The bytes that may wait for the server: `drain` follows when there were more.
const HIGH_WATER: usize = 64 * 1024;

/// The connection of a client, and what is sent to the server.
pub struct Inspected(Option<Dialogue>);

/// What both connections have until one fails.
struct Dialogue {
    server: Socket,
    inspect: Box<dyn Inspect>,
    flow: Flow,
    /// Whether the client has sent FIN.
    ended: bool,
}

impl Inspected {
    /// Begins to connect to the server that `arrange` names, for a client that its [`Inspect`]
    /// inspects. An error resets the client's connection, and is logged.
    pub fn new(
        client: &Socket,
        arrange: impl FnOnce() -> Result<(Upstream, Box<dyn Inspect>), String>,
    ) -> Self {
        client.allow_half_open(true);
        // Nothing is read before the server is there.
        client.pause();
        let begun = arrange().and_then(|(upstream, inspect)| {
            let address = upstream.address;
            let server = connect(address, |_| upstream.of(client))
                .map_err(|error| format!("{address}: {error}"))?;
            let mut flow = Flow::default();
            flow.peer = peer(client);
            Ok(Dialogue {
                server,
                inspect,
                flow,
                ended: false,
            })
        });
        Inspected(begun.map_err(|error| give_up(client, &error)).ok())
    }
}

fn peer(client: &Socket) -> String {
    let peer = client.peer_addr();
    peer.map_or_else(|_| "a client".to_owned(), |peer| peer.to_string())
}

fn give_up(client: &Socket, error: &str) {
    log_error!("{}: {error}", peer(client));
    client.reset();
}

impl Dialogue {
    /// Acts on what the client has sent.
    fn go_on(&mut self, client: &Socket) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let flow = &mut self.flow;
        while flow.step(&mut *self.inspect)? {
            if !flow.answer.is_empty() {
                client.write(std::mem::take(&mut flow.answer));
            }
            if std::mem::take(&mut flow.pipe) {
                pipe(&self.server, client).map_err(text)?;
            }
            if std::mem::take(&mut flow.secure) {
                secure_as_server(client, flow.rest()).map_err(text)?;
                // What came in the clear is never taken for data of the session.
                break;
            }
        }
        self.server.write(flow.take());
        if self.server.unsent() > HIGH_WATER {
            // Until `drain`.
            client.pause();
        }
        Ok(())
    }
}

impl Events for Inspected {
    fn data(&mut self, client: &Socket, chunk: Vec<u8>) {
        let Some(dialogue) = &mut self.0 else {
            return;
        };
        dialogue.flow.received(&chunk);
        if let Err(error) = dialogue.go_on(client) {
            dialogue.server.reset();
            give_up(client, &error);
            self.0 = None;
        }
    }

    fn end(&mut self, _: &Socket) {
        if let Some(dialogue) = &mut self.0 {
            dialogue.ended = true;
            dialogue.server.end();
        }
    }

    fn error(&mut self, client: &Socket, error: &Error) {
        let Some(dialogue) = self.0.take() else {
            return;
        };
        dialogue.server.reset();
        // A client that has finished may go before the server has. An abort was reported.
        if !dialogue.ended && *error.code() != ErrorCode::ConnectionAborted {
            give_up(client, &error.to_string());
        }
    }
}
