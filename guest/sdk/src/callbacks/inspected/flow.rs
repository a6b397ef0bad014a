//! What a client has sent, and what becomes of it.

use std::mem;

use crate::log;

/// Why an [`Inspect`] reads no message now.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// More of the message has to come first.
    Wait,
    /// What the client sends cannot be inspected: both connections are reset, and the text is
    /// logged.
    Fail(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Stop::Fail(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Stop::Fail(why.to_owned())
    }
}

/// Reads what a client sends, message by message. A closure can do it as well.
pub trait Inspect {
    /// Reads the next message, or a part of it, with [`Flow::pass`], [`Flow::skip`],
    /// [`Flow::replace`], [`Flow::refuse`] or [`Flow::answer`]. It is called again until it returns an error.
    ///
    /// # Errors
    /// [`Stop::Wait`] until more has come, which [`Flow::peek`] and [`Flow::line`] return;
    /// [`Stop::Fail`] ends both connections.
    fn next(&mut self, flow: &mut Flow) -> Result<(), Stop>;
}

impl<F: FnMut(&mut Flow) -> Result<(), Stop>> Inspect for F {
    fn next(&mut self, flow: &mut Flow) -> Result<(), Stop> {
        self(flow)
    }
}

/// What a client has sent and an [`Inspect`] has not read yet.
#[derive(Debug, Default)]
pub struct Flow {
    /// The client's address, for the log.
    pub(super) peer: String,
    input: Vec<u8>,
    /// How much of the input is read.
    read: usize,
    output: Vec<u8>,
    /// How many bytes follow of what is passed or skipped.
    left: usize,
    skipping: bool,
    pub(super) answer: Vec<u8>,
    pub(super) pipe: bool,
    pub(super) secure: bool,
}

impl Flow {
    /// Returns the next `length` bytes.
    ///
    /// # Errors
    /// [`Stop::Wait`] if they have not come. They are kept until then, so the caller bounds
    /// `length`.
    pub fn peek(&self, length: usize) -> Result<&[u8], Stop> {
        self.rest().get(..length).ok_or(Stop::Wait)
    }

    /// Returns the next line, with its `\n`.
    ///
    /// # Errors
    /// [`Stop::Wait`] if its end has not come, and [`Stop::Fail`] if it is longer than `limit`.
    pub fn line(&self, limit: usize) -> Result<&[u8], Stop> {
        let rest = &self.rest()[..self.rest().len().min(limit)];
        match memchr::memchr(b'\n', rest) {
            Some(end) => Ok(&rest[..=end]),
            None if rest.len() == limit => Err("a line without end".into()),
            None => Err(Stop::Wait),
        }
    }

    /// Reads the next `length` bytes, and sends them to the server. Those that have not come yet
    /// follow when they come, and are not kept.
    pub fn pass(&mut self, length: usize) {
        (self.left, self.skipping) = (length, false);
        self.advance();
    }

    /// Reads the next `length` bytes, and sends them nowhere; otherwise like [`Flow::pass`].
    pub fn skip(&mut self, length: usize) {
        (self.left, self.skipping) = (length, true);
        self.advance();
    }

    /// Reads the next `length` bytes, and sends other ones to the server instead.
    pub fn replace(&mut self, length: usize, instead: &[u8]) {
        self.output.extend_from_slice(instead);
        self.skip(length);
    }

    /// Logs that the client's `what` is refused, and replaces the next `length` bytes.
    pub fn refuse(&mut self, length: usize, instead: &[u8], what: &str) {
        log!("{}: refused {what}", self.peer);
        self.replace(length, instead);
    }

    /// Reads the next `length` bytes, and answers the client itself. The server's answers must not
    /// be piped yet.
    pub fn answer(&mut self, length: usize, answer: &[u8]) {
        self.answer.extend_from_slice(answer);
        self.skip(length);
    }

    /// Pipes the server's answers to the client from now on, where
    /// [`Upstream::pipe_later`](super::Upstream::pipe_later) has said so.
    pub fn pipe_answers(&mut self) {
        self.pipe = true;
    }

    /// Begins TLS with the client, behind what was answered
    /// ([`secure_as_server`](crate::callbacks::secure_as_server)).
    pub fn secure(&mut self) {
        self.secure = true;
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.input[self.read..]
    }

    pub(super) fn received(&mut self, chunk: &[u8]) {
        self.input.extend_from_slice(chunk);
        self.advance();
    }

    /// Lets the next message be read. Returns false if more has to come first.
    pub(super) fn step(&mut self, inspect: &mut dyn Inspect) -> Result<bool, String> {
        if self.left > 0 {
            return Ok(false);
        }
        match inspect.next(self) {
            Ok(()) => Ok(true),
            Err(Stop::Wait) => Ok(false),
            Err(Stop::Fail(why)) => Err(why),
        }
    }

    /// Forgets what is read, and returns what goes to the server.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.input.drain(..self.read);
        self.read = 0;
        mem::take(&mut self.output)
    }

    /// Reads what has come of the bytes that are passed or skipped.
    fn advance(&mut self) {
        let length = self.left.min(self.rest().len());
        let end = self.read + length;
        if !self.skipping {
            self.output.extend_from_slice(&self.input[self.read..end]);
        }
        self.read = end;
        self.left -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages are a letter, a digit that is their length, and a line: `p` passes, `s` is
    /// skipped, `r` replaced.
    struct Letters;

    impl Inspect for Letters {
        fn next(&mut self, flow: &mut Flow) -> Result<(), Stop> {
            let &[kind, digit, ..] = flow.peek(2)? else {
                return Err(Stop::Wait);
            };
            let length = 2 + usize::from(digit - b'0');
            match kind {
                b'p' => flow.pass(length),
                b's' => flow.skip(length),
                b'r' => flow.replace(length, b"!"),
                b'l' => {
                    let line = flow.line(8)?.len();
                    flow.pass(line);
                }
                _ => return Err("no letter".into()),
            }
            Ok(())
        }
    }

    fn output(flow: &mut Flow, chunk: &[u8]) -> Result<Vec<u8>, String> {
        flow.received(chunk);
        while flow.step(&mut Letters)? {}
        Ok(flow.take())
    }

    #[test]
    fn messages_come_in_any_pieces() {
        let input = b"p3abcs3abcr3abcp0s0l0line\np1x";
        for at in 0..=input.len() {
            let mut flow = Flow::default();
            let mut sent = output(&mut flow, &input[..at]).unwrap();
            sent.extend(output(&mut flow, &input[at..]).unwrap());
            assert_eq!(sent, b"p3abc!p0l0line\np1x", "{at}");
        }
    }

    #[test]
    fn what_passes_is_not_kept() {
        let mut flow = Flow::default();
        flow.received(b"ab");
        flow.pass(usize::MAX);
        assert_eq!(flow.take(), b"ab");
        assert_eq!(output(&mut flow, b"p0").unwrap(), b"p0");
        assert_eq!((flow.rest(), flow.left), (&b""[..], usize::MAX - 4));
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut flow = Flow::default();
        assert_eq!(output(&mut flow, b"l0 long"), Ok(Vec::new()));
        let error = output(&mut flow, b"er\n").unwrap_err();
        assert_eq!(error, "a line without end");
        let mut flow = Flow::default();
        assert_eq!(output(&mut flow, b"l0 1234\n"), Ok(b"l0 1234\n".to_vec()));
    }

    #[test]
    fn a_failure_has_its_reason() {
        let error = output(&mut Flow::default(), b"p0x0").unwrap_err();
        assert_eq!(error, "no letter");
    }
}
