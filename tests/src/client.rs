//! A client, which notes everything that it sees.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::SockRef;

use crate::server::PATIENCE;

/// A connection from the client's side.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

/// How the server ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// End of file.
    Fin,
    /// A reset.
    Rst,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// If that fails.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream })
    }

    /// Our address.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Sends our FIN.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn fin(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("cannot end")
    }

    /// Resets.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// The same connection, for another thread.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Client {
            stream: self.stream.try_clone()?,
        })
    }

    /// Resets, though clones of this are still open.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn reset_now(&self) -> Result<()> {
        rustix::net::connect_unspec(&self.stream)?;
        Ok(())
    }

    /// Receives exactly so many bytes, or what comes before the end.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn receive(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("waiting for {length} bytes, got {filled}"));
                }
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Receives all until the end, and how that came.
    ///
    /// # Errors
    /// If it does not come.
    pub fn end(&mut self) -> Result<(Vec<u8>, End)> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Ok((bytes, End::Fin)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok((bytes, End::Rst)),
            Err(error) => Err(error)
                .with_context(|| format!("waiting for the end after {} bytes", bytes.len())),
        }
    }

    /// Makes sure that nothing comes for a while.
    ///
    /// # Errors
    /// If something does.
    pub fn silence(&mut self, time: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        let read = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match read {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Ok(0) => bail!("the server ended its direction"),
            Ok(_) => bail!("something came"),
            Err(error) => Err(error).context("the connection failed"),
        }
    }

    /// Sends so many bytes and FIN, and receives meanwhile, until the server's FIN;
    /// all of them have to come back.
    ///
    /// # Errors
    /// If they do not.
    pub fn exchange(&mut self, length: usize, seed: u64) -> Result<()> {
        let mut sending = self.stream.try_clone()?;
        let sender = thread::spawn(move || -> Result<()> {
            let mut noise = Noise::new(seed);
            let mut left = length;
            while left > 0 {
                let bytes = noise.bytes(left.min(64 * 1024));
                left -= bytes.len();
                sending.write_all(&bytes).context("cannot send")?;
            }
            sending.shutdown(Shutdown::Write).context("cannot end")
        });
        let received = self.expect_noise(length, seed);
        sender.join().expect("sending does not panic")?;
        received?;
        let (rest, end) = self.end()?;
        ensure!(rest.is_empty(), "{} bytes too many", rest.len());
        ensure!(end == End::Fin, "a reset after all had come");
        Ok(())
    }

    /// Receives the same bytes as [`Client::exchange`] sends.
    fn expect_noise(&mut self, length: usize, seed: u64) -> Result<()> {
        let mut noise = Noise::new(seed);
        let mut left = length;
        while left > 0 {
            let expected = noise.bytes(left.min(64 * 1024));
            let received = self.receive(expected.len())?;
            ensure!(
                received == expected,
                "bytes were lost or changed after {} of {length}",
                length - left
            );
            left -= expected.len();
        }
        Ok(())
    }

    /// Sends, without receiving, until the server takes no more for a while; how many
    /// bytes it took.
    ///
    /// # Errors
    /// If the connection fails, or the server takes more than `limit`.
    pub fn fill(&mut self, seed: u64, limit: usize) -> Result<usize> {
        let stall = Duration::from_secs(1);
        let mut noise = Noise::new(seed);
        let mut sent = 0;
        self.stream.set_nonblocking(true)?;
        let mut last = Instant::now();
        let mut bytes = Vec::new();
        while last.elapsed() < stall {
            if bytes.is_empty() {
                bytes = noise.bytes(64 * 1024);
            }
            match self.stream.write(&bytes) {
                Ok(written) => {
                    sent += written;
                    bytes.drain(..written);
                    last = Instant::now();
                    ensure!(sent <= limit, "no backpressure: {sent} bytes taken");
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        self.stream.set_nonblocking(false)?;
        Ok(sent)
    }

    /// Receives what [`Client::fill`] sent, and ends.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn drain(&mut self, seed: u64, length: usize) -> Result<()> {
        self.fin()?;
        let (received, end) = self.end()?;
        ensure!(end == End::Fin, "a reset after {} bytes", received.len());
        let expected = Noise::new(seed).bytes(length.next_multiple_of(64 * 1024));
        ensure!(
            received == expected[..length],
            "of {length} bytes, {} came back",
            received.len()
        );
        Ok(())
    }
}

/// Bytes that look random and are the same every time; none of them is a `q`.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// The next ones. Asked for by multiples of eight, they are the same however many
    /// are asked for at a time.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length.next_multiple_of(8));
        while bytes.len() < length {
            // xorshift64 (Marsaglia 2003).
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend(
                self.0
                    .to_le_bytes()
                    .map(|byte| if byte == b'q' { b'r' } else { byte }),
            );
        }
        bytes.truncate(length);
        bytes
    }
}

/// Clients that connect and reset, again and again, from several threads.
#[derive(Debug)]
pub struct Flood(Vec<JoinHandle<Result<()>>>);

impl Flood {
    /// Four threads, each with so many connections one after another; every other one
    /// leaves data that nobody has read.
    #[must_use]
    pub fn of_resets(address: SocketAddr, each: usize) -> Self {
        let flood = move || {
            for number in 0..each {
                let mut client = Client::connect(address)?;
                if number % 2 == 0 {
                    client.send(b"unread")?;
                }
                client.reset()?;
            }
            Ok(())
        };
        Flood((0..4).map(|_| thread::spawn(flood)).collect())
    }

    /// Waits until it is over.
    ///
    /// # Errors
    ///
    /// If one could not connect, send or reset.
    ///
    /// # Panics
    ///
    /// If one of the threads has.
    pub fn wait(self) -> Result<()> {
        for thread in self.0 {
            thread.join().expect("no panic")?;
        }
        Ok(())
    }
}
