//! What clients send to Redis: arrays of byte strings (RESP).

use halfopen_guest::callbacks::inspected::{Flow, Inspect, Stop};
use halfopen_guest::resp;

/// Commands that run others, which nobody sees.
const SCRIPTS: &str = "EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO FUNCTION SCRIPT";

/// The longest name of a command, and the longest line.
const NAME: usize = 64;
const LINE: usize = 64 * 1024;

/// Inspects commands, part by part.
pub(crate) fn inspect(mut refused: Vec<String>) -> impl Inspect {
    refused.extend(SCRIPTS.split(' ').map(str::to_owned));
    // How many parts of the command are left.
    let mut parts = 0;
    // Whether the command is refused, once its name is read: what is left of it goes nowhere.
    let mut verdict = None;
    move |flow: &mut Flow| -> Result<(), Stop> {
        let line = flow.line(LINE)?;
        let head = line.len();
        if parts == 0 {
            if line.starts_with(b"*") {
                (parts, verdict) = (number(line, b'*')?, None);
            } else if !line.trim_ascii().is_empty() {
                // A line of words is a command as well, with quotes and escapes.
                refuse(flow, head, "a command without its length");
                return Ok(());
            }
            flow.skip(head);
            return Ok(());
        }
        let length = number(line, b'$')?;
        // With the end of its line.
        let end = length.checked_add(head + 2).ok_or("an endless argument")?;
        match verdict {
            Some(true) => flow.skip(end),
            Some(false) => flow.pass(end),
            None if length > NAME => return Err(format!("a command of {length} bytes").into()),
            None => {
                let part = flow.peek(end)?;
                let name = String::from_utf8_lossy(&part[head..head + length]).to_ascii_uppercase();
                if *verdict.insert(refused.contains(&name)) {
                    refuse(flow, end, &name);
                } else {
                    let begin = [format!("*{parts}\r\n").as_bytes(), part].concat();
                    flow.replace(end, &begin);
                }
            }
        }
        parts -= 1;
        Ok(())
    }
}

/// Sends what Redis answers by an error, also between `MULTI` and `EXEC`: a command that it lacks.
fn refuse(flow: &mut Flow, length: usize, what: &str) {
    let name = format!("refused by guard: {what}");
    let instead = format!("*1\r\n${}\r\n{name}\r\n", name.len());
    flow.refuse(length, instead.as_bytes(), what);
}

/// Reads a line that is a number behind `kind`.
fn number(line: &[u8], kind: u8) -> Result<usize, Stop> {
    let digits = line.strip_prefix(&[kind]);
    let digits = digits.and_then(|digits| digits.strip_suffix(b"\r\n"));
    let number = digits.and_then(|digits| resp::number(digits)?.try_into().ok());
    number.ok_or_else(|| format!("no number behind `{}`", char::from(kind)).into())
}
