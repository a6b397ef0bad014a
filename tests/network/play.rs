//! The client of a connection: what it does, and what it sees.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use socket2::{Domain, SockRef, Socket, Type};

use super::tun::{FAR, NEAR};
use super::weather::Weather;

/// The longest wait of the client: longer than the limits of the server, so that it sees
/// what they do, if the network lets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one connection's client and service do.
#[derive(Debug)]
pub(super) struct Script {
    seed: u64,
    /// Whether the service keeps its direction open after the client's FIN.
    pub(super) half_open: bool,
    /// What the service `cases` is told to do, in the client's first chunk.
    pub(super) orders: String,
    /// The bytes that the client sends after the orders, in pieces of these lengths.
    pub(super) sends: Vec<usize>,
    pub(super) ending: Ending,
    /// The bytes that the client receives at a time.
    reads: usize,
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By FIN, once everything is sent.
    Fin,
    /// By RST, once everything is sent.
    Reset,
    /// It closes, whatever is unread.
    Close,
    /// It does not, and waits for the server to end.
    Idle,
}

/// What the client did and saw.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) connected: bool,
    /// Bytes that the kernel accepted, after the orders.
    pub(super) sent: usize,
    /// Whether FIN was sent behind everything.
    pub(super) finished: bool,
    /// Whether the client gave up by itself, by RST or by closing.
    pub(super) abandoned: bool,
    pub(super) received: Vec<u8>,
    /// Whether the server's FIN was read.
    pub(super) end: bool,
    /// An error of the connection.
    pub(super) error: Option<ErrorKind>,
}

/// A script and its outcome.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) script: Script,
    pub(super) outcome: Outcome,
}

impl Script {
    pub(super) fn random(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let half_open = random.bool();
        let mut orders = String::from("w");
        for _ in 0..random.usize(..8) {
            orders.push(['w', 'w', 'w', 'w', 'k', 'z', 't', 'n', 'e'][random.usize(..9)]);
        }
        // With half-open, only the service ends its direction.
        if half_open && !orders.contains('e') {
            orders.push('e');
        }
        // Without half-open, the client's FIN may come first, and ends the service's direction.
        if !half_open {
            orders = orders.replace('t', "");
        }
        // A second wait would wait for nothing.
        if let Some(first) = orders.find('n') {
            let (before, after) = orders.split_at(first + 1);
            orders = format!("{before}{}", after.replace('n', ""));
        }
        Script {
            seed,
            half_open,
            orders,
            sends: (0..random.usize(..5))
                .map(|_| random.usize(1..20_000))
                .collect(),
            ending: match random.u8(..40) {
                0..=4 => Ending::Reset,
                5..=9 => Ending::Close,
                10 => Ending::Idle,
                _ => Ending::Fin,
            },
            reads: 1 << random.u32(8..17),
        }
    }

    /// Returns the weather of this seed.
    pub(super) fn weather(&self) -> Weather {
        // Another sequence than that of the script.
        Weather::random(self.seed ^ 0x5bd1_e995)
    }

    /// Returns what the service writes before it ends its direction.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut written = Vec::new();
        for order in self.orders.chars() {
            match order {
                'w' => written.extend(b"hello"),
                'k' => written.extend([b'x'; 32 << 10]),
                'e' => break,
                // Without half-open, the peer's FIN ends the service's direction.
                'n' if !self.half_open => break,
                _ => {}
            }
        }
        written
    }

    /// Whether the service ends its direction without waiting for the client's FIN.
    pub(super) fn ends_by_itself(&self) -> bool {
        let now = self.orders.split('n').next();
        now.is_some_and(|now| now.contains('e'))
    }

    /// Plays the script from a port of its own.
    pub(super) fn play(&self, port: u16, server: u16) -> Outcome {
        let mut outcome = Outcome::default();
        let stream = match connect(port, server) {
            Ok(stream) => stream,
            Err(error) => {
                outcome.error = Some(error.kind());
                return outcome;
            }
        };
        outcome.connected = true;
        if let Err(error) = self.talk(&stream, &mut outcome) {
            outcome.error = Some(error.kind());
        }
        outcome
    }

    fn talk(&self, mut stream: &TcpStream, outcome: &mut Outcome) -> std::io::Result<()> {
        stream.write_all(self.orders.as_bytes())?;
        // Once the greeting has come, what is sent next is a chunk of its own.
        let mut hello = [0; 5];
        stream.read_exact(&mut hello)?;
        outcome.received.extend(hello);
        let (sent, received) = thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive(stream));
            let sent = self.send(stream);
            if sent.abandoned {
                let _ = SockRef::from(stream).shutdown(Shutdown::Read);
            }
            (sent, receiver.join().expect("receiving does not panic"))
        });
        outcome.sent = sent.sent;
        outcome.finished = sent.finished;
        outcome.abandoned = sent.abandoned;
        outcome.received.extend(received.received);
        // Linux reports a reset once, here to the sender; what the receiver reads is then no
        // FIN.
        outcome.end = received.end && !sent.abandoned && sent.error.is_none();
        outcome.error = sent.error.or(received.error);
        if self.ending == Ending::Reset && sent.abandoned {
            SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn send(&self, mut stream: &TcpStream) -> Outcome {
        let mut outcome = Outcome::default();
        let mut random = Rng::with_seed(self.seed.wrapping_add(1));
        for &length in &self.sends {
            thread::sleep(Duration::from_millis(random.u64(..30)));
            if let Err(error) = stream.write_all(&vec![b'.'; length]) {
                // A part of it may be sent.
                outcome.sent += length;
                outcome.error = Some(error.kind());
                return outcome;
            }
            outcome.sent += length;
        }
        match self.ending {
            Ending::Fin => match stream.shutdown(Shutdown::Write) {
                Ok(()) => outcome.finished = true,
                Err(error) => outcome.error = Some(error.kind()),
            },
            Ending::Reset | Ending::Close => outcome.abandoned = true,
            Ending::Idle => {}
        }
        outcome
    }

    fn receive(&self, mut stream: &TcpStream) -> Outcome {
        let mut outcome = Outcome::default();
        let mut buffer = vec![0; self.reads];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    outcome.end = true;
                    return outcome;
                }
                Ok(length) => outcome.received.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    outcome.error = Some(error.kind());
                    return outcome;
                }
            }
        }
    }
}

fn connect(port: u16, server: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((NEAR, port)).into())?;
    socket.connect_timeout(&SocketAddr::from((FAR, server)).into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
