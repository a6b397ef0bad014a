//! The fields of an event in the text format of the log.
//!
//! Peers and guests choose parts of what is logged, such as the message of an error. All of
//! it passes through here: a newline must not begin what looks like another line, and no
//! character may change what a terminal shows.

use std::fmt::{self, Write};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// How many bytes of a value are printed.
const LONGEST: usize = 4096;

/// The field whose lines are printed below the event. Each is indented, so that it cannot be
/// taken for an event, which begins with a time.
const LINES: &str = "backtrace";

/// Formats fields, and escapes everything in them that is not plain text.
pub(crate) fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let format = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        match field.name() {
            "message" => {}
            LINES => {
                let text = format!("{value:?}");
                for line in text.lines().filter(|line| !line.is_empty()) {
                    write!(writer, "\n    {}", escaped(line))?;
                }
                return Ok(());
            }
            name => write!(writer, "{name}=")?,
        }
        let mut escaping = Escaping {
            destination: writer,
            room: LONGEST,
            left_out: 0,
        };
        write!(escaping, "{value:?}")?;
        escaping.finish()
    };
    debug_fn(format).delimited(" ")
}

/// Escapes everything in a text that is not plain: control characters, line ends, and
/// characters that are invisible or change the direction of others.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut escaping = Escaping {
        destination: &mut escaped,
        room: LONGEST,
        left_out: 0,
    };
    // Writing to a string never fails.
    let _ = escaping.write_str(text).and_then(|()| escaping.finish());
    escaped
}

/// Escapes what is written, and leaves out what is too long.
struct Escaping<'d, W> {
    destination: &'d mut W,
    /// How many more bytes are printed.
    room: usize,
    /// How many bytes are not.
    left_out: usize,
}

impl<W: Write> Escaping<'_, W> {
    fn finish(self) -> fmt::Result {
        match self.left_out {
            0 => Ok(()),
            bytes => write!(self.destination, "… ({bytes} bytes more)"),
        }
    }
}

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let printed = text.floor_char_boundary(self.room);
        self.room = match printed == text.len() {
            true => self.room - printed,
            false => 0,
        };
        self.left_out += text.len() - printed;
        // Unicode's rules for what is printable are those of `str::escape_debug`, which also
        // escapes what only a literal has to.
        for piece in text[..printed].split_inclusive(['\\', '"', '\'']) {
            let plain = piece.trim_end_matches(['\\', '"', '\'']);
            write!(self.destination, "{}", plain.escape_debug())?;
            self.destination.write_str(&piece[plain.len()..])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_is_escaped_and_all_else_stays() {
        for (text, expected) in [
            (
                r#"it's "C:\x", naïve, 数 e\u{301}"#,
                r#"it's "C:\x", naïve, 数 e\u{301}"#,
            ),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[2K\u{7}\u{9b}", r"\u{1b}[2K\u{7}\u{9b}"),
            ("\u{202e}drowssap\u{2066}", r"\u{202e}drowssap\u{2066}"),
            ("\u{2028}\u{feff}\u{200b}", r"\u{2028}\u{feff}\u{200b}"),
            ("\0", r"\0"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let text = "é".repeat(LONGEST);
        let cut = format!("{}… ({LONGEST} bytes more)", "é".repeat(LONGEST / 2));
        assert_eq!(escaped(&text), cut);
        assert_eq!(escaped(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
    }
}
