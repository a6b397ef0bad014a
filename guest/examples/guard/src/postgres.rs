//! What clients send to PostgreSQL: its messages, version 3 of the protocol.

use crate::options::Options;
use crate::{Flow, Inspect, Step, sql};

/// A request for TLS.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// A request for encryption by Kerberos.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// The most bytes of the first message, as PostgreSQL has it, and of a statement.
const FIRST: usize = 10_000;
const STATEMENT: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Messages {
    begun: bool,
    secured: bool,
    /// How many bytes are left of a message that nobody has to see.
    left: usize,
}

impl Messages {
    /// Reads what comes before the first message that has a type.
    fn begin(&mut self, flow: &mut Flow, options: &Options) -> Result<Step, String> {
        let input = flow.rest();
        let Some(head) = input.first_chunk::<8>().copied() else {
            return Ok(Step::Wait);
        };
        if head == SSL_REQUEST || head == GSS_REQUEST {
            flow.replace(8, &[]);
            let secure = head == SSL_REQUEST && options.tls && !self.secured;
            self.secured |= secure;
            return Ok(if secure {
                Step::Secured("S")
            } else {
                Step::Answered("N")
            });
        }
        let length = length(&head)?;
        if !(8..=FIRST).contains(&length) {
            return Err(format!("a first message of {length} bytes"));
        }
        if input.len() < length {
            return Ok(Step::Wait);
        }
        self.begun = true;
        flow.pass(length);
        Ok(Step::Begun)
    }
}

impl Inspect for Messages {
    fn next(&mut self, flow: &mut Flow, options: &Options) -> Result<Step, String> {
        if !self.begun {
            return self.begin(flow, options);
        }
        let input = flow.rest();
        if self.left > 0 && !input.is_empty() {
            let length = self.left.min(input.len());
            self.left -= length;
            flow.pass(length);
            return Ok(Step::Read);
        }
        let Some(&[kind, ref head @ ..]) = input.first_chunk::<5>() else {
            return Ok(Step::Wait);
        };
        // Without the type.
        let length = length(head)?;
        match kind {
            // A query, and a statement to prepare.
            b'Q' | b'P' => {}
            b'F' => return Err("a function call, which names no function".to_owned()),
            _ => {
                self.left = length - 4;
                flow.pass(5);
                return Ok(Step::Read);
            }
        }
        if length > STATEMENT {
            return Err(format!("a statement of {length} bytes"));
        }
        let Some(body) = input.get(5..=length) else {
            return Ok(Step::Wait);
        };
        let mut texts = body.split(|byte| *byte == 0);
        let name = if kind == b'P' { texts.next() } else { None };
        let text = texts.next().ok_or("a statement without end")?;
        Ok(match sql::refused(text, options) {
            None => {
                flow.pass(length + 1);
                Step::Read
            }
            Some(what) => {
                let instead = refuse(kind, name, &what);
                flow.replace(length + 1, &instead);
                Step::Refused(what)
            }
        })
    }
}

/// The length of a message.
fn length(head: &[u8]) -> Result<usize, String> {
    let head = head.first_chunk().copied().unwrap_or_default();
    match u32::from_be_bytes(head) {
        0..4 => Err("a message that is shorter than its length".to_owned()),
        length => Ok(length as usize),
    }
}

/// A statement that PostgreSQL answers by an error, whatever the state of the transaction.
fn refuse(kind: u8, name: Option<&[u8]>, what: &str) -> Vec<u8> {
    let what = what.replace(['\'', '\\', '$'], "");
    let instead = format!(
        "DO $$BEGIN RAISE insufficient_privilege USING MESSAGE = 'refused by guard: {what}'; END$$"
    );
    let mut body = Vec::new();
    if let Some(name) = name {
        body.extend([name, &[0]].concat());
    }
    body.extend(instead.into_bytes());
    body.push(0);
    if name.is_some() {
        // The number of the types of its parameters.
        body.extend([0, 0]);
    }
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], &length.to_be_bytes()[..], &body].concat()
}
