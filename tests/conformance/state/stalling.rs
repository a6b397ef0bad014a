//! A Redis server that answers only when it is told to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use anyhow::Result;

/// A server that has no values. It greets, and stalls reads until it is released.
pub(super) struct Stalling {
    pub(super) address: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    /// The reads that have come.
    asked: AtomicUsize,
}

impl Stalling {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("redis://{}", listener.local_addr()?);
        let gate = Arc::new(Gate::default());
        let at = gate.clone();
        // Ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let at = at.clone();
                thread::spawn(move || answer(stream, &at));
            }
        });
        Ok(Stalling { address, gate })
    }

    /// How many reads have come.
    pub(super) fn asked(&self) -> usize {
        self.gate.asked.load(Ordering::SeqCst)
    }

    /// Answers all reads, those that wait and later ones.
    pub(super) fn release(&self) {
        *self.gate.open.lock().expect("no thread panics") = true;
        self.gate.opened.notify_all();
    }
}

/// Answers the commands of a connection, which come as arrays (RESP).
fn answer(mut stream: TcpStream, gate: &Gate) -> std::io::Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        received.extend_from_slice(&buffer[..length]);
        while let Some((name, rest)) = command(&received) {
            received = rest;
            let answer: &[u8] = match &*name {
                b"PING" => b"+PONG\r\n",
                b"HGET" => {
                    gate.asked.fetch_add(1, Ordering::SeqCst);
                    let open = gate.open.lock().expect("no thread panics");
                    let opened = gate.opened.wait_while(open, |open| !*open);
                    drop(opened.expect("no thread panics"));
                    b"$-1\r\n"
                }
                _ => b"+OK\r\n",
            };
            stream.write_all(answer)?;
        }
    }
}

/// Takes the first command, if it is complete: its name, and what follows.
fn command(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut rest = bytes;
    let words = number(&mut rest)?;
    let mut name = None;
    for _ in 0..words {
        let length = number(&mut rest)?;
        let word = rest.get(..length)?;
        rest = rest.get(length + 2..)?;
        name.get_or_insert_with(|| word.to_ascii_uppercase());
    }
    Some((name?, rest.to_owned()))
}

/// Takes a line such as `*3` or `$12`.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(rest.get(1..end)?).ok()?.parse();
    *rest = &rest[end + 2..];
    number.ok()
}
