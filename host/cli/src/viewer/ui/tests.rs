//! Golden screens: what the user interface draws for the stories, as text and as SVG.
//!
//! `HALFOPEN_WRITE_SCREENS=1 cargo test --lib viewer` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::style::Color;
use ratatui_core::terminal::Terminal;
use ratatui_termion::termion::event::Key;

use crate::viewer::filter::Filter;
use crate::viewer::server::Order;
use crate::viewer::stories;
use crate::viewer::ui::app::{App, Effect, Origin};
use crate::viewer::ui::draw::draw;
use crate::viewer::ui::look::Look;
use crate::viewer::ui::svg::svg;
use crate::watch::json::At;

const COLOURED: (bool, bool) = (true, true);

/// The user interface after a story.
fn after(story: &str) -> App {
    let mut app = App::new(Origin::Server, Filter::default());
    for line in story.lines() {
        app.apply(serde_json::from_str(line).unwrap());
    }
    app
}

fn buffer(app: &mut App, (columns, rows): (u16, u16), look: (bool, bool)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let look = Look::new(look.0, look.1);
    terminal.draw(|frame| draw(frame, app, look)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let columns = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(columns).map(|row| {
        let row: String = row.iter().map(ratatui_core::buffer::Cell::symbol).collect();
        row.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

/// Compares what was drawn with the screen that is kept.
fn is_kept(path: &Path, drawn: &str) {
    if std::env::var_os("HALFOPEN_WRITE_SCREENS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, drawn).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == drawn, "{}:\n{drawn}", path.display());
}

fn screen_path(name: &str) -> PathBuf {
    let crate_ = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_.join("src/viewer/ui/screens").join(name)
}

fn shows(name: &str, app: &mut App) {
    let drawn = buffer(app, (80, 24), COLOURED);
    is_kept(&screen_path(&format!("{name}.txt")), &text(&drawn));
}

/// The same, and the picture in the guide.
fn pictured(name: &str, title: &str, app: &mut App) {
    shows(name, app);
    let drawn = buffer(app, (80, 24), COLOURED);
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = host.join("screens").join(format!("{name}.svg"));
    is_kept(&path, &svg(&drawn, title));
}

fn press(app: &mut App, key: Key) -> Effect {
    app.key(key)
}

fn type_in(app: &mut App, text: &str) {
    for character in text.chars() {
        press(app, Key::Char(character));
    }
}

#[test]
fn the_list_shows_each_state() {
    let mut app = after(stories::MANY);
    app.tick(At(100_000_000));
    pictured("list", "A list of connections in several states", &mut app);
}

#[test]
fn a_title_that_is_too_long_is_cut() {
    let lost = format!(r#"{{"event":"lost","count":{}}}"#, u64::MAX);
    let mut app = after(&format!("{}{lost}\n{lost}\n", stories::MANY));
    press(&mut app, Key::Char(' '));
    press(&mut app, Key::Char('f'));
    for width in [40, 60, 80] {
        drop(buffer(&mut app, (width, 24), COLOURED));
    }
}

#[test]
fn the_ladder_of_a_half_closed_connection() {
    let mut app = after(stories::HALF_OPEN);
    press(&mut app, Key::Char('\t'));
    press(&mut app, Key::Char('t'));
    pictured(
        "half-open",
        "The ladder of a connection whose peer finishes sending first",
        &mut app,
    );
    press(&mut app, Key::Char('t'));
    shows("half-open-hex", &mut app);
}

#[test]
fn the_ladder_of_a_connection_that_waits_in_close_wait() {
    shows("close-wait", &mut after(stories::STILL_OPEN));
}

#[test]
fn the_ladder_of_a_connection_that_waits_in_fin_wait() {
    shows("fin-wait", &mut after(stories::FIN_WAIT));
}

#[test]
fn the_ladder_of_a_reset() {
    shows("reset", &mut after(stories::RESET));
}

#[test]
fn the_ladder_of_a_limit() {
    pictured(
        "limit",
        "The ladder of an idle connection",
        &mut after(stories::LIMIT),
    );
}

#[test]
fn the_ladder_of_a_blocked_connection() {
    let mut app = after(stories::BLOCKED);
    press(&mut app, Key::Char('\t'));
    pictured(
        "blocked",
        "The ladder of a peer that does not read",
        &mut app,
    );
}

#[test]
fn the_ladder_of_a_trap() {
    shows("trap", &mut after(stories::TRAP));
}

#[test]
fn the_help() {
    let mut app = after(stories::MANY);
    press(&mut app, Key::Char('?'));
    shows("help", &mut app);
    press(&mut app, Key::Char('q'));
    assert!(!app.help);
}

#[test]
fn a_filter_is_typed_and_taken_away() {
    let mut app = after(stories::MANY);
    app.tick(At(100_000_000));
    type_in(&mut app, "/state:opn");
    press(&mut app, Key::Char('\n'));
    shows("filter-mistake", &mut app);
    press(&mut app, Key::Backspace);
    type_in(&mut app, "en service:kv");
    press(&mut app, Key::Char('\n'));
    shows("filter", &mut app);
    press(&mut app, Key::Esc);
    assert_eq!(app.listed().count(), 8);
}

#[test]
fn a_small_window_says_so() {
    let drawn = buffer(&mut after(stories::MANY), (60, 15), COLOURED);
    is_kept(&screen_path("small.txt"), &text(&drawn));
    // Whatever is left, nothing panics.
    for size in [(0, 0), (1, 1), (79, 24), (80, 23), (5, 100)] {
        buffer(&mut after(stories::MANY), size, COLOURED);
    }
}

#[test]
fn a_large_window_shows_whole_addresses() {
    let mut app = after(stories::MANY);
    app.tick(At(100_000_000));
    let drawn = buffer(&mut app, (132, 30), COLOURED);
    is_kept(&screen_path("large.txt"), &text(&drawn));
}

#[test]
fn without_colours_and_without_unicode_nothing_is_lost() {
    let mut app = after(stories::BLOCKED);
    press(&mut app, Key::Char('\t'));
    let drawn = buffer(&mut app, (80, 24), (false, false));
    for cell in &drawn.content {
        assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
    }
    let drawn = text(&drawn);
    assert!(drawn.is_ascii(), "{drawn}");
    is_kept(&screen_path("plain.txt"), &drawn);
}

#[test]
fn nothing_that_others_choose_drives_the_terminal() {
    for rounds in 0..3 {
        let mut app = after(stories::HOSTILE);
        app.output = Some(Default::default());
        app.print("\u{1b}[2J printed by a service\u{202e}");
        press(&mut app, Key::Char('\t'));
        for _ in 0..rounds {
            press(&mut app, Key::Char('t'));
        }
        let drawn = buffer(&mut app, (120, 40), COLOURED);
        for cell in &drawn.content {
            let plain =
                |shown: char| !shown.is_control() && shown != '\u{202e}' && shown != '\u{2028}';
            assert!(cell.symbol().chars().all(plain), "{:?}", cell.symbol());
        }
        let drawn = text(&drawn);
        assert!(drawn.contains("u{1b}[2J printed"), "{drawn}");
    }
}

#[test]
fn a_paused_view_stands_still_and_events_are_taken_in() {
    let mut app = after(stories::STILL_OPEN);
    press(&mut app, Key::Char(' '));
    let before = text(&buffer(&mut app, (80, 24), COLOURED));
    for line in stories::HALF_OPEN.lines().skip(5) {
        app.apply(serde_json::from_str(line).unwrap());
    }
    let during = text(&buffer(&mut app, (80, 24), COLOURED));
    let below_title = |screen: &str| {
        screen
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(below_title(&before), below_title(&during));
    assert!(during.contains("PAUSED, 3 since"), "{during}");
    press(&mut app, Key::Char(' '));
    let after = text(&buffer(&mut app, (80, 24), COLOURED));
    assert!(after.contains("closed after 1.5 s"), "{after}");
}

#[test]
fn arrows_choose_and_f_follows_the_newest() {
    let mut app = after(stories::MANY);
    buffer(&mut app, (80, 24), COLOURED);
    let chosen = |app: &App| app.chosen().map(|(_, one)| one.id());
    assert_eq!(chosen(&app), Some(8));
    press(&mut app, Key::Down);
    press(&mut app, Key::Down);
    assert_eq!(chosen(&app), Some(6));
    let newer = r#"{"event":"accepted","id":9,"at":91,"peer":"192.0.2.7:1","local":"192.0.2.1:1","service":"echo"}"#;
    app.apply(serde_json::from_str(newer).unwrap());
    buffer(&mut app, (80, 24), COLOURED);
    assert_eq!(chosen(&app), Some(6));
    press(&mut app, Key::End);
    assert_eq!(chosen(&app), Some(1));
    buffer(&mut app, (80, 24), COLOURED);
    assert_eq!(app.list_top, 9 - app.list_room);
    press(&mut app, Key::PageUp);
    press(&mut app, Key::Home);
    assert_eq!(chosen(&app), Some(9));
    press(&mut app, Key::Down);
    press(&mut app, Key::Char('f'));
    buffer(&mut app, (80, 24), COLOURED);
    assert_eq!(chosen(&app), Some(9));
}

#[test]
fn a_long_ladder_scrolls_and_keeps_to_its_end() {
    let mut app = after(stories::STILL_OPEN);
    let data = |count: u64| {
        format!(
            r#"{{"event":"data","id":1,"at":{},"dir":"out","length":{count},"offset":0}}"#,
            3 + count
        )
    };
    for count in 1000..1100 {
        app.apply(serde_json::from_str(&data(count)).unwrap());
    }
    press(&mut app, Key::Char('\t'));
    let shown = |app: &mut App, part: &str| text(&buffer(app, (80, 24), COLOURED)).contains(part);
    assert!(shown(&mut app, "1,099 bytes"));
    press(&mut app, Key::Home);
    assert!(shown(&mut app, "accepted on") && !shown(&mut app, "1,099 bytes"));
    press(&mut app, Key::PageDown);
    assert!(!shown(&mut app, "accepted on"));
    press(&mut app, Key::End);
    app.apply(serde_json::from_str(&data(2000)).unwrap());
    assert!(shown(&mut app, "2,000 bytes"));
}

#[test]
fn a_reset_is_asked_for_and_a_ban_takes_a_time() {
    let mut app = after(stories::MANY);
    buffer(&mut app, (80, 24), COLOURED);
    press(&mut app, Key::Char('k'));
    shows("ask-reset", &mut app);
    assert_eq!(
        press(&mut app, Key::Char('y')),
        Effect::Give(Order::Reset(8))
    );
    press(&mut app, Key::Char('b'));
    shows("ask-ban", &mut app);
    press(&mut app, Key::Backspace);
    type_in(&mut app, "h");
    let ban = Order::Ban(
        "192.0.2.7".parse().unwrap(),
        std::time::Duration::from_secs(36_000),
    );
    assert_eq!(press(&mut app, Key::Char('\n')), Effect::Give(ban));
    // What has ended cannot be reset.
    press(&mut app, Key::Down);
    press(&mut app, Key::Char('k'));
    assert_eq!(
        app.message.as_deref(),
        Some("this connection has ended already")
    );
}

#[test]
fn whoever_may_only_look_is_told_so() {
    let mut app = after(stories::STILL_OPEN);
    buffer(&mut app, (80, 24), COLOURED);
    for (key, part) in [
        ('k', "may only look: the server needs `--admin-write`"),
        ('b', "may only look"),
        ('t', "no bytes without `--watch-payload`"),
    ] {
        assert_eq!(press(&mut app, Key::Char(key)), Effect::Nothing);
        assert!(app.prompt.is_none());
        assert!(
            app.message.as_deref().unwrap().contains(part),
            "{:?}",
            app.message
        );
    }
    let mut app = App::new(Origin::File, Filter::default());
    for line in stories::RESET.lines().take(4) {
        app.apply(serde_json::from_str(line).unwrap());
    }
    buffer(&mut app, (80, 24), COLOURED);
    press(&mut app, Key::Char('k'));
    assert!(app.message.as_deref().unwrap().contains("a recording"));
}

#[test]
fn what_was_before_the_watcher_came_is_named() {
    let snapshot = r#"{"event":"connection","id":7,"at":9.5,"service":"echo","peer":"192.0.2.1:5","local":"192.0.2.9:80","began":1.0,"received":10,"sent":1,"in":"ended","out":"open","instance":2}"#;
    let mut app = after(snapshot);
    let before = "was open before anybody watched: 10 bytes in, 1 byte out";
    let drawn = text(&buffer(&mut app, (80, 24), COLOURED));
    assert!(
        drawn.contains(before) && drawn.contains("CLOSE-WAIT"),
        "{drawn}"
    );
    // Somebody else has watched, and the server remembers.
    let accepted = r#"{"event":"accepted","id":7,"at":1.0,"peer":"192.0.2.1:5","local":"192.0.2.9:80","service":"echo"}"#;
    app.apply(serde_json::from_str(accepted).unwrap());
    let drawn = text(&buffer(&mut app, (80, 24), COLOURED));
    assert!(
        !drawn.contains(before) && drawn.contains("accepted on"),
        "{drawn}"
    );
}

#[test]
fn the_end_of_the_server_is_shown() {
    let mut app = after(stories::STILL_OPEN);
    app.over = Some("the server has ended".to_owned());
    let drawn = text(&buffer(&mut app, (80, 24), COLOURED));
    assert!(
        drawn.ends_with("the server has ended; press q to quit\n"),
        "{drawn}"
    );
}
