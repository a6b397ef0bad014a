//! The ladder of a connection: two lanes, the peer's and the service's, with time down the side.

use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};

use crate::observe::escape::escaped;
use crate::viewer::model::{Connection, Step};
use crate::viewer::payload;
use crate::viewer::ui::look::{Look, Role};
use crate::viewer::words::{bytes, sentence};
use crate::watch::json::{At, By, Dir, Event};

/// The width of the time, with the space after it.
const TIME: usize = 12;
/// The lines of payload below an arrow.
const PAYLOAD_LINES: usize = 8;

/// How payload is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    #[default]
    Nothing,
    Text,
    Hex,
}

/// The rows of a connection's ladder, `width` wide.
pub(crate) fn rows(
    connection: &Connection,
    width: usize,
    shown: Shown,
    look: Look,
) -> Vec<Line<'static>> {
    let mut ladder = Rows {
        rows: Vec::new(),
        inner: width.saturating_sub(TIME + 2).max(1),
        began: connection.began().unwrap_or_default(),
        lanes: Lanes::at_first(connection),
        look,
    };
    ladder.head(connection);
    let forgotten = connection.ladder().forgotten();
    if forgotten > 0 {
        let more = look.glyphs.more;
        let text = format!("{more} {forgotten} earlier events are not kept");
        ladder.text(None, &text, Role::Dim);
    }
    if let Some((received, sent)) = connection.before() {
        let (received, sent) = (bytes(received), bytes(sent));
        let text = format!("was open before anybody watched: {received} in, {sent} out");
        ladder.text(None, &text, Role::Dim);
    }
    for step in connection.ladder().steps() {
        ladder.step(step, shown);
    }
    ladder.rows
}

/// What the lanes look like at one time.
#[derive(Clone, Copy, Debug, Default)]
struct Lanes {
    peer_finished: bool,
    service_finished: bool,
    peer_holds: bool,
    service_holds: bool,
    /// Nothing follows.
    over: bool,
}

impl Lanes {
    /// The lanes above the first step, which some FIN may have gone before.
    fn at_first(connection: &Connection) -> Self {
        let has = |wanted: Dir| {
            let mut steps = connection.ladder().steps();
            steps.any(|step| match &step.event {
                Event::Fin { dir } => *dir == wanted,
                Event::Rst { .. } => true,
                _ => false,
            })
        };
        Lanes {
            peer_finished: connection.incoming().ended && !has(Dir::In),
            service_finished: connection.outgoing().ended && !has(Dir::Out),
            ..Lanes::default()
        }
    }
}

struct Rows {
    rows: Vec<Line<'static>>,
    /// The width between the lanes.
    inner: usize,
    began: At,
    lanes: Lanes,
    look: Look,
}

impl Rows {
    /// The names above the lanes.
    fn head(&mut self, connection: &Connection) {
        let peer = match connection.peer() {
            Some(peer) => format!("peer {peer}"),
            None => "peer".to_owned(),
        };
        let service = match connection.service() {
            "" => "service".to_owned(),
            name => escaped(name),
        };
        let room = (self.inner + 2).saturating_sub(peer.chars().count());
        let heading = self.look.style(Role::Heading);
        self.rows.push(Line::from(vec![
            Span::raw(format!("{:>TIME$}", "seconds ")),
            Span::styled(peer, heading),
            Span::styled(format!("{service:>room$}"), heading),
        ]));
    }

    fn step(&mut self, step: &Step, shown: Shown) {
        let at = Some(step.at);
        let glyphs = self.look.glyphs;
        match &step.event {
            Event::Data {
                dir,
                length,
                payload,
                cut,
                ..
            } => {
                self.arrow(at, *dir, &bytes(*length), None);
                if let Some(payload) = payload {
                    self.payload(&payload.0, *length, *cut, shown);
                }
            }
            Event::Fin { dir } => {
                self.arrow(at, *dir, "FIN", None);
                match dir {
                    Dir::In => self.lanes.peer_finished = true,
                    Dir::Out => self.lanes.service_finished = true,
                }
            }
            Event::Rst { dir } => {
                self.arrow(at, *dir, "RST", Some(glyphs.cross));
                self.lanes.peer_finished = true;
                self.lanes.service_finished = true;
            }
            Event::Blocked { by, .. } => {
                self.hold(*by, true);
                self.text(at, &sentence(&step.event), Role::Warning);
            }
            Event::Unblocked { by, .. } => {
                self.hold(*by, false);
                self.text(at, &sentence(&step.event), Role::Plain);
            }
            Event::Closed { .. } => {
                self.lanes = Lanes {
                    over: true,
                    ..Lanes::default()
                };
                self.text(at, &sentence(&step.event), Role::Heading);
            }
            Event::Error { .. } | Event::Limit { .. } | Event::Instance { .. } => {
                self.text(at, &sentence(&step.event), Role::Bad);
            }
            Event::Paused => self.text(at, &sentence(&step.event), Role::Warning),
            event => self.text(at, &sentence(event), Role::Dim),
        }
    }

    /// Marks the lane of the side that lets the other wait.
    fn hold(&mut self, by: By, holds: bool) {
        match by {
            By::Peer => self.lanes.peer_holds = holds,
            By::Service => self.lanes.service_holds = holds,
        }
    }

    /// An arrow from one lane to the other.
    fn arrow(&mut self, at: Option<At>, dir: Dir, label: &str, tip: Option<char>) {
        let glyphs = self.look.glyphs;
        let label = format!(" {label} ");
        let room = self.inner.saturating_sub(label.chars().count() + 1);
        let line = |count: usize| glyphs.line.to_string().repeat(count);
        let (left, right) = (room / 2, room - room / 2);
        let (text, role) = match dir {
            Dir::In => {
                let tip = tip.unwrap_or(glyphs.to_service);
                (
                    format!("{}{label}{}{tip}", line(left), line(right)),
                    Role::Peer,
                )
            }
            Dir::Out => {
                let tip = tip.unwrap_or(glyphs.to_peer);
                (
                    format!("{tip}{}{label}{}", line(right), line(left)),
                    Role::Service,
                )
            }
        };
        let role = match label.trim() {
            "RST" => Role::Bad,
            _ => role,
        };
        self.row(at, Span::styled(text, self.look.style(role)));
    }

    /// The bytes of an arrow.
    fn payload(&mut self, bytes: &[u8], length: u64, cut: bool, shown: Shown) {
        let width = self.inner.saturating_sub(4);
        let (lines, covered) = match shown {
            Shown::Nothing => return,
            Shown::Text => {
                let lines = payload::text(bytes, width, PAYLOAD_LINES + 1);
                let covered = lines.len() <= PAYLOAD_LINES;
                (lines, covered)
            }
            Shown::Hex => {
                let lines = payload::hex(bytes, width, PAYLOAD_LINES + 1);
                let covered = lines.len() <= PAYLOAD_LINES;
                (lines, covered)
            }
        };
        for line in lines.into_iter().take(PAYLOAD_LINES) {
            self.row(None, Span::raw(format!("  {line}")));
        }
        if !covered || cut {
            let more = self.look.glyphs.more;
            let text = match covered {
                true => format!(
                    "  {more} {} more",
                    length - (bytes.len() as u64).min(length)
                ),
                false => format!("  {more} and more, of {length}"),
            };
            self.row(None, Span::styled(text, self.look.style(Role::Dim)));
        }
    }

    /// A text between the lanes, in as many rows as it needs.
    fn text(&mut self, at: Option<At>, text: &str, role: Role) {
        let style = self.look.style(role);
        let mut at = at;
        for line in wrapped(text, self.inner.saturating_sub(2)) {
            let line = format!("{:^width$}", line, width = self.inner);
            self.row(at.take(), Span::styled(line, style));
        }
    }

    fn row(&mut self, at: Option<At>, middle: Span<'static>) {
        let glyphs = self.look.glyphs;
        let lane = |finished, holds| match (self.lanes.over, holds, finished) {
            (true, ..) => (' ', Role::Plain),
            (_, true, _) => (glyphs.held, Role::Warning),
            (_, _, true) => (glyphs.finished, Role::Dim),
            _ => (glyphs.lane, Role::Plain),
        };
        let peer = lane(self.lanes.peer_finished, self.lanes.peer_holds);
        let service = lane(self.lanes.service_finished, self.lanes.service_holds);
        let span = |(lane, role): (char, Role)| {
            let style: Style = self.look.style(role);
            Span::styled(lane.to_string(), style)
        };
        let used = middle.content.chars().count();
        let fill = " ".repeat(self.inner.saturating_sub(used));
        let time = format!("{:>TIME$}", at.map_or(String::new(), |at| self.time(at)));
        self.rows.push(Line::from(vec![
            Span::styled(time, self.look.style(Role::Dim)),
            span(peer),
            middle,
            Span::raw(fill),
            span(service),
        ]));
    }

    /// The time since the connection was accepted, and a space.
    fn time(&self, at: At) -> String {
        let since = At(at.0.saturating_sub(self.began.0));
        match since.0 {
            0..1_000_000_000 => format!("{:.6} ", since.seconds()),
            _ => format!("{:.2} ", since.seconds()),
        }
    }
}

/// A text in lines of at most `width` characters, broken between words where that is possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                if let Some(line) = lines.last_mut() {
                    if gap > 0 {
                        line.push(' ');
                    }
                    line.extend(word);
                }
                break;
            }
            if used == 0 {
                let rest = word.split_off(width);
                lines
                    .last_mut()
                    .into_iter()
                    .for_each(|line| line.extend(&word));
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_long_words_anywhere() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("ab abcdefgh", 4), ["ab", "abcd", "efgh"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("abcd", 4), ["abcd"]);
    }
}
