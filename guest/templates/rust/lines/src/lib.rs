//! A line protocol: one request per line, one answer per request.
//!
//! TCP has no messages. A line may arrive in many chunks, and one chunk may hold many
//! lines, so something has to reassemble them: here a `LineBuffer`. It also limits the
//! length of a line; without a limit, a peer that never ends its line would fill the memory.
//!
//! ```text
//! > upper hello
//! < HELLO
//! > reverse hello
//! < olleh
//! > count hello
//! < 5
//! > quit
//! < bye
//! ```

use halfopen_guest::{Events, LineBuffer, LineError, Socket, callbacks};

/// The most bytes in a line, without its end.
const LIMIT: usize = 1024;

/// The number of unsent bytes above which no further request is answered until they are sent.
/// More than that, and `drain` follows.
const ROOM: usize = 64 * 1024;

/// The most bytes to receive and discard after the last answer. A connection that is closed
/// with unread data is reset by the kernel, and the reset could overtake the answer.
const LEFTOVER: usize = 1024 * 1024;

callbacks!(|_| Lines {
    requests: LineBuffer::new().limit(LIMIT),
    leftover: 0,
});

struct Lines {
    requests: LineBuffer,
    /// How many bytes were discarded after the last answer.
    leftover: usize,
}

impl Events for Lines {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if socket.is_writable() {
            self.requests.push(&chunk);
            return self.answer(socket);
        }
        self.leftover += chunk.len();
        if self.leftover > LEFTOVER {
            socket.destroy();
        }
    }

    // Nothing was received since `answer` has stopped for want of room.
    fn drain(&mut self, socket: &Socket) {
        self.answer(socket);
    }

    fn end(&mut self, socket: &Socket) {
        if let Some(last) = self.requests.finish() {
            reply(socket, last);
        }
    }
}

impl Lines {
    fn answer(&mut self, socket: &Socket) {
        while socket.is_writable() && socket.unsent() <= ROOM {
            match self.requests.next_line() {
                Some(request) => reply(socket, request),
                None => return,
            }
        }
    }
}

fn reply(socket: &Socket, request: Result<String, LineError>) {
    let (reply, last) = match request {
        Ok(line) => answer(&line),
        Err(mistake) => (format!("error: {mistake}"), true),
    };
    socket.write(reply + "\n");
    if last {
        // Our FIN. The peer's has arrived, or follows the data that is discarded.
        socket.end();
    }
}

/// Returns the answer, and whether it is the last.
fn answer(request: &str) -> (String, bool) {
    let (command, text) = request.split_once(' ').unwrap_or((request, ""));
    let reply = match command {
        "upper" => text.to_uppercase(),
        "reverse" => text.chars().rev().collect(),
        "count" => text.chars().count().to_string(),
        "quit" => return ("bye".to_owned(), true),
        _ => {
            format!("error: unknown request `{command}`; there are upper, reverse, count and quit")
        }
    };
    (reply, false)
}
