//! What clients send to PostgreSQL: its messages, version 3 of the protocol.

use halfopen_guest::callbacks::inspected::{Flow, Inspect, Stop};

use crate::sql;

/// A request for TLS, and one for encryption by Kerberos.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// How the first message says the version of the protocol, and what it says instead to cancel a
/// query of another connection.
const VERSION: [u8; 2] = [0, 3];
const CANCEL: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];

/// The most bytes of the first message, as PostgreSQL has it, and of a statement.
const FIRST: usize = 10_000;
const STATEMENT: usize = 1 << 20;

pub(crate) struct Messages {
    refused: Vec<String>,
    /// Whether the client gets TLS when it asks for it.
    tls: bool,
    begun: bool,
}

impl Messages {
    pub(crate) fn new(refused: Vec<String>, tls: bool) -> Self {
        let begun = false;
        Messages {
            refused,
            tls,
            begun,
        }
    }

    /// Reads what comes before the first message that has a type.
    fn begin(&mut self, flow: &mut Flow) -> Result<(), Stop> {
        let head = flow.peek(8)?;
        let length = length(head)?;
        if head == SSL_REQUEST && self.tls {
            // Once.
            self.tls = false;
            flow.skip(8);
            flow.answer(b"S");
            flow.secure();
        } else if head == SSL_REQUEST || head == GSS_REQUEST {
            flow.skip(8);
            flow.answer(b"N");
        } else if !(8..=FIRST).contains(&length) {
            return Err(format!("a first message of {length} bytes").into());
        } else if head[4..6] != VERSION && head[4..] != CANCEL {
            // Its messages are others.
            return Err("another version of the protocol than 3".into());
        } else {
            flow.peek(length)?;
            self.begun = true;
            flow.pass(length);
            flow.pipe_answers();
        }
        Ok(())
    }
}

impl Inspect for Messages {
    fn next(&mut self, flow: &mut Flow) -> Result<(), Stop> {
        if !self.begun {
            return self.begin(flow);
        }
        let head = flow.peek(5)?;
        let (kind, end) = (head[0], 1 + length(&head[1..])?);
        if kind == b'F' {
            return Err("a function call, which names no function".into());
        }
        // A query, and a statement to prepare.
        if !matches!(kind, b'Q' | b'P') {
            flow.pass(end);
            return Ok(());
        }
        if end > STATEMENT {
            return Err(format!("a statement of {} bytes", end - 1).into());
        }
        let mut texts = flow.peek(end)?[5..].split_inclusive(|byte| *byte == 0);
        let name = if kind == b'P' { texts.next() } else { None };
        let text = texts.next().and_then(|text| text.strip_suffix(&[0]));
        match sql::refused(text.ok_or("a statement without end")?, &self.refused) {
            None => flow.pass(end),
            Some(what) => {
                let instead = failing(kind, name, &what);
                flow.refuse(end, &instead, &what);
            }
        }
        Ok(())
    }
}

/// The length of a message, behind its type.
fn length(head: &[u8]) -> Result<usize, Stop> {
    let length = head.first_chunk().ok_or(Stop::Wait)?;
    match u32::from_be_bytes(*length) {
        length @ 4..0x8000_0000 => Ok(length as usize),
        _ => Err("a message that is shorter than its length".into()),
    }
}

/// A statement that PostgreSQL answers by an error, whatever the state of the transaction.
fn failing(kind: u8, name: Option<&[u8]>, what: &str) -> Vec<u8> {
    let what = what.replace(['\'', '\\', '$'], "");
    let text = format!(
        "DO $$BEGIN RAISE insufficient_privilege USING MESSAGE = 'refused by guard: {what}'; END$$\0"
    );
    // Behind a statement to prepare is the number of the types of its parameters.
    let types: &[u8] = if name.is_some() { &[0, 0] } else { &[] };
    let body = [name.unwrap_or_default(), text.as_bytes(), types].concat();
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], &length.to_be_bytes()[..], &body].concat()
}
