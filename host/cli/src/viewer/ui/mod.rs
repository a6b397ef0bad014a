//! The user interface in the terminal: a list of connections, and the ladder of one of them.
//!
//! It draws only when something has changed, and at most ten times a second, so that it can be
//! used over a slow line.

pub(crate) mod app;
mod draw;
mod help;
mod inputs;
mod keys;
mod ladder;
mod list;
mod look;
mod prompt;
#[cfg(test)]
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use ratatui_termion::termion::event::Key;

use crate::viewer::filter::Filter;
use crate::viewer::server::Order;
use crate::viewer::source::Source;
use crate::viewer::ui::app::{App, Effect, Origin};
use crate::viewer::ui::inputs::{Asked, Input};
use crate::viewer::ui::look::Look;
use crate::viewer::words::age;
use crate::watch::json::{At, Line};

pub(crate) use terminal::{Screen, check};

/// The shortest time between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// How often to see whether an age has changed.
const TICK: Duration = Duration::from_secs(1);
/// How many inputs are taken in between two looks at the clock.
const BATCH: usize = 4096;

/// Gives an order to the server, and returns what it says.
pub(crate) type Give = Arc<dyn Fn(Order) -> anyhow::Result<String> + Send + Sync>;

/// What is watched, and how.
pub(crate) struct Watched {
    pub(crate) source: Box<dyn Source>,
    /// What has been read of it already.
    pub(crate) first: Option<Line>,
    pub(crate) filter: Filter,
    /// How to give orders; `None` for a recording.
    pub(crate) give: Option<Give>,
    /// What the server of this process prints, if it is that which is watched.
    pub(crate) printed: Option<Receiver<String>>,
}

/// Runs the user interface until somebody quits, or until this process is to end. Returns the exit
/// status, and the last lines that were printed meanwhile.
pub(crate) fn run(watched: Watched) -> anyhow::Result<(ExitCode, Vec<String>)> {
    let (sender, inputs) = inputs::channel();
    let origin = match watched.give {
        Some(_) => Origin::Server,
        None => Origin::File,
    };
    let beside_server = watched.printed.is_some();
    let mut ui = Ui {
        app: App::new(origin, watched.filter),
        clock: Clock::new(watched.source.is_live()),
        look: Look::from_env(),
        screen: Screen::take()?,
        give: watched.give,
        sender: sender.clone(),
        ages: Vec::new(),
        ends_with_source: beside_server,
    };
    inputs::signals(sender.clone(), beside_server)?;
    inputs::keys(sender.clone());
    if let Some(printed) = watched.printed {
        ui.app.output = Some(Default::default());
        let sender = sender.clone();
        thread::spawn(move || {
            for line in printed {
                if sender.send(Input::Printed(line)).is_err() {
                    return;
                }
            }
        });
    }
    if let Some(line) = watched.first {
        ui.take(line);
    }
    inputs::read(watched.source, sender);
    let code = ui.run(&inputs)?;
    for input in inputs.try_iter() {
        if let Input::Printed(line) = input {
            ui.app.print(&line);
        }
    }
    Ok((code, ui.app.output.into_iter().flatten().collect()))
}

struct Ui {
    app: App,
    clock: Clock,
    look: Look,
    screen: Screen,
    give: Option<Give>,
    sender: SyncSender<Input>,
    /// The ages on the screen.
    ages: Vec<String>,
    /// Whether the end of the events is the end of the program.
    ends_with_source: bool,
}

impl Ui {
    fn run(&mut self, inputs: &Receiver<Input>) -> anyhow::Result<ExitCode> {
        let mut drawn: Option<Instant> = None;
        let mut is_stale = true;
        loop {
            let since = drawn.map_or(FRAME, |drawn| drawn.elapsed());
            let wait = match is_stale {
                true => FRAME.saturating_sub(since),
                false => TICK,
            };
            match inputs.recv_timeout(wait) {
                Ok(input) => {
                    is_stale = true;
                    for input in std::iter::once(input).chain(inputs.try_iter().take(BATCH)) {
                        if let Some(code) = self.handle(input)? {
                            return Ok(code);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
            }
            if let Some(now) = self.clock.now() {
                self.app.tick(now);
            }
            is_stale |= self.have_aged();
            if is_stale && drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) {
                self.screen.draw(&mut self.app, self.look)?;
                self.have_aged();
                drawn = Some(Instant::now());
                is_stale = false;
            }
        }
    }

    /// Whether an age on the screen has changed since this was last asked.
    fn have_aged(&mut self) -> bool {
        let now = self.app.now();
        let room = self.app.list_room;
        let shown = self.app.listed().skip(self.app.list_top).take(room);
        let ages: Vec<_> = shown.filter_map(|one| one.age(now).map(age)).collect();
        let changed = ages != self.ages;
        self.ages = ages;
        changed
    }

    fn take(&mut self, line: Line) {
        self.clock.set(line.at);
        self.app.apply(line);
    }

    /// Reacts to an input. Returns the exit status if the program is to end.
    fn handle(&mut self, input: Input) -> anyhow::Result<Option<ExitCode>> {
        match input {
            Input::Line(line) => self.take(*line),
            Input::Over(_) if self.ends_with_source => return Ok(Some(ExitCode::SUCCESS)),
            Input::Over(why) => {
                self.clock.stop();
                self.app.over = why;
            }
            Input::Printed(line) => self.app.print(&line),
            Input::Told(text) => self.app.message = Some(text),
            Input::Key(key) => return self.key(key),
            Input::Signal(Asked::End(status)) => return Ok(Some(ExitCode::from(status))),
            Input::Signal(Asked::Suspend) => self.screen.suspend()?,
            // A drawing asks for the size.
            Input::Signal(Asked::Resize) => {}
            Input::Signal(Asked::Resume) => self.screen.retake()?,
        }
        Ok(None)
    }

    fn key(&mut self, key: Key) -> anyhow::Result<Option<ExitCode>> {
        match self.app.key(key) {
            Effect::Nothing => {}
            Effect::Quit => return Ok(Some(ExitCode::SUCCESS)),
            Effect::Suspend => self.screen.suspend()?,
            Effect::Redraw => self.screen.clear()?,
            Effect::Give(order) => self.give(order),
        }
        Ok(None)
    }

    /// Gives an order from a thread of its own: the answer may take its time.
    fn give(&mut self, order: Order) {
        let Some(give) = self.give.clone() else {
            return;
        };
        let sender = self.sender.clone();
        thread::spawn(move || {
            let text = give(order).unwrap_or_else(|error| format!("{error:#}"));
            // The program may have ended.
            let _ = sender.send(Input::Told(text));
        });
    }
}

/// The clock of the events, while they are live.
struct Clock {
    is_live: bool,
    /// A time, and when it was.
    known: Option<(At, Instant)>,
}

impl Clock {
    fn new(is_live: bool) -> Self {
        Clock {
            is_live,
            known: None,
        }
    }

    fn now(&self) -> Option<At> {
        let (at, then) = self.known?;
        let since = u64::try_from(then.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(At(at.0.saturating_add(since)))
    }

    /// Takes in the time of an event, which is now or earlier.
    fn set(&mut self, at: Option<At>) {
        if let Some(at) = at.filter(|_| self.is_live)
            && self.now().is_none_or(|now| now < at)
        {
            self.known = Some((at, Instant::now()));
        }
    }

    fn stop(&mut self) {
        self.known = None;
        self.is_live = false;
    }
}
