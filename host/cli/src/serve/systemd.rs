//! systemd: sockets that it passes, and notifications that it waits for
//! (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)). Without systemd, no sockets
//! and no effect.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Takes the sockets that systemd passed, each with its name (systemd.socket(5),
/// `FileDescriptorName=`). A second call finds none.
pub(crate) fn sockets() -> anyhow::Result<Vec<(String, TcpListener)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = passed
            .take_tcp_listener(index)
            .with_context(|| format!("socket {index} of systemd is not a TCP listener"))?;
        if let Some(socket) = socket {
            socket.set_nonblocking(true)?;
            sockets.push((name, socket));
        }
    }
    Ok(sockets)
}

/// Reports that the process accepts connections, at the start and after a reload.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that a reload begins; `ready` reports its end.
pub(crate) fn reloading() {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now());
    notify(&state);
}

/// Reports that the process stops.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports to the watchdog that the process is alive.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often to call `alive`: twice within the time after which systemd restarts the
/// service. `None` without a watchdog.
pub(crate) fn watchdog() -> Option<Duration> {
    let mut microseconds = 0;
    let enabled = sd_notify::watchdog_enabled(false, &mut microseconds);
    enabled.then(|| Duration::from_micros(microseconds.max(2)) / 2)
}

fn notify(state: &[NotifyState]) {
    // A lost notification is not worth ending the service for.
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}
