//! What rustix has in its module `pipe`.

use std::io::{ErrorKind, Result};
use std::ops::BitOr;

use crate::fd::OwnedFd;
use crate::io::Errno;
use crate::net::TcpStream;

/// How a pipe is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeFlags(());

impl PipeFlags {
    /// It is closed in other programs.
    pub const CLOEXEC: PipeFlags = PipeFlags(());
    /// It does not wait.
    pub const NONBLOCK: PipeFlags = PipeFlags(());
}

impl BitOr for PipeFlags {
    type Output = Self;

    fn bitor(self, _: Self) -> Self {
        self
    }
}

/// How splice(2) moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpliceFlags(());

impl SpliceFlags {
    /// It does not wait for the pipe.
    pub const NONBLOCK: SpliceFlags = SpliceFlags(());
}

/// Makes a pipe.
///
/// # Errors
///
/// None.
pub fn pipe_with(_: PipeFlags) -> Result<(OwnedFd, OwnedFd)> {
    Ok(OwnedFd::pair())
}

/// Accepts any size.
///
/// # Errors
///
/// None.
pub fn fcntl_setpipe_size(_: &OwnedFd, size: usize) -> Result<usize> {
    Ok(size)
}

/// What bytes are moved from.
pub trait Source {
    /// Moves up to `most` bytes to a pipe.
    fn move_to(&self, pipe: &OwnedFd, most: usize) -> Result<usize>;

    /// Moves up to `most` bytes to a socket.
    fn send_to(&self, stream: &TcpStream, most: usize) -> Result<usize>;
}

/// What bytes are moved to.
pub trait Sink {
    /// Moves up to `most` bytes here.
    fn move_from(&self, source: &impl Source, most: usize) -> Result<usize>;
}

/// Moves bytes between a socket and a pipe, like splice(2).
///
/// # Errors
///
/// Those of the socket, and `WouldBlock`.
pub fn splice(
    from: &impl Source,
    _: Option<&mut u64>,
    to: &impl Sink,
    _: Option<&mut u64>,
    most: usize,
    _: SpliceFlags,
) -> std::result::Result<usize, Errno> {
    to.move_from(from, most).map_err(Errno)
}

impl Source for TcpStream {
    fn move_to(&self, pipe: &OwnedFd, most: usize) -> Result<usize> {
        assert!(pipe.bytes().is_empty(), "a pipe in use is borrowed");
        let mut buffer = vec![0; most];
        let length = self.kernel().splice_out(&mut buffer)?;
        pipe.bytes().extend(&buffer[..length]);
        Ok(length)
    }

    fn send_to(&self, _: &TcpStream, _: usize) -> Result<usize> {
        Err(ErrorKind::InvalidInput.into())
    }
}

impl Source for OwnedFd {
    fn move_to(&self, _: &OwnedFd, _: usize) -> Result<usize> {
        Err(ErrorKind::InvalidInput.into())
    }

    /// As in `splice_to_socket` of Linux: it sends in steps, and an error of a later step is
    /// taken from the socket and not returned.
    fn send_to(&self, stream: &TcpStream, most: usize) -> Result<usize> {
        let mut moved = 0;
        while moved < most {
            let data: Vec<u8> = self.bytes().iter().copied().take(most - moved).collect();
            match stream.kernel().splice_in(&data) {
                Ok(length) => {
                    self.bytes().drain(..length);
                    moved += length;
                }
                Err(error) if moved == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(moved)
    }
}

impl Sink for OwnedFd {
    fn move_from(&self, source: &impl Source, most: usize) -> Result<usize> {
        source.move_to(self, most)
    }
}

impl Sink for TcpStream {
    fn move_from(&self, source: &impl Source, most: usize) -> Result<usize> {
        source.send_to(self, most)
    }
}
