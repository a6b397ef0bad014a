//! A server that speaks the protocol of Redis, and keeps its values in the state of the host.
//!
//! The commands that arrive together are carried out together where their order allows it:
//! values that are set in a row reach the disk at once.

mod commands;
mod protocol;

use commands::Session;
use halfopen_guest::{Events, Socket, callbacks};
use protocol::Requests;

callbacks!(Client::new);

/// How many bytes of answers may wait before no further request is looked at.
const BEHIND: usize = 1 << 20;

struct Client {
    requests: Requests,
    session: Session,
    /// Whether the client has sent FIN.
    ended: bool,
}

impl Client {
    fn new(socket: &Socket) -> Self {
        socket.allow_half_open(true);
        Client {
            requests: Requests::default(),
            session: Session::default(),
            ended: false,
        }
    }

    /// Answers the requests that have arrived, as long as the client takes the answers.
    fn work(&mut self, socket: &Socket) {
        while socket.is_writable() && socket.unsent() < BEHIND {
            let mut quits = false;
            let idle = loop {
                match self.requests.next() {
                    Ok(Some(request)) => quits = self.session.obey(&request),
                    Ok(None) => break true,
                    Err(why) => {
                        self.session.fail(why);
                        quits = true;
                    }
                }
                if quits || self.session.is_long() {
                    break false;
                }
            };
            let replies = self.session.take_replies();
            if !replies.is_empty() {
                socket.write(replies);
            }
            if quits || (idle && self.ended) {
                socket.end();
            }
            if idle {
                return;
            }
        }
    }
}

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.requests.push(&chunk);
        self.work(socket);
    }

    fn drain(&mut self, socket: &Socket) {
        self.work(socket);
    }

    fn end(&mut self, socket: &Socket) {
        self.ended = true;
        self.work(socket);
    }
}
