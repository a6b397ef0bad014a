//! The help: the keys, and what the marks mean.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::text::{Line, Span};

use crate::viewer::ui::keys;
use crate::viewer::ui::look::{Look, Role};

/// The width of the help.
const WIDTH: u16 = 78;
/// The width of a key or a mark.
const KEY: usize = 15;

/// Draws the help over everything else.
pub(crate) fn draw(buffer: &mut Buffer, area: Rect, look: Look) {
    let heading = look.style(Role::Heading);
    let mut lines = vec![Line::styled("Keys", heading)];
    for (key, what) in keys::ALL {
        lines.push(Line::from(vec![
            Span::styled(format!("{key:>KEY$}  "), heading),
            Span::raw(what),
        ]));
    }
    lines.push(Line::styled("Marks", heading));
    lines.extend(marks(look).map(Line::raw));
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .min(area.height);
    let x = area.x + (area.width - WIDTH.min(area.width)) / 2;
    let y = area.y + (area.height - height) / 2;
    let blank = " ".repeat(usize::from(area.width));
    for row in area.rows() {
        buffer.set_stringn(
            row.x,
            row.y,
            &blank,
            usize::from(row.width),
            look.style(Role::Plain),
        );
    }
    for (line, y) in lines.iter().zip(y..y + height) {
        buffer.set_line(x, y, line, WIDTH);
    }
}

/// What the marks of the list and of the ladder mean.
fn marks(look: Look) -> impl Iterator<Item = String> {
    let glyphs = look.glyphs;
    let [open, ended, waits] = glyphs.incoming;
    let [back, back_ended, _] = glyphs.outgoing;
    let texts = [
        (format!("{open} {back}"), "both sides may send: ESTABLISHED"),
        (
            format!("{ended} {back}"),
            "the peer has sent FIN, and can receive: CLOSE-WAIT",
        ),
        (
            format!("{open} {back_ended}"),
            "the service has sent FIN, and can receive: FIN-WAIT-1 or -2",
        ),
        (
            waits.to_string(),
            "this direction waits: a side does not read",
        ),
        ("x x".to_owned(), "reset"),
        (
            format!("{} {} {}", glyphs.lane, glyphs.finished, glyphs.held),
            "a side may send; has finished; lets the other wait",
        ),
    ];
    texts
        .into_iter()
        .map(|(mark, what)| format!("{mark:>KEY$}  {what}"))
}
