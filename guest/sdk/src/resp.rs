//! Commands in RESP, the protocol of Redis, of bounded length: what a service reads that Redis
//! clients connect to. Replies are for a crate such as `redis-protocol`.
//!
//! ```
//! use halfopen_guest::resp::CommandBuffer;
//!
//! let mut commands = CommandBuffer::default();
//! commands.push(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nSET k 'two wo");
//! assert_eq!(commands.next_command(), Some(Ok(vec![b"GET".to_vec(), b"k".to_vec()])));
//! assert_eq!(commands.next_command(), None); // until more is pushed
//! commands.push(b"rds'\r\n");
//! let set = commands.next_command().unwrap().unwrap();
//! assert_eq!(set, [&b"SET"[..], b"k", b"two words"]);
//! ```

use std::mem::take;
use std::{error, fmt};

use memchr::{memchr, memmem};

/// The most bytes of a line, as in Redis.
const LINE: usize = 64 << 10;
/// The most words of a command, as in Redis.
const WORDS: i64 = 1 << 20;
/// The most bytes of a word, and of a whole command. Redis takes 512 MiB.
const WORD: i64 = 8 << 20;
const COMMAND: usize = 32 << 20;

/// A command: its name, and its arguments. It has at least a name.
pub type Command = Vec<Vec<u8>>;

/// What is not RESP, or too long, in the words of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl From<&str> for Malformed {
    fn from(why: &str) -> Self {
        Malformed(why.to_owned())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.0)
    }
}

impl error::Error for Malformed {}

/// Makes commands of the bytes that arrive, for the callback style: [`push`](Self::push) in `data`,
/// then take [`next_command`](Self::next_command) for as long as there is one.
///
/// A command is an array of bulk strings, or a line of words. A word has at most 8 MiB, a command
/// 32 MiB and 1,048,576 words, a line 64 KiB: so a peer cannot fill the memory with one of them.
#[derive(Debug, Default)]
pub struct CommandBuffer {
    bytes: Vec<u8>,
    /// Where the unread bytes begin.
    at: usize,
    /// The command that is being read: its words, their bytes, and how many are missing.
    words: Command,
    size: usize,
    missing: i64,
    /// The bytes of the next word, if its head has been read.
    length: Option<usize>,
    /// What has been read, and is not taken yet.
    next: Option<Result<Command, Malformed>>,
    failed: bool,
}

impl CommandBuffer {
    /// Adds bytes that have arrived.
    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..take(&mut self.at));
        self.bytes.extend_from_slice(chunk);
    }

    /// Returns the next command; `None` as long as not all of it has arrived.
    ///
    /// # Errors
    /// [`Malformed`] if what follows is no command, or exceeds a limit. Then nothing follows, as
    /// nobody knows where the next command begins: answer, and end the connection.
    pub fn next_command(&mut self) -> Option<Result<Command, Malformed>> {
        self.read();
        self.next.take()
    }

    /// Returns the next command if all of it has arrived and the function returns true for it.
    /// Otherwise it remains the next one.
    pub fn next_command_if(&mut self, wanted: impl FnOnce(&[Vec<u8>]) -> bool) -> Option<Command> {
        self.read();
        let next = self
            .next
            .take_if(|next| next.as_ref().is_ok_and(|next| wanted(next)));
        next.and_then(Result::ok)
    }

    fn read(&mut self) {
        if self.next.is_none() && !self.failed {
            self.next = self.parse().transpose();
            self.failed = matches!(self.next, Some(Err(_)));
        }
    }

    fn parse(&mut self) -> Result<Option<Command>, Malformed> {
        while self.missing == 0 {
            match self.bytes.get(self.at) {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => match self.inline()? {
                    Some(words) if words.is_empty() => continue,
                    words => return Ok(words),
                },
            }
            let Some(line) = self.line("too big mbulk count string")? else {
                return Ok(None);
            };
            let count = number(&line[1..]).filter(|&count| count <= WORDS);
            // None, or less, is an empty command.
            self.missing = count.ok_or("invalid multibulk length")?.max(0);
        }
        while self.missing > 0 {
            let length = match self.length {
                Some(length) => length,
                None => {
                    let Some(line) = self.line("too big bulk count string")? else {
                        return Ok(None);
                    };
                    let first = line.first().map_or('\r', |&first| char::from(first));
                    if first != '$' {
                        let shown = if first.is_control() { ' ' } else { first };
                        return Err(Malformed(format!("expected '$', got '{shown}'")));
                    }
                    let length = number(&line[1..]).filter(|length| (0..=WORD).contains(length));
                    length.ok_or("invalid bulk length")? as usize
                }
            };
            self.length = Some(length);
            let Some(word) = self.bytes[self.at..].get(..length + 2) else {
                return Ok(None);
            };
            self.size += length;
            if self.size > COMMAND {
                return Err("too big request".into());
            }
            self.words.push(word[..length].to_owned());
            self.at += length + 2;
            self.length = None;
            self.missing -= 1;
        }
        self.size = 0;
        Ok(Some(take(&mut self.words)))
    }

    /// A command for people: words in a line, some in quotes.
    fn inline(&mut self) -> Result<Option<Command>, Malformed> {
        let unread = &self.bytes[self.at..];
        let Some(end) = memchr(b'\n', unread) else {
            return too_long(unread, "too big inline request");
        };
        let (mut words, mut word, mut quote) = (Vec::new(), None, None);
        for &byte in &unread[..end] {
            match (quote, byte) {
                (Some(open), _) if byte == open => quote = None,
                (None, b'"' | b'\'') => {
                    quote = Some(byte);
                    word.get_or_insert_with(Vec::new);
                }
                (None, b' ' | b'\t' | b'\r') => words.extend(word.take()),
                _ => word.get_or_insert_with(Vec::new).push(byte),
            }
        }
        if quote.is_some() {
            return Err("unbalanced quotes in request".into());
        }
        words.extend(word);
        self.at += end + 1;
        Ok(Some(words))
    }

    /// Takes a line, without its end.
    fn line(&mut self, too_big: &str) -> Result<Option<Vec<u8>>, Malformed> {
        let unread = &self.bytes[self.at..];
        let Some(end) = memmem::find(unread, b"\r\n") else {
            return too_long(unread, too_big);
        };
        self.at += end + 2;
        Ok(Some(unread[..end].to_owned()))
    }
}

fn too_long<T>(unread: &[u8], too_big: &str) -> Result<Option<T>, Malformed> {
    match unread.len() > LINE {
        true => Err(too_big.into()),
        false => Ok(None),
    }
}

/// Returns the number that the bytes are, if they are written as Redis writes it: `007` and `+7` are
/// none.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend(format!("${}\r\n", word.len()).bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    /// The commands of these chunks, and what ends them.
    fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<Command>, Option<String>) {
        let mut buffer = CommandBuffer::default();
        let mut commands = Vec::new();
        for chunk in chunks {
            buffer.push(chunk);
            while let Some(next) = buffer.next_command() {
                match next {
                    Ok(command) => commands.push(command),
                    Err(malformed) => return (commands, Some(malformed.to_string())),
                }
            }
        }
        (commands, None)
    }

    proptest! {
        #[test]
        fn commands_are_the_same_however_they_are_cut(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 1..5), 0..9),
            size in 1_usize..40,
        ) {
            let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
            prop_assert_eq!(read(bytes.chunks(size)), (commands, None));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, size in 1_usize..40) {
            prop_assert_eq!(read([&bytes[..]]), read(bytes.chunks(size)));
        }
    }

    #[test]
    fn what_is_malformed_or_too_long_is_named() {
        for (bytes, expected) in [
            (&b"*x\r\n"[..], "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
            (b"*1\r\n\r\n", "expected '$', got ' '"),
            (b"*1\r\n$8388609\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"GET 'k\r\n", "unbalanced quotes in request"),
            (&[b'x'; LINE + 1], "too big inline request"),
        ] {
            let (commands, malformed) = read([&b"PING\r\n"[..], bytes]);
            assert_eq!(commands, [[b"PING"]]);
            assert_eq!(malformed, Some(format!("Protocol error: {expected}")));
        }
        let large = vec![vec![0; WORD as usize]; 5];
        let (commands, malformed) = read([&encode(&large)[..]]);
        assert_eq!(
            (commands.len(), malformed.as_deref()),
            (0, Some("Protocol error: too big request"))
        );
    }

    #[test]
    fn a_command_is_taken_only_if_it_is_wanted_and_an_error_is_told_once() {
        let mut buffer = CommandBuffer::default();
        buffer.push(b"\r\n*0\r\n*-1\r\nGET k\r\n*1\r\n$x\r\n");
        assert_eq!(buffer.next_command_if(|command| command.len() == 1), None);
        let get = vec![b"GET".to_vec(), b"k".to_vec()];
        assert_eq!(
            buffer.next_command_if(|command| command.len() == 2),
            Some(get)
        );
        assert_eq!(buffer.next_command_if(|_| true), None);
        let malformed = buffer.next_command();
        assert_eq!(malformed, Some(Err("invalid bulk length".into())));
        assert_eq!(buffer.next_command(), None);
        assert_eq!(buffer.next_command_if(|_| true), None);
    }

    #[test]
    fn a_number_is_written_as_redis_writes_it() {
        assert_eq!(number(b"-9223372036854775808"), Some(i64::MIN));
        for other in [
            &b"007"[..],
            b"+7",
            b" 7",
            b"",
            b"-0",
            b"9223372036854775808",
            b"\xff",
        ] {
            assert_eq!(number(other), None);
        }
    }
}
