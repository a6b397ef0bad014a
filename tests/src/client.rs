//! A client: one connection to a server under test, with a timeout on every wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::SockRef;

use crate::patience::patience;

/// The client's end of a connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

/// The way in which the server ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// End of file.
    Fin,
    /// A reset.
    Rst,
}

/// A connection that the test has accepted. It waits as long as the test may.
impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        // Fails only for a time of zero.
        let _ = stream.set_read_timeout(Some(patience()));
        let _ = stream.set_write_timeout(Some(patience()));
        Client { stream }
    }
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// If the connection is refused, or not made in time.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience())
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(patience()))?;
        stream.set_write_timeout(Some(patience()))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream })
    }

    /// Connects to a server that ends the connection by itself, and receives until then. The
    /// RST of a server may be faster than connect(2), which then fails with it.
    ///
    /// # Errors
    ///
    /// If the connection is refused, or does not end in time.
    pub fn until_end(address: SocketAddr) -> Result<(Vec<u8>, End)> {
        match TcpStream::connect_timeout(&address, patience()) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok((Vec::new(), End::Rst)),
            connected => Client::from(connected?).end(),
        }
    }

    /// Returns the client's own address.
    ///
    /// # Errors
    ///
    /// If getsockname(2) fails.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Sends FIN.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub fn fin(&mut self) -> Result<()> {
        self.stream
            .shutdown(Shutdown::Write)
            .context("cannot send FIN")
    }

    /// Sends RST, by closing without lingering.
    ///
    /// # Errors
    ///
    /// If setsockopt(2) fails.
    pub fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Returns a second handle to the same connection, for another thread.
    ///
    /// # Errors
    ///
    /// If dup(2) fails.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Client {
            stream: self.stream.try_clone()?,
        })
    }

    /// Sends RST at once, even while clones of this handle are open.
    ///
    /// # Errors
    ///
    /// If connect(2) to AF_UNSPEC fails.
    pub fn reset_now(&self) -> Result<()> {
        rustix::net::connect_unspec(&self.stream)?;
        Ok(())
    }

    /// Waits until something has arrived, and leaves it unread.
    ///
    /// # Errors
    ///
    /// If nothing arrives, or the connection ends.
    pub fn arrives(&self) -> Result<()> {
        let peeked = self.stream.peek(&mut [0]).context("nothing arrives")?;
        ensure!(peeked > 0, "the server sent FIN and no data");
        Ok(())
    }

    /// Receives `length` bytes, or fewer if the server ends its direction before.
    ///
    /// # Errors
    ///
    /// If neither comes in time.
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
                        .with_context(|| format!("only {filled} of {length} bytes came"));
                }
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Receives until the server ends its direction, and returns the bytes and the way in
    /// which it ended.
    ///
    /// # Errors
    ///
    /// If the end does not come in time.
    pub fn end(&mut self) -> Result<(Vec<u8>, End)> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Ok((bytes, End::Fin)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok((bytes, End::Rst)),
            Err(error) => Err(error).with_context(|| format!("no end after {} bytes", bytes.len())),
        }
    }

    /// Checks that neither data nor an end comes for this long.
    ///
    /// # Errors
    ///
    /// If something comes.
    pub fn silence(&mut self, time: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        let read = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(patience()))?;
        match read {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Ok(0) => bail!("the server sent FIN"),
            Ok(_) => bail!("the server sent something"),
            Err(error) => Err(error).context("the connection failed"),
        }
    }

    /// Sends `length` bytes and FIN, and receives at the same time. The same bytes and the
    /// server's FIN must come back.
    ///
    /// # Errors
    ///
    /// If anything else comes back.
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
            sending.shutdown(Shutdown::Write).context("cannot send FIN")
        });
        let received = self.comes_back(seed, length);
        sender.join().expect("sending does not panic")?;
        received?;
        let (rest, end) = self.end()?;
        ensure!(rest.is_empty(), "{} bytes more than were sent", rest.len());
        ensure!(end == End::Fin, "RST after all bytes");
        Ok(())
    }

    /// Receives the bytes that [`Client::exchange`] or [`Client::fill`] sends with this seed.
    ///
    /// # Errors
    ///
    /// If other bytes come.
    pub fn comes_back(&mut self, seed: u64, length: usize) -> Result<()> {
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

    /// Sends without receiving, until the server has taken nothing for a second. Returns how
    /// many bytes it took.
    ///
    /// # Errors
    ///
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
                    ensure!(
                        sent <= limit,
                        "no backpressure: the server took {sent} bytes"
                    );
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

    /// Sends FIN, and receives the bytes that [`Client::fill`] sent with this seed.
    ///
    /// # Errors
    ///
    /// If anything else comes back.
    pub fn drain(&mut self, seed: u64, length: usize) -> Result<()> {
        self.fin()?;
        let (received, end) = self.end()?;
        ensure!(end == End::Fin, "RST after {} bytes", received.len());
        let expected = Noise::new(seed).bytes(length.next_multiple_of(64 * 1024));
        ensure!(
            received == expected[..length],
            "{length} bytes were sent, and {} came back, or others",
            received.len()
        );
        Ok(())
    }
}

/// Pseudo-random bytes, the same for the same seed, without the letter `q`, which has a
/// meaning for the echo.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Returns the next bytes. As long as every length is a multiple of eight, the sequence
    /// does not depend on the lengths.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
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

/// Clients that connect and reset, one after another, on several threads.
#[derive(Debug)]
pub struct Flood(Vec<JoinHandle<Result<()>>>);

impl Flood {
    /// Starts four threads, each of which opens and resets this many connections. Before
    /// every other reset a client sends data, which the server may not have read by then.
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

    /// Waits until all connections have been reset.
    ///
    /// # Errors
    ///
    /// If a client could not connect, send or reset.
    ///
    /// # Panics
    ///
    /// If a thread has panicked.
    pub fn wait(self) -> Result<()> {
        for thread in self.0 {
            thread.join().expect("a client does not panic")?;
        }
        Ok(())
    }
}
