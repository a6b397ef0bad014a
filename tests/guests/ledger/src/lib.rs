//! State in callback style: obeys its clients' lines, and answers each with one line.
//! `tests/guests/passbook` is the same in await style.

mod orders;

use halfopen_guest::{Events, LineBuffer, Socket, callbacks};

callbacks!(|_socket| Ledger::default());

#[derive(Default)]
struct Ledger {
    lines: LineBuffer,
}

impl Events for Ledger {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.lines.push(&chunk);
        while let Some(line) = self.lines.next_line() {
            let answer = match line {
                Ok(line) => orders::obey(&line),
                Err(error) => error.to_string(),
            };
            socket.write(answer + "\n");
        }
    }
}
