//! A service that makes random calls in each event, `tests/guests/erratic`, and clients that
//! check every byte. Under `halfopen serve` it is `tests/guests/fitful`, which also calls for names,
//! TLS and topics. The service checks the events and what its calls return; the clients
//! know what they have sent and received, and compare it with what the service has counted.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;

#[path = "../guests/erratic/src/pattern.rs"]
mod pattern;

use pattern::{Sender, bytes};

/// How many clients connect at the same time.
const CLIENTS: usize = 12;

/// How long a client waits for a service that does nothing: it may have paused for ever, or
/// never send FIN.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a client has seen.
struct Seen {
    seed: u64,
    /// The bytes of the pattern that it has sent.
    sent: u64,
    /// Whether these are all that it has announced, so that FIN may follow.
    complete: bool,
    received: u64,
    /// How the service has ended its direction; `None` if the client lost its patience.
    end: Option<End>,
}

/// Plays for some time; returns the number of connections.
pub(crate) fn play(
    runner: Runner,
    binaries: &Binaries,
    time: Duration,
    seed: u64,
) -> Result<usize> {
    let (guest, flags) = match runner.is_serve() {
        true => ("fitful", &["--topics", "local"][..]),
        false => ("erratic", &[][..]),
    };
    let command = runner.service_with(binaries, guest, &["127.0.0.1:0"], flags, &[]);
    let server = Server::start(command, 1)?;
    let address = server.address();
    let deadline = Instant::now() + time;
    let mut random = Rng::with_seed(seed);
    let seen = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let random = random.fork();
                scope.spawn(move || until(deadline, address, random))
            })
            .collect();
        let mut seen = Vec::new();
        for client in clients {
            seen.extend(client.join().expect("a client does not panic")?);
        }
        anyhow::Ok(seen)
    });
    no_violation(&server)?;
    let seen = seen?;
    // On a stream of WASI, no reset shows while the service has paused (K7), and a reset by the
    // service may look like FIN (C3).
    let native = !runner.is_composed();
    if native {
        // Every connection is closed, also one that the service has paused for ever.
        eventually("every connection is closed", || {
            no_violation(&server)?;
            Ok(server.printed(0).len() >= seen.len())
        })?;
    }
    let printed = server.printed(0);
    ensure!(
        printed.len() == seen.len() || !native,
        "{} connections, and {} are closed",
        seen.len(),
        printed.len()
    );
    let mut closed = BTreeMap::new();
    for line in printed.iter().filter(|line| *line != "closed") {
        let (seed, counted) = counted(line)?;
        ensure!(
            closed.insert(seed, counted).is_none(),
            "{seed} closed twice"
        );
    }
    for seen in &seen {
        let counted = closed.remove(&seen.seed);
        if counted.is_none() && !native {
            continue;
        }
        agree(seen, counted, native).with_context(|| format!("connection {}", seen.seed))?;
    }
    ensure!(
        closed.is_empty(),
        "closed and never opened: {:?}",
        closed.keys()
    );
    Ok(seen.len())
}

fn no_violation(server: &Server) -> Result<()> {
    let errors = server.errors();
    match errors.iter().find(|line| line.contains("violation")) {
        Some(violation) => bail!("{violation}"),
        None => ensure!(
            !errors.iter().any(|line| line.contains("trapped")),
            "{errors:?}"
        ),
    }
    Ok(())
}

/// What the service has counted for a connection.
struct Counted {
    received: u64,
    written: u64,
    peer_ended: bool,
}

/// Reads a line that the service has printed.
fn counted(line: &str) -> Result<(u64, Counted)> {
    let words: Vec<_> = line.split(' ').collect();
    let &["closed", seed, received, written, peer_ended] = words.as_slice() else {
        bail!("not a line of the service: {line:?}");
    };
    let counted = Counted {
        received: received.parse()?,
        written: written.parse()?,
        peer_ended: peer_ended.parse()?,
    };
    Ok((seed.parse()?, counted))
}

/// Checks that both sides have seen the same connection. `exact` says that FIN stands for the
/// end of what was written, and for no reset.
fn agree(seen: &Seen, counted: Option<Counted>, exact: bool) -> Result<()> {
    let Some(counted) = counted else {
        // The header never came: the connection was destroyed, reset or paused before.
        ensure!(
            seen.received == 0,
            "{} bytes came from nobody",
            seen.received
        );
        return Ok(());
    };
    ensure!(
        counted.received <= seen.sent,
        "{} bytes arrived of {}",
        counted.received,
        seen.sent
    );
    if counted.peer_ended {
        ensure!(seen.complete, "a FIN that the client has not sent");
        ensure!(counted.received == seen.sent, "FIN before the last byte");
    }
    match seen.end {
        Some(End::Fin) if exact => ensure!(
            seen.received == counted.written,
            "FIN after {} of {} bytes",
            seen.received,
            counted.written
        ),
        _ => ensure!(
            seen.received <= counted.written,
            "{} bytes came, and {} were written",
            seen.received,
            counted.written
        ),
    }
    Ok(())
}

/// Connects again and again until a deadline.
fn until(deadline: Instant, address: SocketAddr, mut random: Rng) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    while Instant::now() < deadline {
        let seed = random.u64(..);
        let connection = connect(address, seed, &mut random);
        seen.push(connection.with_context(|| format!("connection {seed}"))?);
    }
    Ok(seen)
}

/// One connection: sends on a thread, and receives.
fn connect(address: SocketAddr, seed: u64, random: &mut Rng) -> Result<Seen> {
    let mut sending = TcpStream::connect(address).context("cannot connect")?;
    sending.set_nodelay(true)?;
    sending.set_read_timeout(Some(PATIENCE))?;
    sending.set_write_timeout(Some(PATIENCE))?;
    let receiving = sending.try_clone()?;
    let mut sender = random.fork();
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let sent = send(&mut sending, seed, &mut sender);
            if sent.is_err() {
                // The service has reset the connection, or does not read: no FIN may follow.
                let _ = Client::from(sending).reset_now();
            }
            sent
        });
        let received = receive(receiving, seed, random);
        let sent = sender.join().expect("a sender does not panic");
        let (received, mut end) = received?;
        let (sent, complete) = match sent {
            Ok(sent) => (sent, true),
            Err(Unsent { at_most, was_reset }) => {
                // The kernel reports a reset once. The sender has consumed it, so the receiver's EOF
                // is no FIN.
                if was_reset && end == Some(End::Fin) {
                    end = Some(End::Rst);
                }
                (at_most, false)
            }
        };
        Ok(Seen {
            seed,
            sent,
            complete,
            received,
            end,
        })
    })
}

/// Why a client has not sent all.
struct Unsent {
    /// How many bytes of the pattern were sent, at most.
    at_most: u64,
    /// Whether the service has reset the connection, before any FIN: after one, the error is
    /// EPIPE.
    was_reset: bool,
}

impl Unsent {
    fn after(at_most: u64, error: &io::Error) -> Self {
        Unsent {
            at_most,
            was_reset: error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Sends header and pattern, and then FIN or nothing. Returns how many bytes of the pattern
/// were sent.
fn send(stream: &mut TcpStream, seed: u64, random: &mut Rng) -> Result<u64, Unsent> {
    let length = match random.u8(..8) {
        0 => 0,
        1..=4 => random.u32(..2000),
        5 | 6 => random.u32(..200_000),
        _ => random.u32(..2_000_000),
    };
    let mut header = seed.to_le_bytes().to_vec();
    header.extend(length.to_le_bytes());
    header.extend(0_u16.to_le_bytes());
    // The header may come in two parts.
    let part = random.usize(..=header.len());
    for part in [&header[..part], &header[part..]] {
        stream
            .write_all(part)
            .map_err(|error| Unsent::after(0, &error))?;
        stall(random);
    }
    let length = u64::from(length);
    // A few clients reset before the end, or never end.
    let end = random.u8(..10);
    let stop = if end == 0 {
        random.u64(..=length)
    } else {
        length
    };
    let mut sent = 0;
    while sent < stop {
        let largest = [100, 5_000, 100_000][random.usize(..3)];
        let chunk = random.u64(1..=largest).min(stop - sent);
        let data = bytes(seed, Sender::Client, sent, chunk as usize);
        stream
            .write_all(&data)
            .map_err(|error| Unsent::after(sent + chunk, &error))?;
        sent += chunk;
        stall(random);
    }
    if sent < length || end == 0 {
        return Err(Unsent {
            at_most: sent,
            was_reset: false,
        });
    }
    if end > 1 {
        stream
            .shutdown(Shutdown::Write)
            .map_err(|error| Unsent::after(sent, &error))?;
    }
    Ok(sent)
}

/// Receives until the service ends its direction, or does nothing for too long: then the
/// client resets.
fn receive(mut stream: TcpStream, seed: u64, random: &mut Rng) -> Result<(u64, Option<End>)> {
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    // Some clients read slowly, so that the service has to wait.
    let slow = random.u8(..4) == 0;
    loop {
        if slow {
            stall(random);
        }
        let room = if slow {
            random.usize(1..=20_000)
        } else {
            buffer.len()
        };
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Ok((received, Some(End::Fin))),
            Ok(length) => {
                let expected = bytes(seed, Sender::Service, received, length);
                ensure!(
                    buffer[..length] == expected,
                    "other bytes than the service has written, after {received}"
                );
                received += length as u64;
            }
            Err(error) => {
                // Otherwise the reset is the service's, or the sender's.
                let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                if waited {
                    let _ = Client::from(stream).reset_now();
                }
                return Ok((received, (!waited).then_some(End::Rst)));
            }
        }
    }
}

/// Waits for a moment, or not at all.
fn stall(random: &mut Rng) {
    if random.u8(..4) == 0 {
        thread::sleep(Duration::from_micros(random.u64(..3_000)));
    }
}
