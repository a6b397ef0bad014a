//! What tokio and rustix have in their modules `io`.

use std::io::{Error, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::fd::OwnedFd;
use crate::net::TcpStream;

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Data, EOF or an error.
    Readable,
    /// An error.
    Error,
}

impl Interest {
    /// Errors.
    pub const ERROR: Interest = Interest::Error;
    /// Data, EOF or an error.
    pub const READABLE: Interest = Interest::Readable;
}

/// A buffer to read into.
#[derive(Debug)]
pub struct ReadBuf<'b> {
    buffer: &'b mut [u8],
    filled: usize,
}

impl<'b> ReadBuf<'b> {
    /// Makes an empty one.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        ReadBuf { buffer, filled: 0 }
    }

    /// Returns what was read.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    pub(crate) fn fill(&mut self, with: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<()> {
        self.filled = with(self.buffer)?;
        Ok(())
    }
}

/// Reading as tokio has it.
pub trait AsyncRead {
    /// Reads into the buffer.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>>;
}

/// Returns how many bytes have arrived that were not read (FIONREAD).
///
/// # Errors
///
/// None.
pub fn ioctl_fionread(stream: &TcpStream) -> Result<u64> {
    Ok(stream.kernel().unread())
}

/// Reads from a pipe.
///
/// # Errors
///
/// `WouldBlock` if it is empty.
pub fn read(pipe: &OwnedFd, buffer: &mut [u8]) -> std::result::Result<usize, Errno> {
    pipe.read(buffer).map_err(Errno)
}

/// An error of rustix.
#[derive(Debug)]
pub struct Errno(pub(crate) Error);

impl From<Errno> for Error {
    fn from(Errno(error): Errno) -> Self {
        error
    }
}
