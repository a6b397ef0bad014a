//! What clients send to Redis: arrays of byte strings (RESP).

use crate::options::Options;
use crate::{Flow, Inspect, Step};

/// Commands that run others, which nobody sees.
const SCRIPTS: [&str; 8] = [
    "EVAL",
    "EVAL_RO",
    "EVALSHA",
    "EVALSHA_RO",
    "FCALL",
    "FCALL_RO",
    "FUNCTION",
    "SCRIPT",
];

/// The longest name of a command, and the longest line.
const NAME: usize = 64;
const LINE: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct Commands {
    /// How many arguments of the command are left, and how many bytes of one of them.
    arguments: usize,
    bytes: usize,
    /// Whether the command is refused: what is left of it goes nowhere.
    refused: bool,
}

impl Commands {
    /// Reads so many bytes of a command.
    fn read(&self, flow: &mut Flow, length: usize) -> Step {
        match self.refused {
            true => flow.replace(length, &[]),
            false => flow.pass(length),
        }
        Step::Read
    }

    /// Reads the name of a command, behind the number of its arguments.
    fn begin(&mut self, flow: &mut Flow, options: &Options) -> Result<Step, String> {
        let input = flow.rest();
        let Some((arguments, head)) = number(input, b'*')? else {
            return Ok(Step::Wait);
        };
        if arguments == 0 {
            flow.replace(head, &[]);
            return Ok(Step::Read);
        }
        let Some((length, line)) = number(&input[head..], b'$')? else {
            return Ok(Step::Wait);
        };
        if length > NAME {
            return Err(format!("a command of {length} bytes"));
        }
        let end = head + line + length;
        let Some(command) = input.get(end - length..end) else {
            return Ok(Step::Wait);
        };
        let script = SCRIPTS
            .iter()
            .any(|script| command.eq_ignore_ascii_case(script.as_bytes()));
        self.refused = script || options.refuses(command);
        (self.arguments, self.bytes) = (arguments - 1, 2);
        if !self.refused {
            return Ok(self.read(flow, end));
        }
        let command = String::from_utf8_lossy(command).to_uppercase();
        Ok(refuse(flow, end, command))
    }
}

impl Inspect for Commands {
    fn next(&mut self, flow: &mut Flow, options: &Options) -> Result<Step, String> {
        let input = flow.rest();
        let Some(first) = input.first() else {
            return Ok(Step::Wait);
        };
        if self.bytes > 0 {
            let length = self.bytes.min(input.len());
            self.bytes -= length;
            return Ok(self.read(flow, length));
        }
        if self.arguments > 0 {
            let Some((length, line)) = number(input, b'$')? else {
                return Ok(Step::Wait);
            };
            self.arguments -= 1;
            // With the end of its line.
            self.bytes = length.checked_add(2).ok_or("an argument without end")?;
            return Ok(self.read(flow, line));
        }
        if *first == b'*' {
            return self.begin(flow, options);
        }
        // A line of words is a command as well, with quotes and escapes.
        match input.iter().position(|byte| *byte == b'\n') {
            None if input.len() > LINE => Err("a line without end".to_owned()),
            None => Ok(Step::Wait),
            Some(end) if input[..end].trim_ascii().is_empty() => {
                flow.replace(end + 1, &[]);
                Ok(Step::Read)
            }
            Some(end) => Ok(refuse(
                flow,
                end + 1,
                "a command without its length".to_owned(),
            )),
        }
    }
}

/// What Redis answers by an error, also between `MULTI` and `EXEC`: a command that it lacks.
fn refuse(flow: &mut Flow, length: usize, what: String) -> Step {
    let instead = format!("refused by guard: {what}");
    let instead = format!("*1\r\n${}\r\n{instead}\r\n", instead.len());
    flow.replace(length, instead.as_bytes());
    Step::Refused(what)
}

/// Reads a line that is a number behind `kind`. Returns it, and the length of the line; `None` if
/// the line has not come.
fn number(input: &[u8], kind: u8) -> Result<Option<(usize, usize)>, String> {
    let Some(end) = input.windows(2).position(|end| end == b"\r\n") else {
        return match input.len() > 32 {
            true => Err("a number without end".to_owned()),
            false => Ok(None),
        };
    };
    let number = input[..end].strip_prefix(&[kind]).and_then(|digits| {
        let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
        str::from_utf8(digits).ok()?.parse().ok()
    });
    let number = number.ok_or_else(|| format!("no number behind `{}`", char::from(kind)))?;
    Ok(Some((number, end + 2)))
}
