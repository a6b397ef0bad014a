//! What clients send to PostgreSQL: its messages, version 3 of the protocol.

use halfopen_guest::callbacks::inspected::{Flow, Inspect, Stop};

use crate::sql;

/// A request for TLS, and one for encryption by Kerberos.
pub(crate) const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// The most bytes of the first message, as PostgreSQL has it, and of a statement.
const FIRST: usize = 10_000;
const STATEMENT: usize = 1 << 20;

/// Inspects messages. With `tls`, a client gets TLS when it asks for it.
pub(crate) fn inspect(refused: Vec<String>, mut tls: bool) -> impl Inspect {
    let mut begun = false;
    move |flow: &mut Flow| match begun {
        true => message(flow, &refused),
        false => begin(flow, &mut tls).map(|is_session| begun = is_session),
    }
}

/// Reads a message that has no type. Returns whether those that have one follow.
fn begin(flow: &mut Flow, tls: &mut bool) -> Result<bool, Stop> {
    let head = flow.peek(8)?;
    let length = length(head)?;
    match head {
        SSL_REQUEST if *tls => {
            // Once.
            *tls = false;
            flow.answer(8, b"S");
            flow.secure();
        }
        SSL_REQUEST | GSS_REQUEST => flow.answer(8, b"N"),
        _ if !(8..=FIRST).contains(&length) => {
            return Err(format!("a first message of {length} bytes").into());
        }
        // The version of the protocol, or what cancels a query of another session.
        [.., 0, 3, _, _] | [.., 0x04, 0xd2, 0x16, 0x2e] => {
            flow.pass(length);
            flow.pipe_answers();
            return Ok(true);
        }
        // Its messages are others.
        _ => return Err("another version of the protocol than 3".into()),
    }
    Ok(false)
}

fn message(flow: &mut Flow, refused: &[String]) -> Result<(), Stop> {
    let head = flow.peek(5)?;
    let (kind, end) = (head[0], 1 + length(&head[1..])?);
    match kind {
        b'F' => return Err("a function call, which names no function".into()),
        // A query, and a statement to prepare.
        b'Q' | b'P' if end <= STATEMENT => {
            let mut texts = flow.peek(end)?[5..].split_inclusive(|byte| *byte == 0);
            let name = if kind == b'P' { texts.next() } else { None };
            let text = texts.next().and_then(|text| text.strip_suffix(&[0]));
            match sql::check(text.ok_or("a statement without end")?, refused) {
                Ok(()) => flow.pass(end),
                Err(what) => {
                    let instead = failing(kind, name, &what);
                    flow.refuse(end, &instead, &what);
                }
            }
        }
        b'Q' | b'P' => return Err(format!("a statement of {} bytes", end - 1).into()),
        _ => flow.pass(end),
    }
    Ok(())
}

/// The length of a message, behind its type.
fn length(head: &[u8]) -> Result<usize, Stop> {
    match u32::from_be_bytes(*head.first_chunk().ok_or(Stop::Wait)?) {
        length @ 4..0x8000_0000 => Ok(length as usize),
        _ => Err("a message that is shorter than its length".into()),
    }
}

/// A statement that PostgreSQL answers by an error, whatever the state of the transaction.
fn failing(kind: u8, name: Option<&[u8]>, what: &str) -> Vec<u8> {
    let what = what.replace(['\'', '\\', '$'], "");
    let raise = "RAISE insufficient_privilege USING MESSAGE";
    let text = format!("DO $$BEGIN {raise} = 'refused by guard: {what}'; END$$\0");
    // Behind a statement to prepare is the number of the types of its parameters.
    let types: &[u8] = if name.is_some() { &[0, 0] } else { &[] };
    let body = [name.unwrap_or_default(), text.as_bytes(), types].concat();
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], &length.to_be_bytes()[..], &body].concat()
}
