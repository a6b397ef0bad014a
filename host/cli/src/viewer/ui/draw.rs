//! Draws the user interface.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Position, Rect};
use ratatui_core::terminal::Frame;
use ratatui_core::text::{Line, Span};

use crate::observe::escape::escaped;
use crate::viewer::model::Connection;
use crate::viewer::ui::app::{App, Focus};
use crate::viewer::ui::ladder::{self, Shown};
use crate::viewer::ui::list;
use crate::viewer::ui::look::{Look, Role};
use crate::viewer::ui::{help, keys};
use crate::viewer::words::names;

/// The smallest screen.
pub(crate) const COLUMNS: u16 = 80;
pub(crate) const ROWS: u16 = 24;
/// The lines of the services' output.
const OUTPUT: u16 = 4;

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &mut App, look: Look) {
    let area = frame.area();
    if area.width < COLUMNS || area.height < ROWS {
        too_small(frame.buffer_mut(), area);
        return;
    }
    let parts = Parts::of(area, app);
    app.list_room = usize::from(parts.list.height);
    app.ladder_room = usize::from(parts.ladder.height);
    app.settle();
    let buffer = frame.buffer_mut();
    title(buffer, parts.title, app, look);
    connections(buffer, &parts, app, look);
    chosen(buffer, &parts, app, look);
    if let Some(area) = parts.output {
        output(buffer, area, app, look);
    }
    if app.help {
        help::draw(buffer, area, look);
    }
    if let Some(cursor) = last_line(buffer, parts.last, app, look) {
        frame.set_cursor_position(cursor);
    }
}

fn too_small(buffer: &mut Buffer, area: Rect) {
    let lines = [
        format!(
            "The window has {} columns and {} rows.",
            area.width, area.height
        ),
        format!("halfopen watch needs {COLUMNS} and {ROWS}."),
        "Make it larger, use --plain, or press q.".to_owned(),
    ];
    for (line, row) in lines.iter().zip(area.rows()) {
        put(buffer, row, &Line::raw(line.as_str()));
    }
}

/// Where everything is.
struct Parts {
    title: Rect,
    heading: Rect,
    list: Rect,
    divider: Rect,
    ladder: Rect,
    output: Option<Rect>,
    last: Rect,
}

impl Parts {
    fn of(area: Rect, app: &App) -> Self {
        let output = app.output.as_ref().map(|_| OUTPUT + 1);
        let room = area.height - 4 - output.unwrap_or_default();
        let list = match app.focus {
            Focus::List => (room * 2 / 5).max(4),
            Focus::Ladder => 4,
        };
        let mut y = area.y;
        let mut next = |height: u16| {
            let part = Rect::new(area.x, y, area.width, height);
            y += height;
            part
        };
        Parts {
            title: next(1),
            heading: next(1),
            list: next(list),
            divider: next(1),
            ladder: next(room - list),
            output: output.map(&mut next),
            last: next(1),
        }
    }
}

/// Writes a line into a row.
fn put(buffer: &mut Buffer, row: Rect, line: &Line<'_>) {
    buffer.set_line(row.x, row.y, line, row.width);
}

fn title(buffer: &mut Buffer, row: Rect, app: &App, look: Look) {
    let model = app.model();
    let dot = look.glyphs.between;
    let mut left = format!(" halfopen watch {dot} {}", names(&model.hello().services));
    if model.hello().pid > 0 {
        left += &format!(" {dot} process {}", model.hello().pid);
    }
    let mut right = format!("{} open, {} ended ", model.open(), model.over());
    if model.lost() > 0 {
        right = format!("{} events missing {dot} {right}", model.lost());
    }
    if app.follow {
        right = format!("following {dot} {right}");
    }
    if let Some(since) = app.paused() {
        right = format!("PAUSED, {since} since {dot} {right}");
    }
    let width = usize::from(row.width);
    let right: String = right.chars().take(width).collect();
    let room = width.saturating_sub(right.chars().count() + 1);
    if left.chars().count() > room {
        let more = look.glyphs.more;
        left = left
            .chars()
            .take(room.saturating_sub(more.chars().count()))
            .collect();
        left += more;
    }
    let gap = width.saturating_sub(left.chars().count() + right.chars().count());
    let text = format!("{left}{:gap$}{right}", "");
    put(buffer, row, &Line::styled(text, look.style(Role::Title)));
}

fn connections(buffer: &mut Buffer, parts: &Parts, app: &App, look: Look) {
    let width = usize::from(parts.heading.width);
    let heading = list::heading(width);
    put(
        buffer,
        parts.heading,
        &Line::styled(heading, look.style(Role::Heading)),
    );
    let chosen = app.chosen().map(|(_, connection)| connection.id());
    let listed = app.listed().skip(app.list_top);
    let mut rows = parts.list.rows();
    let mut is_empty = true;
    for (connection, row) in listed.zip(&mut rows) {
        is_empty = false;
        let is_chosen = Some(connection.id()) == chosen;
        let text = list::row(connection, width, app.now(), is_chosen, look);
        let mut style = look.style(list::role(connection));
        if is_chosen && app.focus == Focus::List {
            style = style.patch(look.style(Role::Chosen));
        }
        put(buffer, row, &Line::styled(text, style));
    }
    if is_empty {
        let text = match app.filter.is_empty() {
            true => "  no connection yet",
            false => "  no connection matches the filter; Esc takes it away",
        };
        put(
            buffer,
            parts.list,
            &Line::styled(text, look.style(Role::Dim)),
        );
    }
}

/// The ladder of the chosen connection, below its state.
fn chosen(buffer: &mut Buffer, parts: &Parts, app: &mut App, look: Look) {
    let line = look.glyphs.line.to_string();
    let mut text = line.repeat(2);
    if let Some((_, connection)) = app.chosen() {
        text += &format!(" {} ", summary(connection, app.shown));
    }
    if !app.filter.is_empty() {
        text += &format!("{line}{line} filter: {} ", escaped(app.filter.text()));
    }
    let fill = usize::from(parts.divider.width).saturating_sub(text.chars().count());
    text += &line.repeat(fill);
    let role = match app.focus {
        Focus::Ladder => Role::Chosen,
        Focus::List => Role::Heading,
    };
    put(buffer, parts.divider, &Line::styled(text, look.style(role)));
    let rows = match app.chosen() {
        Some((_, connection)) => {
            ladder::rows(connection, usize::from(parts.ladder.width), app.shown, look)
        }
        None => Vec::new(),
    };
    app.ladder_length = rows.len();
    // The names stay above the lanes.
    let mut area = parts.ladder.rows();
    let mut rows = rows.into_iter();
    if let (Some(names), Some(row)) = (rows.next(), area.next()) {
        put(buffer, row, &names);
    }
    let last = app.ladder_length.saturating_sub(app.ladder_room);
    let top = app.ladder_top.unwrap_or(last).min(last);
    for (rung, row) in rows.skip(top).zip(area) {
        put(buffer, row, &rung);
    }
}

fn summary(connection: &Connection, shown: Shown) -> String {
    let mut text = format!("connection {}: {}", connection.id(), connection.state());
    if let Some(instance) = connection.instance() {
        text += &format!(", instance {instance}");
    }
    match shown {
        Shown::Nothing => {}
        Shown::Text => text += ", bytes as text",
        Shown::Hex => text += ", bytes in hex",
    }
    text
}

/// What the services print.
fn output(buffer: &mut Buffer, area: Rect, app: &App, look: Look) {
    let lines = app.output.iter().flatten();
    let mut rows = area.rows();
    if let Some(row) = rows.next() {
        let line = look.glyphs.line.to_string();
        let text = format!("{} output ", line.repeat(2));
        let fill = usize::from(row.width) - text.chars().count();
        let text = text + &line.repeat(fill);
        put(buffer, row, &Line::styled(text, look.style(Role::Heading)));
    }
    let hidden = app
        .output
        .as_ref()
        .map_or(0, |all| all.len().saturating_sub(usize::from(OUTPUT)));
    for (line, row) in lines.skip(hidden).zip(rows) {
        put(buffer, row, &Line::raw(line.as_str()));
    }
}

/// Draws the last line, and returns where the cursor is, if it has one.
fn last_line(buffer: &mut Buffer, row: Rect, app: &App, look: Look) -> Option<Position> {
    if let Some(prompt) = &app.prompt {
        let (question, text) = prompt.shown();
        let used = question.chars().count();
        let room = usize::from(row.width).saturating_sub(used + 1);
        let hidden = text.chars().count().saturating_sub(room);
        let shown: String = text.chars().skip(hidden).collect();
        let cursor = used + shown.chars().count();
        let spans = vec![
            Span::styled(question, look.style(Role::Heading)),
            Span::raw(shown),
        ];
        put(buffer, row, &Line::from(spans));
        if let Some(mistake) = prompt.mistake() {
            let width = usize::from(row.width);
            let above = Rect {
                y: row.y - 1,
                ..row
            };
            let text = format!("{:<width$}", escaped(mistake));
            put(buffer, above, &Line::styled(text, look.style(Role::Bad)));
        }
        let column = u16::try_from(cursor).unwrap_or(u16::MAX).min(row.width - 1);
        return Some(Position::new(row.x + column, row.y));
    }
    let line = match (&app.message, &app.over) {
        (Some(message), _) => Line::styled(escaped(message), look.style(Role::Warning)),
        (None, Some(over)) => {
            let text = format!("{over}; press q to quit");
            Line::styled(text, look.style(Role::Warning))
        }
        (None, None) => Line::styled(keys::SHORT, look.style(Role::Dim)),
    };
    put(buffer, row, &line);
    None
}
