//! Ctrl-C and SIGTERM: the first asks to stop, the second insists. SIGHUP: load anew.

use anyhow::Context;
use futures::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are heeded. They are caught from `new` on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Stop,
    Reload,
}

impl Signals {
    /// Those that ask to stop.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt()).context("cannot catch SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot catch SIGTERM")?,
            hang_up: None,
        })
    }

    /// And the one that asks to load anew.
    pub(super) fn with_reload() -> anyhow::Result<Self> {
        Ok(Signals {
            hang_up: Some(signal(SignalKind::hangup()).context("cannot catch SIGHUP")?),
            ..Signals::new()?
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            Some(_) = OptionFuture::from(self.hang_up.as_mut().map(Signal::recv)) => Asked::Reload,
        }
    }

    /// Waits for the next one that asks to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
