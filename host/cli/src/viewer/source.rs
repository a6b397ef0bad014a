//! Where the events come from: a running server, or a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Stdin};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::record::Decoder;
use crate::watch::json::{At, Line};

/// The longest line that is read: far more than an event with its payload.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The bytes that a pcapng file begins with: the type of its Section Header Block.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A stream of events, in order.
pub(crate) trait Source: Send {
    /// Waits for the next event. `None` is the end of the stream.
    ///
    /// # Errors
    /// If the stream breaks off, or has something else in it.
    fn next(&mut self) -> anyhow::Result<Option<Line>>;

    /// Whether the next event is here already.
    fn is_ready(&self) -> bool {
        false
    }

    /// Whether the events are sent while they happen.
    fn is_live(&self) -> bool {
        false
    }
}

/// Opens a saved stream, or standard input for `-`.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn Source>> {
    if path == Path::new("-") {
        let stdin: BufReader<Stdin> = BufReader::new(std::io::stdin());
        return Ok(Box::new(Saved::new("standard input", stdin)));
    }
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot open `{shown}`"))?;
    let mut file = BufReader::new(file);
    let first = file
        .fill_buf()
        .with_context(|| format!("cannot read `{shown}`"))?;
    if first.starts_with(&SECTION) {
        let decoder = Decoder::new(file).with_context(|| format!("cannot read `{shown}`"))?;
        return Ok(Box::new(Recorded {
            name: shown,
            decoder,
        }));
    }
    Ok(Box::new(Saved::new(&shown, file)))
}

/// A recording, or another program's capture.
struct Recorded<R> {
    name: String,
    decoder: Decoder<R>,
}

impl<R: Read + Send> Source for Recorded<R> {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let next = self.decoder.next();
        next.with_context(|| format!("cannot read `{}`", self.name))
    }
}

/// A saved stream: JSON lines.
pub(crate) struct Saved<R> {
    name: String,
    lines: R,
    number: usize,
}

impl<R: BufRead> Saved<R> {
    pub(crate) fn new(name: &str, lines: R) -> Self {
        Saved {
            name: name.to_owned(),
            lines,
            number: 0,
        }
    }
}

impl<R: BufRead + Send> Source for Saved<R> {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut self.lines).take(LONGEST);
            let read = limited.read_until(b'\n', &mut line);
            let read = read.with_context(|| format!("cannot read `{}`", self.name))?;
            self.number += 1;
            if read == 0 {
                return Ok(None);
            }
            let whole = line.ends_with(b"\n");
            if line.trim_ascii().is_empty() {
                continue;
            }
            return match serde_json::from_slice(&line) {
                Ok(line) => Ok(Some(line)),
                // Whoever saved the stream was ended in the middle of a line.
                Err(_) if !whole && self.number > 1 && (read as u64) < LONGEST => Ok(None),
                Err(_) => bail!(
                    "`{}`, line {}: this is no event; a file has the lines that \
                     `halfopen watch --json` prints",
                    self.name,
                    self.number
                ),
            };
        }
    }
}

/// A stream in the time that it took.
pub(crate) struct Paced {
    source: Box<dyn Source>,
    speed: f64,
    before: Option<At>,
}

impl Paced {
    /// Paces a stream, `speed` times as fast as it was.
    pub(crate) fn new(source: Box<dyn Source>, speed: f64) -> Self {
        Paced {
            source,
            speed,
            before: None,
        }
    }
}

impl Source for Paced {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let line = self.source.next()?;
        if let Some(at) = line.as_ref().and_then(|line| line.at) {
            if let Some(before) = self.before {
                let pause = at.0.saturating_sub(before.0);
                thread::sleep(Duration::from_micros(pause).div_f64(self.speed));
            }
            self.before = self.before.max(Some(at));
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::json::Event;

    fn read(text: &str) -> (Vec<Event>, Option<String>) {
        let mut saved = Saved::new("f", text.as_bytes());
        let mut events = Vec::new();
        loop {
            match saved.next() {
                Ok(Some(line)) => events.push(line.event),
                Ok(None) => return (events, None),
                Err(error) => return (events, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn a_saved_stream_is_read_to_its_last_whole_line() {
        let paused = r#"{"event":"paused","id":1,"seq":1,"at":1}"#;
        assert_eq!(
            read(&format!("{paused}\n\n{paused}\n")),
            (vec![Event::Paused; 2], None)
        );
        let torn = format!("{paused}\n{}", &paused[..20]);
        assert_eq!(read(&torn), (vec![Event::Paused], None));
    }

    #[test]
    fn what_is_no_event_is_named_with_its_line() {
        let (_, error) = read("{\"event\":\"paused\"}\nGET / HTTP/1.1\n");
        let error = error.unwrap();
        assert!(error.contains("`f`, line 2: this is no event"), "{error}");
        assert!(read("PNG").1.is_some());
        assert!(read(&"x".repeat(5 * 1024 * 1024)).1.is_some());
    }
}
