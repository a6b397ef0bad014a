//! The state of the terminal's user interface, and what keys do to it. No I/O.

use std::collections::VecDeque;

use ratatui_termion::termion::event::Key;

use crate::observe::escape::escaped;
use crate::viewer::filter::Filter;
use crate::viewer::model::{Bounds, Connection, Model};
use crate::viewer::server::Order;
use crate::viewer::ui::ladder::Shown;
use crate::viewer::ui::prompt::{Answer, Prompt};
use crate::watch::json::{At, Line};

/// How many lines of the services' output are kept.
const OUTPUT: usize = 200;

/// What keys move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Focus {
    #[default]
    List,
    Ladder,
}

/// What a key asks of the program around.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    Quit,
    /// Lets the shell have the terminal.
    Suspend,
    /// Draws everything anew.
    Redraw,
    Give(Order),
}

/// Where the events come from, as far as keys depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File,
    Server,
}

/// The user interface.
#[derive(Debug)]
pub(crate) struct App {
    model: Model,
    /// What is shown instead, and when it was, while the view is paused.
    frozen: Option<(Box<Model>, At)>,
    origin: Origin,
    now: At,
    pub(crate) filter: Filter,
    pub(crate) focus: Focus,
    pub(crate) follow: bool,
    pub(crate) shown: Shown,
    pub(crate) help: bool,
    pub(crate) prompt: Option<Prompt>,
    /// What the last line says instead of the keys.
    pub(crate) message: Option<String>,
    /// Why no more events come.
    pub(crate) over: Option<String>,
    /// What services print, where this program is the server itself.
    pub(crate) output: Option<VecDeque<String>>,
    chosen: Option<u64>,
    /// The first line of the list on the screen.
    pub(crate) list_top: usize,
    /// The first row of the ladder on the screen; `None` keeps to its end.
    pub(crate) ladder_top: Option<usize>,
    /// What the last drawing had room for, and how long the ladder was.
    pub(crate) list_room: usize,
    pub(crate) ladder_room: usize,
    pub(crate) ladder_length: usize,
}

impl App {
    pub(crate) fn new(origin: Origin, filter: Filter) -> Self {
        App {
            model: Model::new(Bounds::default()),
            frozen: None,
            origin,
            now: At::default(),
            filter,
            focus: Focus::default(),
            follow: true,
            shown: Shown::default(),
            help: false,
            prompt: None,
            message: None,
            over: None,
            output: None,
            chosen: None,
            list_top: 0,
            ladder_top: None,
            list_room: 1,
            ladder_room: 1,
            ladder_length: 0,
        }
    }

    /// Takes in an event.
    pub(crate) fn apply(&mut self, line: Line) {
        self.model.apply(line);
        self.now = self.now.max(self.model.at());
    }

    /// Takes in a line that a service or the log has printed.
    pub(crate) fn print(&mut self, line: &str) {
        let output = self.output.get_or_insert_default();
        output.push_back(escaped(line));
        while output.len() > OUTPUT {
            output.pop_front();
        }
    }

    /// Sets the time on the clock of the events.
    pub(crate) fn tick(&mut self, now: At) {
        self.now = self.now.max(now);
    }

    /// What is shown.
    pub(crate) fn model(&self) -> &Model {
        self.frozen.as_ref().map_or(&self.model, |(model, _)| model)
    }

    /// The time that is shown.
    pub(crate) fn now(&self) -> At {
        self.frozen.as_ref().map_or(self.now, |(_, now)| *now)
    }

    /// How many events came since the view was paused.
    pub(crate) fn paused(&self) -> Option<u64> {
        let (frozen, _) = self.frozen.as_ref()?;
        Some(self.model.seen() - frozen.seen())
    }

    /// The connections that the filter lets through, the newest first.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Connection> {
        let filter = &self.filter;
        self.model()
            .newest_first()
            .filter(|one| filter.matches(one))
    }

    /// The chosen connection, and its place in the list.
    pub(crate) fn chosen(&self) -> Option<(usize, &Connection)> {
        let chosen = self.chosen?;
        let mut listed = self.listed().enumerate();
        listed.find(|(_, connection)| connection.id() == chosen)
    }

    /// Chooses the newest connection if that is followed, or if the chosen one is gone.
    pub(crate) fn settle(&mut self) {
        let place = match self.chosen() {
            Some((place, _)) if !self.follow => place,
            _ => {
                let newest = self.listed().next().map(Connection::id);
                self.chosen = newest;
                0
            }
        };
        let room = self.list_room.max(1);
        if place < self.list_top {
            self.list_top = place;
        } else if place >= self.list_top + room {
            self.list_top = place + 1 - room;
        }
    }

    pub(crate) fn key(&mut self, key: Key) -> Effect {
        if let Some(prompt) = &mut self.prompt {
            let answer = prompt.key(key);
            return self.answered(answer);
        }
        self.message = None;
        match key {
            Key::Ctrl('c') => return Effect::Quit,
            Key::Ctrl('z') => return Effect::Suspend,
            Key::Ctrl('l') => return Effect::Redraw,
            _ if self.help => self.help = false,
            Key::Char('q') => return Effect::Quit,
            Key::Char('?') => self.help = true,
            Key::Char(' ') => self.pause(),
            Key::Char('f') => self.follow = !self.follow,
            Key::Char('/') => self.prompt = Some(Prompt::filter(self.filter.text())),
            Key::Esc => self.filter = Filter::default(),
            Key::Char('t') => self.show(),
            Key::Char('k') => self.ask_reset(),
            Key::Char('b') => self.ask_ban(),
            Key::Char('\t' | '\n') | Key::BackTab => {
                self.focus = match self.focus {
                    Focus::List => Focus::Ladder,
                    Focus::Ladder => Focus::List,
                };
            }
            key => self.steer(key),
        }
        Effect::Nothing
    }

    fn answered(&mut self, answer: Answer) -> Effect {
        match answer {
            Answer::Waiting => return Effect::Nothing,
            Answer::Cancelled => {}
            Answer::Filter(filter) => {
                self.filter = filter;
                self.list_top = 0;
            }
            Answer::Order(order) => {
                self.prompt = None;
                return Effect::Give(order);
            }
        }
        self.prompt = None;
        Effect::Nothing
    }

    fn pause(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some((Box::new(self.model.clone()), self.now)),
        };
    }

    /// Goes on to the next way to show payload.
    fn show(&mut self) {
        if !self.model.hello().payload {
            self.message = Some(match self.origin {
                Origin::File => "this was saved without bytes".to_owned(),
                Origin::Server => "the server shows no bytes without `--watch-payload`".to_owned(),
            });
            return;
        }
        self.shown = match self.shown {
            Shown::Nothing => Shown::Text,
            Shown::Text => Shown::Hex,
            Shown::Hex => Shown::Nothing,
        };
    }

    fn ask_reset(&mut self) {
        let chosen = self
            .chosen()
            .map(|(_, one)| (one.id(), one.closed().is_some()));
        match (chosen, self.refusal()) {
            (None, _) => self.message = Some("no connection is chosen".to_owned()),
            (Some((_, true)), _) => {
                self.message = Some("this connection has ended already".to_owned());
            }
            (_, Some(refusal)) => self.message = Some(refusal.to_owned()),
            (Some((id, false)), None) => self.prompt = Some(Prompt::reset(id)),
        }
    }

    fn ask_ban(&mut self) {
        let peer = self.chosen().and_then(|(_, one)| one.peer());
        match (peer, self.refusal()) {
            (None, _) => self.message = Some("no connection is chosen".to_owned()),
            (_, Some(refusal)) => self.message = Some(refusal.to_owned()),
            (Some(peer), None) => {
                self.prompt = Some(Prompt::ban(peer.ip().to_canonical()));
            }
        }
    }

    /// Why nothing may be changed.
    fn refusal(&self) -> Option<&'static str> {
        match (self.origin, self.over.is_some()) {
            (Origin::File, _) => Some("this is a recording: nothing can be changed any more"),
            (_, true) => Some("the server has gone"),
            _ if self.model.hello().may_write => None,
            _ => Some("this watcher may only look: the server needs `--admin-write`"),
        }
    }

    /// Moves in the list or in the ladder.
    fn steer(&mut self, key: Key) {
        let room = match self.focus {
            Focus::List => self.list_room,
            Focus::Ladder => self.ladder_room,
        };
        let page = room.saturating_sub(1).max(1);
        let moved = |from: usize, last: usize| match key {
            Key::Up => Some(from.saturating_sub(1)),
            Key::Down => Some((from + 1).min(last)),
            Key::PageUp => Some(from.saturating_sub(page)),
            Key::PageDown => Some((from + page).min(last)),
            Key::Home => Some(0),
            Key::End => Some(last),
            _ => None,
        };
        match self.focus {
            Focus::List => {
                let last = self.listed().count().saturating_sub(1);
                let place = self.chosen().map_or(0, |(place, _)| place);
                if let Some(place) = moved(place, last) {
                    let chosen = self.listed().nth(place).map(Connection::id);
                    self.chosen = chosen;
                    self.follow = false;
                    self.ladder_top = None;
                }
            }
            Focus::Ladder => {
                let last = self.ladder_length.saturating_sub(self.ladder_room);
                if let Some(top) = moved(self.ladder_top.unwrap_or(last), last) {
                    self.ladder_top = (top < last).then_some(top);
                }
            }
        }
    }
}
