//! The terminal: taken for the user interface, and always given back.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use anyhow::Context;
use ratatui_core::terminal::Terminal;
use ratatui_termion::TermionBackend;
use ratatui_termion::termion::cursor::{Hide, Show};
use ratatui_termion::termion::screen::{ToAlternateScreen, ToMainScreen};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::viewer::ui::app::App;
use crate::viewer::ui::draw::draw;
use crate::viewer::ui::look::Look;

/// The modes of the terminal before it was taken, while it is.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Checks that a user interface can be drawn.
///
/// # Errors
/// If it cannot, with the reason.
pub(crate) fn check() -> Result<(), &'static str> {
    if !io::stdout().is_terminal() {
        return Err("standard output is no terminal");
    }
    if !io::stdin().is_terminal() {
        return Err("standard input is no terminal, so that no key can be pressed");
    }
    match std::env::var("TERM").as_deref() {
        Ok("dumb") => Err("the terminal is `dumb` (TERM), which cannot draw"),
        Ok("") | Err(_) => Err("TERM does not say what terminal this is"),
        Ok(_) => Ok(()),
    }
}

/// The terminal while it is taken. Dropping it gives it back.
pub(crate) struct Screen {
    terminal: Terminal<TermionBackend<BufWriter<Stdout>>>,
}

impl Screen {
    pub(crate) fn take() -> anyhow::Result<Self> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                // What the hook prints must not be lost with the other screen.
                give_back();
                before(what);
            }));
        });
        // One write for each frame.
        let output = BufWriter::with_capacity(64 * 1024, io::stdout());
        let terminal = Terminal::new(TermionBackend::new(output));
        let screen = Screen {
            terminal: terminal.context("cannot use the terminal")?,
        };
        enter().context("cannot use the terminal")?;
        Ok(screen)
    }

    pub(crate) fn draw(&mut self, app: &mut App, look: Look) -> anyhow::Result<()> {
        let drawn = self.terminal.draw(|frame| draw(frame, app, look));
        drawn.map(drop).context("cannot draw")
    }

    /// Draws everything anew at the next drawing.
    pub(crate) fn clear(&mut self) -> anyhow::Result<()> {
        self.terminal.clear().context("cannot draw")
    }

    /// Gives the terminal back, stops this process, and takes the terminal again once the shell
    /// lets it go on.
    pub(crate) fn suspend(&mut self) -> anyhow::Result<()> {
        give_back();
        kill_process(getpid(), Signal::STOP)?;
        self.retake()
    }

    /// Takes the terminal again, whose modes somebody else may have changed.
    pub(crate) fn retake(&mut self) -> anyhow::Result<()> {
        give_back();
        enter().context("cannot use the terminal")?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut raw = before.clone();
    raw.make_raw();
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    let entered = tcsetattr(&stdin, OptionalActions::Flush, &raw)
        .map_err(io::Error::from)
        .and_then(|()| tell(&format!("{ToAlternateScreen}{Hide}")));
    if entered.is_err() {
        give_back();
    }
    entered
}

/// Gives the terminal back, if it is taken.
fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // The terminal may be gone.
        let _ = tell(&format!("{ToMainScreen}{Show}"));
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

fn tell(sequence: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(sequence.as_bytes())?;
    stdout.flush()
}
