//! A screen as SVG, for the guide.

use std::fmt::Write;

use ratatui_core::buffer::Buffer;
use ratatui_core::style::{Color, Modifier, Style};

/// The size of a character.
const WIDTH: usize = 9;
const HEIGHT: usize = 19;
const MARGIN: usize = 10;

const BACK: &str = "#14181f";
const FRONT: &str = "#d5dae3";

/// Draws a screen, row by row, each run of one style as a text of its own.
pub(crate) fn svg(buffer: &Buffer, title: &str) -> String {
    let (columns, rows) = (
        usize::from(buffer.area.width),
        usize::from(buffer.area.height),
    );
    let width = columns * WIDTH + 2 * MARGIN;
    let height = rows * HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{BACK}\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"15\" fill=\"{FRONT}\" xml:space=\"preserve\">\n"
    );
    for row in 0..rows {
        let cells = &buffer.content[row * columns..(row + 1) * columns];
        let mut column = 0;
        while column < columns {
            let style = cells[column].style();
            let run = cells[column..]
                .iter()
                .take_while(|cell| cell.style() == style);
            let text: String = run.map(ratatui_core::buffer::Cell::symbol).collect();
            let length = text.chars().count();
            draw(&mut svg, (column, row), &text, style);
            column += length.max(1);
        }
    }
    svg + "</g>\n</svg>\n"
}

fn draw(svg: &mut String, (column, row): (usize, usize), text: &str, style: Style) {
    let length = text.chars().count() * WIDTH;
    let x = MARGIN + column * WIDTH;
    let y = MARGIN + row * HEIGHT;
    let is = |modifier| style.add_modifier.contains(modifier);
    let mut colour = match style.fg {
        Some(Color::Cyan) => "#6cc7d9",
        Some(Color::Green) => "#8fce7b",
        Some(Color::Red) => "#f07a78",
        Some(Color::Yellow) => "#e3c269",
        _ => FRONT,
    };
    if is(Modifier::REVERSED) {
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{length}\" height=\"{HEIGHT}\" fill=\"{colour}\"/>"
        );
        colour = BACK;
    }
    if text.trim().is_empty() {
        return;
    }
    let mut more = String::new();
    if is(Modifier::BOLD) {
        more += " font-weight=\"bold\"";
    }
    if is(Modifier::DIM) {
        more += " opacity=\"0.65\"";
    }
    if colour != FRONT {
        let _ = write!(more, " fill=\"{colour}\"");
    }
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\"{more}>{text}</text>",
        y + 14
    );
}
