//! The window of a server that shows its own connections: `halfopen serve --watch-tcp`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use anyhow::bail;
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Runtime;

use crate::observe::escape::escaped;
use crate::observe::window::{cover, uncover};
use crate::viewer::filter::Filter;
use crate::viewer::server::Order;
use crate::viewer::source::Source;
use crate::viewer::ui::{self, Give, Watched};
use crate::watch::feed::{Feed, Watching};
use crate::watch::json::Line;

/// The window, which covers the terminal from its making on: what is printed meanwhile is kept for
/// it. Dropping it gives the terminal back.
pub(crate) struct Window {
    printed: Option<Receiver<String>>,
    thread: Option<JoinHandle<()>>,
    watching: Option<Watching>,
}

impl Window {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If there is none, or it cannot draw.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let usable = match io::stderr().is_terminal() {
            true => ui::check(),
            false => Err("standard error is no terminal"),
        };
        if let Err(reason) = usable {
            bail!(
                "--watch-tcp: {reason}; serve with `--control PATH` instead, and use \
                 `halfopen watch` elsewhere"
            );
        }
        Ok(Window {
            printed: Some(cover()),
            thread: None,
            watching: None,
        })
    }

    /// Opens the window. When somebody quits it, the process is asked to stop as by SIGTERM.
    ///
    /// # Errors
    /// If there are too many watchers, or the terminal cannot be used.
    pub(crate) fn open(&mut self, watching: Watching) -> anyhow::Result<()> {
        let (Some(feed), Some(printed)) = (watching.feed(true), self.printed.take()) else {
            bail!("--watch-tcp: there are too many watchers");
        };
        let orders = watching.clone();
        let give: Give = Arc::new(move |order| give(&orders, order));
        let watched = Watched {
            source: Box::new(Own::new(feed)?),
            first: None,
            filter: Filter::default(),
            give: Some(give),
            printed: Some(printed),
        };
        self.watching = Some(watching);
        self.thread = Some(thread::spawn(move || {
            // Runs after a panic as well: a server whose log is hidden must not go on.
            let end = Last(|| {
                uncover();
                // Nothing happens if the process is stopping already, but that a drain ends.
                let _ = kill_process(getpid(), Signal::TERM);
            });
            let done = ui::run(watched);
            uncover();
            match done {
                Ok((_, printed)) => show(printed),
                Err(error) => show([format!("halfopen: {error:#}")]),
            }
            drop(end);
        }));
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        uncover();
        if let Some(printed) = self.printed.take() {
            // It was never opened.
            show(printed.try_iter().map(|line| escaped(&line)));
        }
        if let Some(watching) = &self.watching {
            watching.close();
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been logged.
            let _ = thread.join();
        }
    }
}

/// What is done at the end, however that comes.
struct Last<F: FnMut()>(F);

impl<F: FnMut()> Drop for Last<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Prints what only the window has shown, so that it is not lost with it.
fn show(lines: impl IntoIterator<Item = String>) {
    let mut stderr = io::stderr();
    for line in lines {
        // Standard error may be closed.
        let _ = writeln!(stderr, "{line}");
    }
}

/// Gives an order to the server of this process.
fn give(watching: &Watching, order: Order) -> anyhow::Result<String> {
    let (path, query) = order.request();
    let answer = watching.follow(&hyper::Method::POST, &path, query.as_deref());
    match answer {
        Some((status, text)) if status.is_success() => Ok(text.trim_end().to_owned()),
        Some((_, text)) => bail!("{}", text.trim_end().to_owned()),
        None => bail!("there is no such order"),
    }
}

/// The events of this process.
struct Own {
    runtime: Runtime,
    feed: Feed,
    lines: VecDeque<Line>,
}

impl Own {
    fn new(feed: Feed) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Own {
            runtime,
            feed,
            lines: VecDeque::new(),
        })
    }
}

impl Source for Own {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        while self.lines.is_empty() {
            match self.runtime.block_on(self.feed.next()) {
                Some(lines) => self.lines.extend(lines),
                None => return Ok(None),
            }
        }
        Ok(self.lines.pop_front())
    }

    fn is_live(&self) -> bool {
        true
    }
}
