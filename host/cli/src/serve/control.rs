//! The control socket: orders to the supervisor, over HTTP on a Unix socket.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, os};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The limit on a request's body: the path of a binary.
const LONGEST: usize = 4096;
/// The time to send a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after accept failed.
const RETRY: Duration = Duration::from_millis(100);
/// The connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// What a client asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Status,
    Drain,
    Upgrade(Option<PathBuf>),
}

/// An order, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) asked: Asked,
    pub(crate) answer: Answer,
}

/// What an order makes of the loop that has received it.
#[derive(Debug)]
pub(crate) enum Followed {
    /// It goes on.
    On,
    /// The process stops.
    Stop,
}

/// Where the answer to an order goes.
#[derive(Debug)]
pub(crate) struct Answer(oneshot::Sender<Response<Full<Bytes>>>);

impl Answer {
    pub(crate) fn done(self, text: impl Into<Bytes>) {
        self.send(StatusCode::OK, text);
    }

    /// The order cannot be followed.
    pub(crate) fn refused(self, reason: &str) {
        self.send(StatusCode::CONFLICT, format!("{reason}\n"));
    }

    /// The order cannot be followed now.
    pub(crate) fn later(self, reason: &str) {
        self.send(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    }

    fn send(self, status: StatusCode, text: impl Into<Bytes>) {
        // The client may have gone.
        let _ = self.0.send(response(status, text));
    }
}

/// The control socket, while it takes orders. Its file is removed on drop, unless another process
/// goes on with it: a successor, or the process before one that has not taken over yet.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    socket: OwnedFd,
    task: JoinHandle<()>,
    /// Closes when the last client has its answer.
    answering: mpsc::Receiver<()>,
    owned: bool,
}

impl Control {
    /// Listens at a path, or goes on with `socket`, which listens there already.
    ///
    /// # Errors
    /// If another server takes orders there, or the path cannot be bound.
    pub(crate) fn listen(
        path: &Path,
        socket: Option<OwnedFd>,
        orders: mpsc::Sender<Order>,
    ) -> anyhow::Result<Self> {
        let owned = socket.is_none();
        let listener = match socket {
            Some(socket) => os::unix::net::UnixListener::from(socket),
            None => bind(path).with_context(|| {
                format!("cannot listen on {}, the control socket", path.display())
            })?,
        };
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (busy, answering) = mpsc::channel(1);
        Ok(Control {
            path: path.to_owned(),
            socket: listener.as_fd().try_clone_to_owned()?,
            task: tokio::spawn(take_all(listener, orders, busy)),
            answering,
            owned,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket, for a successor.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Makes the file this process's own, which the process before has given up.
    pub(crate) fn own(&mut self) {
        self.owned = true;
    }

    /// Takes no more orders here: a successor does.
    pub(crate) async fn hand_over(mut self, limit: Duration) {
        self.owned = false;
        self.finish(limit).await;
    }

    /// Takes no more orders, and waits until those are answered that have been taken.
    pub(crate) async fn finish(mut self, limit: Duration) {
        self.task.abort();
        // Late answers are lost.
        let _ = timeout(limit, self.answering.recv()).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if self.owned {
            // It may have been removed already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a listening socket that only this user may connect to.
fn bind(path: &Path) -> anyhow::Result<os::unix::net::UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if os::unix::net::UnixStream::connect(path).is_ok() {
            bail!("another server takes orders there; choose another path");
        }
        // Left behind by a process that was killed.
        fs::remove_file(path)?;
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before listen(2).
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

async fn take_all(listener: UnixListener, orders: mpsc::Sender<Order>, busy: mpsc::Sender<()>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (orders, busy) = (orders.clone(), busy.clone());
                tokio::spawn(async move {
                    // A client that has gone gets no answer.
                    let _ = take(stream, orders).await;
                    drop(busy);
                });
            }
            // The process is out of descriptors.
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn take(stream: UnixStream, orders: mpsc::Sender<Order>) -> Result<(), hyper::Error> {
    let respond = service_fn(|request: Request<Incoming>| {
        let orders = orders.clone();
        async move { Ok::<_, Infallible>(follow(request, orders).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond)
        .await
}

async fn follow(request: Request<Incoming>, orders: mpsc::Sender<Order>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let asked = match (&head.method, head.uri.path()) {
        (&Method::GET, "/status") => Asked::Status,
        (&Method::POST, "/drain") => Asked::Drain,
        (&Method::POST, "/upgrade") => {
            let Ok(body) = Limited::new(body, LONGEST).collect().await else {
                return response(StatusCode::BAD_REQUEST, "the path is too long\n");
            };
            let path = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Asked::Upgrade((!path.is_empty()).then(|| path.into()))
        }
        _ => {
            let help = "use GET /status, POST /drain or POST /upgrade\n";
            return response(StatusCode::NOT_FOUND, help);
        }
    };
    let (sender, answer) = oneshot::channel();
    let answer_to = Answer(sender);
    let order = Order {
        asked,
        answer: answer_to,
    };
    // Nobody answers once the process ends.
    let gone = || response(StatusCode::SERVICE_UNAVAILABLE, "the process ends\n");
    match orders.send(order).await {
        Ok(()) => answer.await.unwrap_or_else(|_| gone()),
        Err(_) => gone(),
    }
}

fn response(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A successor that gives up must leave the socket to the process before it.
    #[tokio::test]
    async fn a_socket_that_was_handed_over_is_removed_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let orders = || mpsc::channel(1).0;
        let before = Control::listen(&path, None, orders()).unwrap();
        let handed = || Some(before.socket().unwrap());
        drop(Control::listen(&path, handed(), orders()).unwrap());
        assert!(path.exists(), "the successor gave up");
        let mut successor = Control::listen(&path, handed(), orders()).unwrap();
        successor.own();
        before.hand_over(Duration::ZERO).await;
        assert!(path.exists(), "the successor goes on");
        drop(successor);
        assert!(!path.exists());
    }
}
