//! systemd: sockets that it passes, and notifications that it waits for
//! (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)). Without systemd, no sockets
//! and no effect.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The time for which a stop is extended.
const EXTENSION: Duration = Duration::from_secs(20);

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
    notify(vec![NotifyState::Ready]);
}

/// Reports that a reload begins; `ready` reports its end.
pub(crate) fn reloading() {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now());
    notify(state);
}

/// Reports that another process is the service from now on.
pub(crate) fn main_process(process: u32) {
    notify(vec![NotifyState::MainPid(process)]);
}

/// Reports that the process stops.
pub(crate) fn stopping() {
    notify(vec![NotifyState::Stopping]);
}

/// Asks for more time to stop, so that `TimeoutStopSec=` does not end the process while it
/// drains. To be repeated, at least three times within [`EXTENSION`].
pub(crate) fn extend() {
    // Fits: the constant is below an hour.
    let microseconds = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
    notify(vec![NotifyState::ExtendTimeoutUsec(microseconds)]);
}

/// Reports to the watchdog that the process is alive, unless an earlier report still waits.
pub(crate) fn alive() {
    if !ALIVE_WAITS.swap(true, Ordering::Relaxed) {
        notify(vec![NotifyState::Watchdog]);
    }
}

/// Waits until all reports are sent, for at most `limit`.
pub(crate) fn flush(limit: Duration) {
    let Some(queue) = &*QUEUE else {
        return;
    };
    let (sent, all_sent) = channel();
    if queue.send(Message::Flush(sent)).is_ok() {
        // After the limit there is nothing more to do.
        let _ = all_sent.recv_timeout(limit);
    }
}

/// How often to call `alive`: twice within the time after which systemd restarts the
/// service. `None` without a watchdog.
pub(crate) fn watchdog() -> Option<Duration> {
    let mut microseconds = 0;
    let enabled = match std::env::var_os("WATCHDOG_PID") {
        Some(_) => sd_notify::watchdog_enabled(false, &mut microseconds),
        // A successor is not the process that systemd has started. sd_watchdog_enabled(3) takes
        // the variable for any process then, and the crate for none.
        None => std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok())
            .is_some_and(|given| {
                microseconds = given;
                true
            }),
    };
    enabled.then(|| Duration::from_micros(microseconds.max(2)) / 2)
}

enum Message {
    State(Vec<NotifyState<'static>>),
    /// Everything before is sent.
    Flush(Sender<()>),
}

/// The queue of a thread that sends. A datagram to a socket whose reader does not read waits
/// (unix(7)), and the server must not.
static QUEUE: LazyLock<Option<Sender<Message>>> = LazyLock::new(|| {
    std::env::var_os("NOTIFY_SOCKET")?;
    let (queue, messages) = channel();
    thread::spawn(move || {
        for message in messages {
            match message {
                Message::State(state) => send(&state),
                // Whoever waited may have given up.
                Message::Flush(sent) => drop(sent.send(())),
            }
        }
    });
    Some(queue)
});

/// Whether a report to the watchdog waits in the queue.
static ALIVE_WAITS: AtomicBool = AtomicBool::new(false);

fn notify(state: Vec<NotifyState<'static>>) {
    if let Some(queue) = &*QUEUE {
        // The thread never ends.
        let _ = queue.send(Message::State(state));
    }
}

fn send(state: &[NotifyState<'_>]) {
    if matches!(state, [NotifyState::Watchdog]) {
        ALIVE_WAITS.store(false, Ordering::Relaxed);
    }
    // A lost notification is not worth ending the service for.
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}
