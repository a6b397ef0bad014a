//! What the user interface reacts to, from threads of its own: events, keys, signals, answers.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ratatui_termion::termion::event::Key;
use ratatui_termion::termion::input::TermRead;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::viewer::source::Source;
use crate::watch::json::Line;

/// How many inputs wait. The source of the events waits as well then, and a server's watcher
/// loses some.
const WAITING: usize = 1024;

/// Something that has happened.
pub(crate) enum Input {
    Line(Box<Line>),
    /// No more events come; why, if that is worth a word.
    Over(Option<String>),
    Key(Key),
    Signal(Asked),
    /// What an order led to.
    Told(String),
    /// A service or the log has printed a line.
    Printed(String),
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end, with this exit status.
    End(u8),
    Suspend,
    /// To draw for another size of the window.
    Resize,
    /// The process goes on after it was stopped.
    Resume,
}

/// The channel of all inputs.
pub(crate) fn channel() -> (SyncSender<Input>, Receiver<Input>) {
    sync_channel(WAITING)
}

/// Starts a thread that takes in events.
pub(crate) fn read(mut source: Box<dyn Source>, inputs: SyncSender<Input>) {
    let is_live = source.is_live();
    thread::spawn(move || {
        loop {
            let input = match source.next() {
                Ok(Some(line)) => Input::Line(Box::new(line)),
                Ok(None) => Input::Over(is_live.then(|| "the server has ended".to_owned())),
                Err(error) => Input::Over(Some(format!("{error:#}"))),
            };
            let is_over = matches!(input, Input::Over(_));
            if inputs.send(input).is_err() || is_over {
                return;
            }
        }
    });
}

/// Starts a thread that takes in keys.
pub(crate) fn keys(inputs: SyncSender<Input>) {
    thread::spawn(move || {
        for key in io::stdin().keys() {
            // Unknown keys are nothing to end for; a terminal that has gone is.
            let input = match key {
                Ok(key) => Input::Key(key),
                Err(error) if error.kind() == ErrorKind::InvalidData => continue,
                Err(_) => break,
            };
            if inputs.send(input).is_err() {
                return;
            }
        }
        // The program may have ended.
        let _ = inputs.send(Input::Signal(Asked::End(128 + 1)));
    });
}

/// Starts a thread that takes in signals. A server in the same process catches those that stop it
/// by itself.
pub(crate) fn signals(inputs: SyncSender<Input>, beside_server: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let catch = |kind: i32| signal(SignalKind::from_raw(kind));
    let mut suspend = catch(rustix::process::Signal::TSTP.as_raw())?;
    let mut resume = catch(rustix::process::Signal::CONT.as_raw())?;
    let mut resize = signal(SignalKind::window_change())?;
    let mut end = match beside_server {
        true => None,
        false => Some((
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::terminate())?,
        )),
    };
    drop(inside);
    thread::spawn(move || {
        runtime.block_on(async move {
            loop {
                let asked = tokio::select! {
                    _ = suspend.recv() => Asked::Suspend,
                    _ = resume.recv() => Asked::Resume,
                    _ = resize.recv() => Asked::Resize,
                    status = ends(end.as_mut()) => Asked::End(status),
                };
                if inputs.send(Input::Signal(asked)).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}

/// Waits for a signal that ends the program, and returns the exit status by convention.
async fn ends(signals: Option<&mut (Signal, Signal, Signal)>) -> u8 {
    let Some((interrupt, hang_up, terminate)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 128 + 2,
        _ = hang_up.recv() => 128 + 1,
        _ = terminate.recv() => 128 + 15,
    }
}
