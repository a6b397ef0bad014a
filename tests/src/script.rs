//! Random scripts: what a server does, what its client sends, and when each of them ends,
//! with stalls in between. The server is the test service `cases`, which obeys the client and
//! prints its events.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use crate::client::{Client, End};

/// One connection's script.
#[derive(Debug)]
pub struct Script {
    /// The orders for the service `cases`. The first one makes it say hello: once that has
    /// come, what the client sends next is a chunk of its own.
    orders: String,
    /// The bytes that the server must send in all.
    written: usize,
    /// The bytes that the client sends after the orders, in pieces of these lengths.
    sends: Vec<usize>,
    /// The end of the client's direction.
    ending: Ending,
    /// The bytes that the client receives at a time.
    reads: usize,
    /// Whether the client pauses now and then.
    stalls: bool,
}

/// How the client ends its direction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// By FIN, once everything is sent.
    Fin,
    /// By FIN, once the server's FIN has come as well.
    FinLast,
    /// By RST, once everything is sent.
    Reset,
}

impl Script {
    /// Makes a script, for a service that ends its direction by itself or that does not.
    /// `obeys_at_end` says whether it obeys what follows `n` before that, as in callback style.
    pub fn random(random: &mut Rng, allow_half_open: bool, obeys_at_end: bool) -> Self {
        let mut orders = String::from("w");
        let mut written = 5;
        let (mut open, mut waits) = (true, false);
        for _ in 0..random.usize(..6) {
            let order = match random.u8(..20) {
                0 => 'W',
                1..=2 => 'e',
                3 => 'z',
                4 if !waits => 'n',
                _ => 'w',
            };
            match order {
                'n' => {
                    waits = true;
                    // Without half-open, the server ends its direction before the orders
                    // that follow.
                    open &= allow_half_open || obeys_at_end;
                }
                'e' => open = false,
                'w' if open => written += 5,
                'W' if open => written += 8 << 20,
                _ => {}
            }
            orders.push(order);
        }
        // With half-open, only the program ends its direction.
        let mut ends_first = orders
            .split('n')
            .next()
            .is_some_and(|now| now.contains('e'));
        if allow_half_open && !orders.contains('e') {
            orders.push('e');
            ends_first = !waits;
        }
        let sends = (0..random.usize(..4))
            .map(|_| random.usize(1..100_000))
            .collect();
        let ending = match random.u8(..10) {
            0..=1 => Ending::Reset,
            2..=4 if ends_first => Ending::FinLast,
            _ => Ending::Fin,
        };
        Script {
            orders,
            written,
            sends,
            ending,
            reads: 1 << random.u32(8..18),
            stalls: random.u8(..4) == 0,
        }
    }

    /// Plays the script, and checks the laws: no byte is lost, doubled or added; each
    /// direction ends once, by FIN, after its last byte; a reset is one error; `close` comes
    /// once, and last. `event` returns the next line that the service prints.
    ///
    /// # Errors
    ///
    /// If a law is broken, or anything does not come in time.
    pub fn play(
        &self,
        address: SocketAddr,
        random: &mut Rng,
        event: impl FnMut() -> Result<String>,
    ) -> Result<()> {
        let mut client = Client::connect(address)?;
        client.send(self.orders.as_bytes())?;
        let hello = client.receive(5)?;
        ensure!(hello == b"hello", "{hello:?}");
        let pause = |random: &mut Rng| {
            if self.stalls {
                thread::sleep(Duration::from_micros(random.u64(..3000)));
            }
        };
        let mut sending = client.try_clone()?;
        let receiving = thread::scope(|scope| -> Result<Option<(usize, End)>> {
            let mut fork = random.fork();
            let receiver = scope.spawn(move || -> Result<(usize, End)> {
                let mut received = 5;
                let mut stalls = if self.stalls { 20 } else { 0 };
                loop {
                    let bytes = client.receive(self.reads)?.len();
                    received += bytes;
                    if bytes < self.reads {
                        let (rest, end) = client.end()?;
                        return Ok((received + rest.len(), end));
                    }
                    if stalls > 0 && fork.u8(..4) == 0 {
                        stalls -= 1;
                        thread::sleep(Duration::from_micros(fork.u64(..2000)));
                    }
                }
            });
            for &length in &self.sends {
                pause(random);
                sending.send(&vec![b'.'; length])?;
            }
            pause(random);
            let join = |receiver: thread::ScopedJoinHandle<'_, Result<(usize, End)>>| {
                receiver.join().expect("receiving does not panic")
            };
            match self.ending {
                Ending::Fin => {
                    sending.fin()?;
                    Ok(Some(join(receiver)?))
                }
                Ending::FinLast => {
                    let received = join(receiver)?;
                    sending.fin()?;
                    Ok(Some(received))
                }
                Ending::Reset => {
                    sending.reset_now()?;
                    // The receiver fails with the socket, in a way that is not tested.
                    let _ = join(receiver);
                    Ok(None)
                }
            }
        })?;
        if let Some((received, end)) = receiving {
            ensure!(end == End::Fin, "RST after {received} bytes");
            ensure!(
                received == self.written,
                "{} bytes were written, and {received} came",
                self.written
            );
        }
        self.check_events(event)
    }

    fn check_events(&self, mut event: impl FnMut() -> Result<String>) -> Result<()> {
        let mut events = Vec::new();
        let mut data = 0;
        loop {
            let line = event().with_context(|| format!("no event after {events:?}"))?;
            if let Some(length) = line.strip_prefix("data ") {
                ensure!(events.is_empty(), "data after {events:?}");
                data += length.parse::<usize>()?;
                continue;
            }
            events.push(line.clone());
            if line.starts_with("close ") {
                break;
            }
        }
        let sent: usize = self.sends.iter().sum();
        if self.ending == Ending::Reset {
            let error = ["error ECONNRESET", "close true"];
            ensure!(events == error, "{events:?}");
            ensure!(data <= sent, "the service received {data} of {sent} bytes");
        } else {
            ensure!(events == ["end", "close false"], "{events:?}");
            ensure!(data == sent, "the service received {data} of {sent} bytes");
        }
        Ok(())
    }
}
