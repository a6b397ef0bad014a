//! A server that speaks the protocol of Redis, and keeps its values in the state of the host.
//!
//! The commands that arrive together are carried out together where their order allows it:
//! values that are set in a row reach the disk at once.

mod commands;

use std::mem::take;

use halfopen_guest::resp::CommandBuffer;
use halfopen_guest::{Events, Socket, callbacks};

callbacks!(|socket| {
    socket.allow_half_open(true);
    Client::default()
});

/// How many bytes of replies may wait before no further command is carried out.
const BEHIND: usize = 1 << 20;
/// How many bytes of replies are sent together.
const TOGETHER: usize = 8 << 10;

#[derive(Default)]
struct Client {
    commands: CommandBuffer,
    /// The replies that are not sent yet, and whether they are in version 3 of the protocol.
    replies: Vec<u8>,
    three: bool,
    /// Whether the client has sent FIN.
    ended: bool,
}

impl Client {
    /// Carries out the commands that have arrived, as long as the client takes the replies.
    fn work(&mut self, socket: &Socket) {
        let mut idle = false;
        while !idle && socket.is_writable() && socket.unsent() < BEHIND {
            let next = self.commands.next_command();
            idle = next.is_none();
            let ends = match next {
                Some(Ok(command)) => self.obey(command),
                Some(Err(malformed)) => {
                    self.reply(&commands::refused(malformed.into()), false);
                    true
                }
                None => self.ended,
            };
            if idle || ends || self.replies.len() >= TOGETHER {
                socket.write(take(&mut self.replies));
            }
            if ends {
                socket.end();
            }
        }
    }
}

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.commands.push(&chunk);
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
