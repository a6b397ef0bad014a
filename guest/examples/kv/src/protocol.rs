//! RESP, the protocol of Redis: requests, and replies in its versions 2 and 3.

use std::mem::take;

/// The most bytes of a line, as in Redis.
const LINE: usize = 64 << 10;
/// The most arguments of a request, as in Redis.
const ARGUMENTS: i64 = 1 << 20;
/// The most bytes of an argument, and of a whole request. Redis takes 512 MiB.
const ARGUMENT: i64 = 8 << 20;
const REQUEST: usize = 32 << 20;

/// What has arrived, and is no whole request yet.
#[derive(Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where the unread bytes begin.
    at: usize,
    /// The request that is being read: its arguments, their bytes, and how many are missing.
    arguments: Vec<Vec<u8>>,
    size: usize,
    missing: i64,
    /// The bytes of the next argument, if its head has been read.
    length: Option<usize>,
}

impl Requests {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..take(&mut self.at));
        self.bytes.extend_from_slice(chunk);
    }

    /// Returns the next request if all of it has arrived. After an error nothing can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, String> {
        while self.missing == 0 {
            match self.bytes.get(self.at) {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => return self.inline(),
            }
            let Some(line) = self.line("too big mbulk count string")? else {
                return Ok(None);
            };
            let count = number(&line[1..]).filter(|&count| count <= ARGUMENTS);
            // None, or less, is an empty request.
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
                        return Err(format!("expected '$', got '{first}'"));
                    }
                    let length =
                        number(&line[1..]).filter(|length| (0..=ARGUMENT).contains(length));
                    length.ok_or("invalid bulk length")? as usize
                }
            };
            self.length = Some(length);
            let Some(argument) = self.bytes[self.at..].get(..length + 2) else {
                return Ok(None);
            };
            self.size += length;
            if self.size > REQUEST {
                return Err("too big request".to_owned());
            }
            self.arguments.push(argument[..length].to_owned());
            self.at += length + 2;
            self.length = None;
            self.missing -= 1;
        }
        self.size = 0;
        Ok(Some(take(&mut self.arguments)))
    }

    /// A request for people: words in a line, some in quotes.
    fn inline(&mut self) -> Result<Option<Vec<Vec<u8>>>, String> {
        let unread = &self.bytes[self.at..];
        let Some(end) = unread.iter().position(|&byte| byte == b'\n') else {
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
            return Err("unbalanced quotes in request".to_owned());
        }
        words.extend(word);
        self.at += end + 1;
        Ok(Some(words))
    }

    /// Takes a line, without its end.
    fn line(&mut self, problem: &str) -> Result<Option<Vec<u8>>, String> {
        let unread = &self.bytes[self.at..];
        let Some(end) = unread.windows(2).position(|pair| pair == b"\r\n") else {
            return too_long(unread, problem);
        };
        self.at += end + 2;
        Ok(Some(unread[..end].to_owned()))
    }
}

fn too_long<T>(unread: &[u8], problem: &str) -> Result<Option<T>, String> {
    match unread.len() > LINE {
        true => Err(problem.to_owned()),
        false => Ok(None),
    }
}

/// A number as Redis writes it.
pub(crate) fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

pub(crate) enum Reply {
    Simple(&'static str),
    Error(String),
    Number(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    /// Keys and values in turns.
    Map(Vec<Reply>),
}

impl Reply {
    pub(crate) fn encode(&self, three: bool, out: &mut Vec<u8>) {
        match self {
            Reply::Simple(text) => out.extend(format!("+{text}\r\n").bytes()),
            Reply::Error(text) => {
                let line = text.replace(['\r', '\n'], " ");
                out.extend(format!("-{line}\r\n").bytes());
            }
            Reply::Number(number) => out.extend(format!(":{number}\r\n").bytes()),
            Reply::Bulk(bytes) => {
                out.extend(format!("${}\r\n", bytes.len()).bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Null if three => out.extend_from_slice(b"_\r\n"),
            Reply::Null => out.extend_from_slice(b"$-1\r\n"),
            Reply::Array(all) | Reply::Map(all) => {
                let head = match self {
                    Reply::Map(_) if three => format!("%{}\r\n", all.len() / 2),
                    _ => format!("*{}\r\n", all.len()),
                };
                out.extend(head.bytes());
                all.iter().for_each(|reply| reply.encode(three, out));
            }
        }
    }
}

impl From<Option<Vec<u8>>> for Reply {
    fn from(value: Option<Vec<u8>>) -> Self {
        value.map_or(Reply::Null, Reply::Bulk)
    }
}
