//! Lines of bounded length, for both styles.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{error, fmt, io};

use futures::io::AsyncBufRead;
use futures::stream::Stream;
use memchr::memchr;

use crate::ReadHalf;

/// The most bytes in a line, if no other limit is set: 8 KiB.
pub const LINE_LIMIT: usize = 8 * 1024;

/// The reason why there is no line.
#[derive(Debug)]
#[non_exhaustive]
pub enum LineError {
    /// The line has more bytes than this limit. What is left of the line is skipped, so
    /// that the next line can be read.
    TooLong(usize),
    /// The line is not UTF-8. The next line can be read.
    NotUtf8,
    /// The connection has failed.
    Io(io::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::TooLong(limit) => write!(f, "line longer than {limit} bytes"),
            LineError::NotUtf8 => f.write_str("line is not UTF-8"),
            LineError::Io(error) => error.fmt(f),
        }
    }
}

impl error::Error for LineError {}

impl From<LineError> for io::Error {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Io(error) => error,
            mistake => io::Error::new(io::ErrorKind::InvalidData, mistake),
        }
    }
}

/// The lines that a peer sends, in await style: a stream of `Result<String, LineError>`.
/// [`ReadHalf::lines`] makes it.
///
/// A line has at most [`LINE_LIMIT`] bytes unless [`Lines::limit`] sets another limit, so a
/// peer that never ends its line cannot fill the memory. A longer line is an error value,
/// after which the rest of it is skipped. The line's end, `\n` or `\r\n`, is not part of the
/// line and does not count. The last line needs no end.
#[derive(Debug)]
pub struct Lines {
    receive: ReadHalf,
    partial: Partial,
}

impl ReadHalf {
    /// Returns the lines that the peer sends, of at most [`LINE_LIMIT`] bytes each.
    ///
    /// ```no_run
    /// use halfopen_guest::futures::{AsyncWriteExt, StreamExt};
    /// use halfopen_guest::Connection;
    ///
    /// async fn handle(connection: Connection) -> std::io::Result<()> {
    ///     let (receive, mut send) = connection.split();
    ///     let mut lines = receive.lines().limit(1000);
    ///     while let Some(line) = lines.next().await {
    ///         send.write_all(line?.to_uppercase().as_bytes()).await?;
    ///     }
    ///     send.close().await
    /// }
    /// ```
    #[must_use]
    pub fn lines(self) -> Lines {
        Lines {
            receive: self,
            partial: Partial::default(),
        }
    }
}

impl Lines {
    /// Sets the most bytes in a line, without its end.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.partial.limit = bytes;
        self
    }

    /// Returns the next line as bytes, for a protocol that is not UTF-8; `None` after the
    /// peer's FIN.
    ///
    /// # Errors
    /// [`LineError::TooLong`] and [`LineError::Io`].
    pub async fn next_bytes(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        poll_fn(|context| self.poll_bytes(context)).await
    }

    /// Returns the receiving half. It continues behind the last line that was returned; an
    /// unfinished line that was received before is lost.
    #[must_use]
    pub fn into_inner(self) -> ReadHalf {
        self.receive
    }

    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<u8>, LineError>>> {
        loop {
            let received = Pin::new(&mut self.receive).poll_fill_buf(context);
            let bytes = match ready!(received) {
                Ok(bytes) => bytes,
                Err(error) => return Poll::Ready(Some(Err(LineError::Io(error)))),
            };
            if bytes.is_empty() {
                return Poll::Ready(self.partial.finish());
            }
            let (length, line) = self.partial.take(bytes);
            Pin::new(&mut self.receive).consume(length);
            if line.is_some() {
                return Poll::Ready(line);
            }
        }
    }
}

impl Stream for Lines {
    type Item = Result<String, LineError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<String, LineError>>> {
        self.poll_bytes(context).map(|line| line.map(text))
    }
}

/// Makes lines of the chunks that arrive, in callback style.
///
/// The limit and the ends of lines are as for [`Lines`].
///
/// ```no_run
/// use halfopen_guest::{Events, LineBuffer, Socket};
///
/// struct Shout {
///     lines: LineBuffer,
/// }
///
/// impl Events for Shout {
///     fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
///         self.lines.push(&chunk);
///         while let Some(line) = self.lines.next_line() {
///             match line {
///                 Ok(line) => _ = socket.write(line.to_uppercase() + "\n"),
///                 Err(error) => {
///                     socket.write(format!("error: {error}\n"));
///                     return socket.destroy();
///                 }
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct LineBuffer {
    /// The bytes that were pushed, of which `taken` have been looked at.
    chunk: Vec<u8>,
    taken: usize,
    partial: Partial,
}

impl LineBuffer {
    /// Returns a buffer for lines of at most [`LINE_LIMIT`] bytes.
    #[must_use]
    pub fn new() -> Self {
        LineBuffer::default()
    }

    /// Sets the most bytes in a line, without its end.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.partial.limit = bytes;
        self
    }

    /// Adds a chunk. The lines in it wait in memory until [`LineBuffer::next_line`] has
    /// returned them.
    pub fn push(&mut self, chunk: &[u8]) {
        self.chunk.drain(..self.taken);
        self.taken = 0;
        self.chunk.extend_from_slice(chunk);
    }

    /// Returns what was pushed behind the lines so far.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        match self.partial.bytes.is_empty() {
            true => &self.chunk[self.taken..],
            // No line has ended in the chunk, so it has no other bytes.
            false => &self.partial.bytes,
        }
    }

    /// Returns the next line; `None` if the chunks so far hold no further end of a line.
    ///
    /// # Errors
    /// [`LineError::TooLong`] and [`LineError::NotUtf8`].
    pub fn next_line(&mut self) -> Option<Result<String, LineError>> {
        self.next_bytes().map(text)
    }

    /// Returns the next line as bytes, for a protocol that is not UTF-8.
    ///
    /// # Errors
    /// [`LineError::TooLong`].
    pub fn next_bytes(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        let (length, line) = self.partial.take(&self.chunk[self.taken..]);
        self.taken += length;
        if self.taken == self.chunk.len() {
            // The memory of a large chunk does not stay with an idle connection.
            self.chunk = Vec::new();
            self.taken = 0;
        }
        line
    }

    /// Returns the last line, if the peer has sent FIN without ending it; for
    /// [`Events::end`](crate::Events::end).
    ///
    /// # Errors
    /// [`LineError::NotUtf8`].
    pub fn finish(&mut self) -> Option<Result<String, LineError>> {
        self.partial.finish().map(text)
    }
}

fn text(line: Result<Vec<u8>, LineError>) -> Result<String, LineError> {
    String::from_utf8(line?).map_err(|_| LineError::NotUtf8)
}

/// The beginning of a line whose end has not arrived.
#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    limit: usize,
    /// Whether the line was reported as too long, so that the rest of it is skipped.
    skipping: bool,
}

impl Default for Partial {
    fn default() -> Self {
        Partial {
            bytes: Vec::new(),
            limit: LINE_LIMIT,
            skipping: false,
        }
    }
}

impl Partial {
    /// Takes bytes up to the end of a line, or all of them. Returns how many it took, and
    /// the line if it is complete or too long. It never holds more than `limit` bytes and a
    /// carriage return.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<Result<Vec<u8>, LineError>>) {
        let end = memchr(b'\n', bytes);
        let (part, length) = match end {
            Some(end) => (&bytes[..end], end + 1),
            None => (bytes, bytes.len()),
        };
        if self.skipping {
            self.skipping = end.is_none();
            if end.is_none() || length == bytes.len() {
                return (length, None);
            }
            let (more, line) = self.take(&bytes[length..]);
            return (length + more, line);
        }
        // A carriage return at the end does not count, and may belong to the line's end.
        let total = self.bytes.len() + part.len();
        let last = part.last().or(self.bytes.last());
        if total - usize::from(last == Some(&b'\r')) > self.limit {
            self.bytes = Vec::new();
            self.skipping = end.is_none();
            return (length, Some(Err(LineError::TooLong(self.limit))));
        }
        self.bytes.extend_from_slice(part);
        if end.is_none() {
            return (length, None);
        }
        let mut line = std::mem::take(&mut self.bytes);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        (length, Some(Ok(line)))
    }

    /// Returns the line that has no end.
    fn finish(&mut self) -> Option<Result<Vec<u8>, LineError>> {
        self.skipping = false;
        let line = std::mem::take(&mut self.bytes);
        if line.len() > self.limit {
            // Its last byte is a carriage return, which ends no line here.
            return Some(Err(LineError::TooLong(self.limit)));
        }
        (!line.is_empty()).then_some(Ok(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of a buffer with this limit to which the pieces are pushed; `None` for a
    /// line that is too long.
    fn lines<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
        let mut buffer = LineBuffer::new().limit(limit);
        let mut lines = Vec::new();
        for piece in pieces {
            buffer.push(piece);
            while let Some(line) = buffer.next_bytes() {
                lines.push(line.ok());
            }
            assert!(buffer.partial.bytes.len() <= limit + 1);
            assert!(buffer.chunk.is_empty());
        }
        lines.extend(buffer.partial.finish().map(Result::ok));
        lines
    }

    #[test]
    fn an_endless_line_is_one_error_and_takes_no_memory() {
        let piece = [b'x'; 4096];
        let mut buffer = LineBuffer::new();
        let mut errors = 0;
        for _ in 0..1000 {
            buffer.push(&piece);
            while let Some(line) = buffer.next_line() {
                assert!(matches!(line, Err(LineError::TooLong(LINE_LIMIT))));
                errors += 1;
            }
            assert!(buffer.partial.bytes.capacity() <= 2 * LINE_LIMIT);
            assert_eq!(buffer.chunk.capacity(), 0);
        }
        assert_eq!(errors, 1);
        buffer.push(b"\nnext\n");
        assert_eq!(buffer.next_line().unwrap().unwrap(), "next");
    }

    #[test]
    fn the_limit_counts_no_line_end() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        let of = |text: &'static str| lines(3, [text.as_bytes()]);
        assert_eq!(of("abc\r\nabc\nab"), [some("abc"), some("abc"), some("ab")]);
        assert_eq!(of("abcd\nabc\n"), [None, some("abc")]);
        assert_eq!(of("abc\r"), [None]);
        assert_eq!(of("\n\r\n"), [some(""), some("")]);
    }

    proptest! {
        /// However the bytes are cut, the lines are those of the whole.
        #[test]
        fn the_cut_of_the_chunks_has_no_effect(
            text in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..60),
            size in 1..10_usize,
            limit in 0..6_usize,
        ) {
            let mut wanted = Vec::new();
            let mut rest = &text[..];
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
                wanted.push((line.len() <= limit).then(|| line.to_vec()));
                rest = &rest[end + 1..];
            }
            if !rest.is_empty() {
                wanted.push((rest.len() <= limit).then(|| rest.to_vec()));
            }
            prop_assert_eq!(lines(limit, text.chunks(size)), wanted);
        }
    }
}
