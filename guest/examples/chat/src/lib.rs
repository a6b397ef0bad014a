//! A chat: each line that a client sends goes to all clients.

use halfopen_guest::{Connection, Events, LineBuffer, Options, Socket, service};
use std::cell::RefCell;

thread_local! {
    static ROOM: RefCell<Vec<Socket>> = const { RefCell::new(Vec::new()) };
}

service!(handle, isolation = shared);

async fn handle(connection: Connection) -> Result<(), String> {
    let join = |socket: &Socket| {
        ROOM.with_borrow_mut(|room| room.push(socket.clone()));
        Chat {
            lines: LineBuffer::new(),
        }
    };
    connection.serve(Options::default(), join).await;
    Ok(())
}

struct Chat {
    lines: LineBuffer,
}

impl Events for Chat {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.lines.push(&chunk);
        while let Some(line) = self.lines.next_line() {
            match line {
                Ok(line) => say(&line),
                Err(error) => {
                    socket.write(format!("error: {error}\n"));
                    return socket.destroy();
                }
            }
        }
    }

    fn close(&mut self, _: &Socket, _: bool) {
        ROOM.with_borrow_mut(|room| room.retain(Socket::is_writable));
    }
}

fn say(line: &str) {
    ROOM.with_borrow(|room| {
        for socket in room {
            socket.write(format!("{line}\n"));
            if socket.unsent() > 1 << 20 {
                socket.reset(); // a client that does not read must not fill the memory
            }
        }
    });
}
