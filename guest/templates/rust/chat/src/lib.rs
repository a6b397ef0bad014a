//! A chat: each line that a client sends goes to all others.

use halfopen_guest::{Events, LineBuffer, Socket, callbacks};
use std::cell::RefCell;

/// The most bytes in a line and in a name, and the most unsent bytes of a client: one that
/// reads too slowly is dropped, and keeps nobody waiting.
const LINE: usize = 1000;
const NAME: usize = 20;
const BEHIND: usize = 1 << 20;

thread_local! {
    static ROOM: RefCell<Vec<(String, Socket)>> = const { RefCell::new(Vec::new()) };
}

callbacks!(Client::new, isolation = shared);

struct Client {
    lines: LineBuffer,
    name: Option<String>,
}

impl Client {
    fn new(socket: &Socket) -> Self {
        tell(socket, "What is your name?\n");
        Client {
            lines: LineBuffer::new().limit(LINE),
            name: None,
        }
    }

    fn enter(&mut self, socket: &Socket, name: &str) {
        if name.is_empty() || name.len() > NAME || !name.chars().all(char::is_alphanumeric) {
            return tell(socket, "Use 1 to 20 letters and digits.\n");
        }
        if ROOM.with_borrow(|room| room.iter().any(|(other, _)| other == name)) {
            return tell(socket, "That name is taken.\n");
        }
        self.name = Some(name.to_owned());
        ROOM.with_borrow_mut(|room| room.push((name.to_owned(), socket.clone())));
        tell(socket, "Welcome. There are /who and /quit.\n");
        tell_others(socket, &format!("* {name} is here\n"));
    }

    fn leave(&mut self, socket: &Socket) {
        if let Some(name) = self.name.take() {
            ROOM.with_borrow_mut(|room| room.retain(|(_, other)| other != socket));
            tell_others(socket, &format!("* {name} has left\n"));
        }
    }

    fn line(&mut self, socket: &Socket, line: &str) {
        match (&self.name, line) {
            (_, "/quit") => {
                self.leave(socket);
                tell(socket, "Bye.\n");
                socket.end();
            }
            (None, name) => self.enter(socket, name),
            (_, "/who") => tell(socket, &format!("* here: {}\n", who())),
            // Without control characters, which terminals obey.
            (Some(name), text) => {
                let text = text.replace(char::is_control, "");
                tell_others(socket, &format!("{name}: {text}\n"));
            }
        }
    }
}

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if !socket.is_writable() {
            return; // what follows `/quit`
        }
        self.lines.push(&chunk);
        while let Some(line) = self.lines.next_line() {
            match line {
                Ok(line) => self.line(socket, &line),
                Err(error) => {
                    tell(socket, &format!("error: {error}\n"));
                    socket.destroy();
                }
            }
            if !socket.is_writable() {
                return;
            }
        }
    }

    fn close(&mut self, socket: &Socket, _: bool) {
        self.leave(socket);
    }
}

fn who() -> String {
    ROOM.with_borrow(|room| {
        let names: Vec<&str> = room.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    })
}

fn tell(socket: &Socket, text: &str) {
    socket.write(text);
    if socket.unsent() > BEHIND {
        socket.reset();
    }
}

fn tell_others(socket: &Socket, text: &str) {
    ROOM.with_borrow(|room| {
        for (_, other) in room.iter().filter(|(_, other)| other != socket) {
            tell(other, text);
        }
    });
}
