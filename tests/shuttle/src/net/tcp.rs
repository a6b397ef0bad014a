//! The two halves of a stream.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::TcpStream;
use crate::io::{AsyncRead, ReadBuf};

/// The receiving half.
#[derive(Debug)]
pub struct OwnedReadHalf(Arc<TcpStream>);

/// The sending half.
#[derive(Debug)]
pub struct OwnedWriteHalf(Arc<TcpStream>);

pub(super) fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let stream = Arc::new(stream);
    (OwnedReadHalf(stream.clone()), OwnedWriteHalf(stream))
}

impl OwnedReadHalf {
    /// Joins the halves.
    ///
    /// # Errors
    ///
    /// If they are not of one stream.
    pub fn reunite(self, sending: OwnedWriteHalf) -> Result<TcpStream> {
        drop(self);
        Arc::into_inner(sending.0).ok_or_else(|| Error::from(ErrorKind::InvalidInput))
    }
}

impl AsRef<TcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let read = buffer.fill(|buffer| self.0.try_read(buffer));
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }
}
