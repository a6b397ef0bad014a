//! Hostile peers: clients that misbehave on the wire.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use rustls::ClientConfig;

use super::services::Addresses;
use super::stage::{Phase, Stage};
use super::wire::{Secure, connect, connect_with, fill, reset, secure};

/// The longest wait for anything here; an attacked service may be full.
const WAIT: Duration = Duration::from_millis(500);

/// The connections that one attacker holds at most.
const HELD: usize = 40;

/// A kind of attack: its name, the pause between two connections, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pause: Duration,
    run: fn(&mut Attacker<'_>) -> Result<()>,
}

const fn attack(
    name: &'static str,
    pause_ms: u64,
    run: fn(&mut Attacker<'_>) -> Result<()>,
) -> Attack {
    Attack {
        name,
        pause: Duration::from_millis(pause_ms),
        run,
    }
}

/// Every kind of attack.
pub(crate) const ATTACKS: &[Attack] = &[
    attack("peer-resets", 300, resets),
    attack("peer-silent", 60, silent),
    attack("peer-half-open", 60, half_open),
    attack("peer-slow", 50, slow),
    attack("peer-zero-window", 120, zero_window),
    attack("peer-closing-at-every-point", 25, close_at_every_point),
    attack("peer-tls-handshake", 50, handshake),
    attack("peer-tls-end", 150, tls_end),
    attack("peer-proxy-header", 25, proxy_header),
];

/// A connection that is held, so that the server's limits have to end it.
enum Held {
    Plain(TcpStream),
    // Held, and never used.
    Secure(#[allow(dead_code, reason = "it is only held")] Box<Secure>),
}

/// One attacker.
pub(crate) struct Attacker<'s> {
    addresses: &'s Addresses,
    tls: Arc<ClientConfig>,
    random: Rng,
    from: [u8; 4],
    held: VecDeque<Held>,
    number: usize,
}

/// Attacks until the soak is over.
pub(crate) fn run(
    attack: Attack,
    stage: &Stage,
    addresses: &Addresses,
    tls: Arc<ClientConfig>,
    seed: u64,
) {
    let mut random = Rng::with_seed(seed);
    let mut attacker = Attacker {
        addresses,
        tls,
        from: [127, 0, 3, random.u8(10..20)],
        random,
        held: VecDeque::new(),
        number: 0,
    };
    while stage.wait_for(&[Phase::Load]) {
        // What fails is the attacker's own matter: the server decides.
        let _ = (attack.run)(&mut attacker);
        attacker.number += 1;
        while attacker.held.len() > HELD {
            attacker.held.pop_front();
        }
        stage.act(attack.name);
        stage.pause(attack.pause);
    }
}

impl Attacker<'_> {
    /// Connects to one of the attacked services.
    fn connect(&mut self) -> Result<TcpStream> {
        let target = self.random.usize(..self.addresses.attacked.len());
        self.connect_to(self.addresses.attacked[target])
    }

    fn connect_to(&self, target: SocketAddr) -> Result<TcpStream> {
        connect(self.from, target, WAIT)
    }

    fn hold(&mut self, stream: TcpStream) {
        self.held.push_back(Held::Plain(stream));
    }

    /// Closes, resets, ends its direction, or holds.
    fn leave(&mut self, stream: TcpStream) {
        match self.random.u8(..4) {
            0 => drop(stream),
            1 => reset(stream),
            2 => {
                let _ = stream.shutdown(Shutdown::Write);
                self.hold(stream);
            }
            _ => self.hold(stream),
        }
    }
}

/// A burst of connections that are reset, at once or with data on its way.
fn resets(attacker: &mut Attacker<'_>) -> Result<()> {
    for number in 0..60 {
        let mut stream = attacker.connect()?;
        if number % 2 == 0 {
            stream.write_all(b"unread")?;
        }
        if number % 3 == 0 {
            stream.read_exact(&mut [0])?;
        }
        reset(stream);
    }
    Ok(())
}

/// Sends nothing, ever.
fn silent(attacker: &mut Attacker<'_>) -> Result<()> {
    let stream = attacker.connect()?;
    attacker.hold(stream);
    Ok(())
}

/// Ends one direction, and keeps the other one. At a `q` the echo ends its own direction.
fn half_open(attacker: &mut Attacker<'_>) -> Result<()> {
    let mut stream = attacker.connect()?;
    if attacker.random.bool() {
        stream.write_all(b"some data, and q")?;
    } else {
        stream.write_all(&[b'x'; 40_000])?;
        stream.shutdown(Shutdown::Write)?;
    }
    attacker.hold(stream);
    Ok(())
}

/// Sends a byte now and then, and takes a byte now and then, on many connections.
fn slow(attacker: &mut Attacker<'_>) -> Result<()> {
    for held in &mut attacker.held {
        if let Held::Plain(stream) = held {
            stream.set_nonblocking(true)?;
            // The limits may have ended the connection.
            let _ = stream.write(b"x");
            let _ = stream.read(&mut [0]);
        }
    }
    if attacker.number.is_multiple_of(4) {
        let stream = attacker.connect()?;
        attacker.hold(stream);
    }
    Ok(())
}

/// Has much to receive and takes none of it, through a small window.
fn zero_window(attacker: &mut Attacker<'_>) -> Result<()> {
    let target = attacker.random.usize(..attacker.addresses.attacked.len());
    let target = attacker.addresses.attacked[target];
    let mut stream = connect_with(attacker.from, target, WAIT, |socket| {
        socket.set_recv_buffer_size(2048)
    })?;
    stream.set_nonblocking(true)?;
    fill(&mut stream, 4 << 20);
    if attacker.random.bool() {
        stream.shutdown(Shutdown::Write)?;
    }
    attacker.hold(stream);
    Ok(())
}

/// Ends an exchange after so many bytes sent and so many received, in every way.
fn close_at_every_point(attacker: &mut Attacker<'_>) -> Result<()> {
    let number = attacker.number;
    let sends = [0, 1, 1000, 60_000][number % 4];
    let receives = [0, sends / 2, sends][number / 4 % 3];
    let mut stream = attacker.connect()?;
    stream.write_all(&vec![b'x'; sends])?;
    stream.read_exact(&mut vec![0; receives])?;
    if number / 12 % 2 == 1 {
        stream.shutdown(Shutdown::Write)?;
    }
    if number / 24 % 2 == 1 {
        reset(stream);
    }
    Ok(())
}

/// Sends nothing, a part of a handshake, or rubbish.
fn handshake(attacker: &mut Attacker<'_>) -> Result<()> {
    let mut stream = attacker.connect_to(attacker.addresses.attacked_tls)?;
    match attacker.random.u8(..5) {
        0 | 1 => {}
        2 => stream.write_all(b"\x16\x03\x01\x40\x00\x01")?,
        3 => stream.write_all(&[attacker.random.u8(..); 300])?,
        _ => {
            // As much of a real handshake as one write sends, cut somewhere.
            let session = rustls::ClientConnection::new(
                attacker.tls.clone(),
                rustls::pki_types::ServerName::try_from(super::services::NAME)?,
            );
            let mut hello = Vec::new();
            session?.write_tls(&mut hello)?;
            hello.truncate(attacker.random.usize(..hello.len()));
            stream.write_all(&hello)?;
        }
    }
    attacker.leave(stream);
    Ok(())
}

/// Makes a TLS session, and ends it badly: much to receive that it does not take, then
/// `close_notify`, a FIN without it, a reset, or nothing at all.
fn tls_end(attacker: &mut Attacker<'_>) -> Result<()> {
    let target = attacker.addresses.attacked_tls;
    let stream = connect_with(attacker.from, target, WAIT, |socket| {
        socket.set_recv_buffer_size(4096)
    })?;
    let mut session = secure(stream, &attacker.tls)?;
    if attacker.random.u8(..4) > 0 {
        session.sock.set_nonblocking(true)?;
        fill(&mut session, 2 << 20);
    }
    match attacker.random.u8(..4) {
        0 => {
            session.conn.send_close_notify();
            session.conn.write_tls(&mut session.sock)?;
        }
        1 => session.sock.shutdown(Shutdown::Write)?,
        2 => {
            reset(session.sock);
            return Ok(());
        }
        _ => {}
    }
    attacker.held.push_back(Held::Secure(Box::new(session)));
    Ok(())
}

/// Sends a PROXY protocol header, cut, changed, or made up.
fn proxy_header(attacker: &mut Attacker<'_>) -> Result<()> {
    let balancer = [127, 0, 4, 1 + attacker.random.u8(..8)];
    let mut stream = connect(balancer, attacker.addresses.attacked_proxy, WAIT)?;
    let random = &mut attacker.random;
    let mut header = if random.bool() {
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nand data".to_vec()
    } else {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        header.extend([192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 0, 80]);
        header.extend(b"and data");
        header
    };
    match random.u8(..5) {
        0 => header.truncate(random.usize(..header.len())),
        1 => {
            let at = random.usize(..header.len());
            header[at] = random.u8(..);
        }
        2 => header = (0..300).map(|_| random.u8(..)).collect(),
        // A header that claims to be as long as it can be.
        3 => header.splice(14..16, [255, 255]).for_each(drop),
        _ => {}
    }
    stream.write_all(&header)?;
    attacker.leave(stream);
    Ok(())
}
