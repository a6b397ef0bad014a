//! What systemd gives and wants to know: sockets, readiness, the watchdog
//! (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)). Without it, nothing.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The sockets that were passed, each with its name (systemd.socket(5),
/// `FileDescriptorName=`).
pub(super) fn sockets() -> anyhow::Result<Vec<(String, TcpListener)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = passed
            .take_tcp_listener(index)
            .with_context(|| format!("socket {index} of systemd is no TCP listener"))?;
        if let Some(socket) = socket {
            socket.set_nonblocking(true)?;
            sockets.push((name, socket));
        }
    }
    Ok(sockets)
}

/// Tells that connections are accepted, or accepted by the new version.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells that a new version is being loaded.
pub(super) fn reloading() {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now());
    notify(&state);
}

/// Tells that nothing more is accepted.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells that the process is alive.
pub(super) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often it wants to hear that: twice in the time after which it gives up.
pub(super) fn watchdog() -> Option<Duration> {
    let mut microseconds = 0;
    let wanted = sd_notify::watchdog_enabled(false, &mut microseconds);
    wanted.then(|| Duration::from_micros(microseconds.max(2)) / 2)
}

fn notify(state: &[NotifyState]) {
    // Nobody may be listening, and that is no reason not to serve.
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!("systemd was not told: {error}");
    }
}
