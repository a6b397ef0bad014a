//! Signals: Ctrl-C and SIGTERM request a stop, SIGHUP a reload, SIGUSR2 an
//! upgrade, SIGUSR1 to open the log anew.

use anyhow::Context;
use futures::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches signals from its creation on, in place of their default actions.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
    user: Option<Signal>,
    reopen: Option<Signal>,
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Stop,
    Reload,
    Upgrade,
    Reopen,
}

impl Signals {
    /// Catches SIGINT and SIGTERM.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt()).context("cannot catch SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot catch SIGTERM")?,
            hang_up: None,
            user: None,
            reopen: None,
        })
    }

    /// Catches SIGHUP, SIGUSR2 and SIGUSR1 as well.
    pub(crate) fn of_a_server() -> anyhow::Result<Self> {
        Ok(Signals {
            hang_up: Some(signal(SignalKind::hangup()).context("cannot catch SIGHUP")?),
            user: Some(signal(SignalKind::user_defined2()).context("cannot catch SIGUSR2")?),
            reopen: Some(signal(SignalKind::user_defined1()).context("cannot catch SIGUSR1")?),
            ..Signals::new()?
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.terminate.recv() => Request::Stop,
            Some(_) = OptionFuture::from(self.hang_up.as_mut().map(Signal::recv)) => Request::Reload,
            Some(_) = OptionFuture::from(self.user.as_mut().map(Signal::recv)) => Request::Upgrade,
            Some(_) = OptionFuture::from(self.reopen.as_mut().map(Signal::recv)) => Request::Reopen,
        }
    }

    /// Waits for the next signal that requests a stop. Cancel safe.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Request::Stop {}
    }
}
