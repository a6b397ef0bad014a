//! The list of connections: a line for each.

use crate::observe::escape::escaped;
use crate::viewer::model::{Connection, Way};
use crate::viewer::ui::look::{Glyphs, Look, Role};
use crate::viewer::words::{age, size};
use crate::watch::json::At;

/// The widths of the columns that keep theirs.
const ID: usize = 4;
const BYTES: usize = 6;
const AGE: usize = 4;
const INSTANCE: usize = 4;
/// The narrowest columns of a peer, of a service and of a state.
const PEER: usize = 21;
const SERVICE: usize = 8;
const STATE: usize = 13;
/// What all others take, with the spaces between them and the mark of the chosen one.
const REST: usize = 1 + ID + 3 + 2 * BYTES + AGE + INSTANCE + 8;

/// The widths of the peer's, the service's and the state's columns.
fn widths(width: usize) -> (usize, usize, usize) {
    let room = width.saturating_sub(REST + PEER + SERVICE + STATE);
    let state = room.min(24 - STATE);
    // The longest address of IPv6 with its port has 47 characters.
    let peer = (room - state).min(47 - PEER);
    let service = (room - state - peer).min(24);
    (PEER + peer, SERVICE + service, STATE + state)
}

/// The heading of the list.
pub(crate) fn heading(width: usize) -> String {
    let (peer, service, columns) = widths(width);
    format!(
        " {:>ID$} {:<peer$} {:<service$} {:<columns$}     {:>BYTES$} {:>BYTES$} {:>AGE$} {:>INSTANCE$}",
        "#", "PEER", "SERVICE", "STATE", "IN", "OUT", "AGE", "INST"
    )
}

/// The line of a connection.
pub(crate) fn row(
    connection: &Connection,
    width: usize,
    now: At,
    is_chosen: bool,
    look: Look,
) -> String {
    let (peer, service, columns) = widths(width);
    let mark = match is_chosen {
        true => '>',
        false => ' ',
    };
    let address = connection
        .peer()
        .map_or("?".to_owned(), |peer| peer.to_string());
    let state = match connection.closed() {
        Some(closed) => escaped(&closed.outcome),
        None => connection.state().to_string(),
    };
    let instance = connection
        .instance()
        .map_or("-".to_owned(), |id| id.to_string());
    let aged = connection.age(now).map_or("?".to_owned(), age);
    let (incoming, outgoing) = ways(connection, look.glyphs);
    format!(
        "{mark}{:>ID$} {} {} {} {incoming} {outgoing} {:>BYTES$} {:>BYTES$} {aged:>AGE$} {:>INSTANCE$}",
        last(&connection.id().to_string(), ID),
        fitted(&address, peer, look.glyphs),
        fitted(&escaped(connection.service()), service, look.glyphs),
        fitted(&state, columns, look.glyphs),
        size(connection.received()),
        size(connection.sent()),
        last(&instance, INSTANCE),
    )
}

/// How urgent a connection is.
pub(crate) fn role(connection: &Connection) -> Role {
    let blocked = |way: Way| way.blocked.is_some();
    match connection.closed() {
        Some(closed) => match closed.outcome.as_str() {
            "fin" => Role::Dim,
            _ => Role::Bad,
        },
        None if blocked(connection.incoming()) || blocked(connection.outgoing()) => Role::Warning,
        None => Role::Plain,
    }
}

/// The marks of both ways of a connection.
fn ways(connection: &Connection, glyphs: &Glyphs) -> (&'static str, &'static str) {
    let index = |way: Way| match (way.ended || connection.closed().is_some(), way.blocked) {
        (true, _) => 1,
        (_, Some(_)) => 2,
        _ => 0,
    };
    match connection.is_reset() {
        true => ("x", "x"),
        false => (
            glyphs.incoming[index(connection.incoming())],
            glyphs.outgoing[index(connection.outgoing())],
        ),
    }
}

/// The last digits of a number that is too long: they tell neighbours apart.
fn last(number: &str, width: usize) -> &str {
    &number[number.len().saturating_sub(width)..]
}

/// A text, exactly this wide.
fn fitted(text: &str, width: usize, glyphs: &Glyphs) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let kept = width.saturating_sub(glyphs.more.chars().count());
    let kept: String = text.chars().take(kept).collect();
    kept + glyphs.more
}
