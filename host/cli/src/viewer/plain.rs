//! Events as lines, for pipes: in words, or as JSON.

use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::{process, thread};

use rustix::event::{PollFd, PollFlags, poll};

use crate::viewer::filter::Filter;
use crate::viewer::model::{Bounds, Model};
use crate::viewer::payload;
use crate::viewer::source::Source;
use crate::viewer::words::{sentence, time};
use crate::watch::json::{Dir, Event, Line};

/// What is printed of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Words,
    Json,
}

/// How many bytes of a payload are printed.
const PAYLOAD: usize = 256;
/// The widest line of payload.
const WIDTH: usize = 100;

/// How the printing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The stream has ended.
    Ended,
    /// Nobody reads any more.
    Closed,
}

/// Prints each event of a stream that the filter lets through, until either end closes.
pub(crate) fn print(
    source: &mut dyn Source,
    form: Form,
    filter: &Filter,
    output: &mut dyn Write,
) -> anyhow::Result<Over> {
    let mut model = Model::new(Bounds {
        // Only the last step of a connection is of interest here.
        ladder: 1,
        ..Bounds::default()
    });
    let needs_model = form == Form::Words || !filter.is_empty();
    while let Some(line) = source.next()? {
        if needs_model {
            model.apply(line.clone());
        }
        if is_wanted(&line, &model, filter) {
            let text = match form {
                Form::Json => printable(serde_json::to_string(&line)?) + "\n",
                Form::Words => words(&line, &model),
            };
            if !is_open(output.write_all(text.as_bytes()))? {
                return Ok(Over::Closed);
            }
        }
        // A reader such as `grep` is to have each line as soon as the program would wait.
        if !source.is_ready() && !is_open(output.flush())? {
            return Ok(Over::Closed);
        }
    }
    match is_open(output.flush())? {
        true => Ok(Over::Ended),
        false => Ok(Over::Closed),
    }
}

/// Escapes the control characters that JSON lets stand, because terminals obey some of them. The
/// value is the same.
fn printable(json: String) -> String {
    if !json.contains(char::is_control) {
        return json;
    }
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter.is_control() {
            // Writing to a string does not fail.
            true => _ = write!(text, "\\u{:04x}", u32::from(letter)),
            false => text.push(letter),
        }
    }
    text
}

/// Whether somebody still reads what was written.
fn is_open(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Whether an event is printed: with a filter, those of a connection that matches it after the
/// event, and those about the stream.
fn is_wanted(line: &Line, model: &Model, filter: &Filter) -> bool {
    match (&line.event, line.id) {
        (Event::Unknown, _) => false,
        (_, None) => filter.is_empty() || !matches!(line.event, Event::Instance { .. }),
        (_, Some(id)) => {
            let connection = model.connection(id);
            connection.is_none_or(|connection| filter.matches(connection))
        }
    }
}

/// The line of an event, with those of its payload.
fn words(line: &Line, model: &Model) -> String {
    let mut text = line.at.map_or("-".to_owned(), time);
    if let Some(id) = line.id {
        text += &format!(" #{id}");
        if let Some(peer) = model.connection(id).and_then(|one| one.peer()) {
            text += &format!(" {peer}");
        }
    }
    let arrow = match &line.event {
        Event::Data { dir, .. } | Event::Fin { dir } | Event::Rst { dir } => match dir {
            Dir::In => " -> ",
            Dir::Out => " <- ",
        },
        _ => " -- ",
    };
    text += arrow;
    text += &sentence(&line.event);
    text.push('\n');
    if let Event::Data {
        payload: Some(payload),
        length,
        ..
    } = &line.event
    {
        let shown = &payload.0[..payload.0.len().min(PAYLOAD)];
        for line in payload::text(shown, WIDTH, usize::MAX) {
            text += &format!("    {line}\n");
        }
        let more = length.saturating_sub(shown.len() as u64);
        if more > 0 {
            text += &format!("    … {more} more\n");
        }
    }
    text
}

/// Prints to standard output.
pub(crate) fn to_stdout(
    source: &mut dyn Source,
    form: Form,
    filter: &Filter,
) -> anyhow::Result<Over> {
    print(
        source,
        form,
        filter,
        &mut BufWriter::new(io::stdout().lock()),
    )
}

/// Ends this process when nobody reads standard output any more, also while nothing happens that
/// would be written: `halfopen watch --plain | head -1`.
pub(crate) fn end_with_reader() {
    thread::spawn(|| {
        let stdout = io::stdout();
        // No event is asked for: poll(2) reports an error or a hangup in any case.
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut polled, None) != Ok(1) {}
        process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::source::Saved;
    use crate::viewer::stories;

    #[test]
    fn no_json_commands_the_terminal() {
        let told = "a\u{7f}b\u{9b}31mc\u{202e}";
        let json = serde_json::to_string(told).unwrap();
        assert!(json.contains(char::is_control));
        let printed = printable(json);
        assert!(!printed.contains(char::is_control), "{printed}");
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), told);
    }

    fn printed(story: &str, form: Form, filter: &str) -> String {
        let mut output = Vec::new();
        let filter = Filter::parse(filter).unwrap();
        let mut source = Saved::new("story", story.as_bytes());
        let over = print(&mut source, form, &filter, &mut output).unwrap();
        assert_eq!(over, Over::Ended);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn each_event_is_a_line() {
        let text = printed(stories::HALF_OPEN, Form::Words, "");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "0.500000 -- watching the process 4711, which serves digest",
                "1.000000 #1 127.0.0.1:40000 -- accepted on 127.0.0.1:1234, for digest",
                "1.000210 #1 127.0.0.1:40000 -- served by instance 1",
                "1.000350 #1 127.0.0.1:40000 -> 5 bytes received",
                "    hello",
                "2.500000 #1 127.0.0.1:40000 -> FIN received: the peer has finished sending",
                "2.500420 #1 127.0.0.1:40000 <- 82 bytes sent",
                "    5 bytes, SHA-256 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e7304336",
                "    … 10 more",
                "2.500510 #1 127.0.0.1:40000 <- FIN sent: the service has finished sending",
                "2.500600 #1 127.0.0.1:40000 -- closed after 1.5 s: both sides have finished \
                 (fin, the peer ended first; 5 bytes received, 82 bytes sent)",
            ]
        );
    }

    #[test]
    fn json_comes_out_as_it_went_in() {
        let json = printed(stories::HALF_OPEN, Form::Json, "");
        let value = |text: &str| -> Vec<serde_json::Value> {
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let (mut before, after) = (value(stories::HALF_OPEN), value(&json));
        // Whole numbers of seconds may be written with or without a fraction.
        for line in &mut before {
            if let Some(at) = line.get("at").and_then(serde_json::Value::as_f64) {
                line["at"] = at.into();
            }
        }
        assert_eq!(before, after);
    }

    #[test]
    fn a_filter_leaves_out_other_connections() {
        let text = printed(stories::MANY, Form::Words, "service:kv");
        assert!(
            text.contains("for kv") && !text.contains("for echo"),
            "{text}"
        );
        // What is about the stream: its beginning, and what is missing.
        let text = printed(stories::MANY, Form::Words, "id:9999");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("17 events are missing"), "{text}");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut source = Saved::new("story", stories::HALF_OPEN.as_bytes());
        let over = print(&mut source, Form::Words, &Filter::default(), &mut Gone);
        assert_eq!(over.unwrap(), Over::Closed);
    }

    #[test]
    fn what_a_peer_sends_cannot_drive_the_terminal() {
        let text = printed(stories::HOSTILE, Form::Words, "");
        let is_plain = |shown: char| shown == '\n' || !shown.is_control();
        assert!(text.chars().all(is_plain), "{text:?}");
        assert!(text.contains("\\u{1b}"), "{text}");
    }
}
