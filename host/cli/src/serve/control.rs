//! The control socket: orders to the supervisor, over HTTP on a Unix socket.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, os};

use anyhow::{Context, bail};
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::watch::feed::{Feed, Present, Watching};

/// The limit on a request's body: the path of a binary.
const LONGEST: usize = 4096;
/// The time to send a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after accept failed.
const RETRY: Duration = Duration::from_millis(100);
/// The connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// An answer, which may have no end.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a client asks the supervisor for.
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
pub(crate) struct Answer(oneshot::Sender<Response<Body>>);

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
        watching: Watching,
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
            task: tokio::spawn(take_all(listener, Clerk { orders, watching }, busy)),
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

/// Where requests go.
#[derive(Clone)]
struct Clerk {
    orders: mpsc::Sender<Order>,
    watching: Watching,
}

/// Held while a client is answered.
type Busy = Arc<Mutex<Answering>>;

/// Who waits until a client is answered.
#[allow(dead_code, reason = "held only to be dropped")]
enum Answering {
    /// Whoever ends the control socket.
    Once(mpsc::Sender<()>),
    /// Whoever ends the process: the answer goes on until then.
    Watcher(Present),
}

async fn take_all(listener: UnixListener, clerk: Clerk, busy: mpsc::Sender<()>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let clerk = clerk.clone();
                let busy = Arc::new(Mutex::new(Answering::Once(busy.clone())));
                tokio::spawn(async move {
                    // A client that has gone gets no answer.
                    let _ = take(stream, &clerk, &busy).await;
                    drop(busy);
                });
            }
            // The process is out of descriptors.
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn take(stream: UnixStream, clerk: &Clerk, busy: &Busy) -> Result<(), hyper::Error> {
    let respond = service_fn(|request: Request<Incoming>| {
        let (clerk, busy) = (clerk.clone(), busy.clone());
        async move { Ok::<_, Infallible>(clerk.answer(request, &busy).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond)
        .await
}

impl Clerk {
    async fn answer(&self, request: Request<Incoming>, busy: &Busy) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (method, uri) = (&head.method, &head.uri);
        if (method, uri.path()) == (&Method::GET, "/watch") {
            let Some(feed) = self.watching.feed(true) else {
                let text = "there are too many watchers; let one go\n";
                return response(StatusCode::SERVICE_UNAVAILABLE, text);
            };
            let present = Answering::Watcher(self.watching.present());
            *busy.lock().unwrap_or_else(PoisonError::into_inner) = present;
            return events(feed);
        }
        if (method, uri.path()) == (&Method::GET, "/connections") {
            // Nothing that a line consists of fails.
            let open = serde_json::to_string(&self.watching.open()).unwrap_or_default();
            return response(StatusCode::OK, open);
        }
        if let Some((status, text)) = self.watching.follow(method, uri.path(), uri.query()) {
            return response(status, text);
        }
        follow(&head, body, &self.orders).await
    }
}

/// The answer that goes on as long as there are events.
fn events(feed: Feed) -> Response<Body> {
    let lines = stream::unfold(feed, |mut feed| async move {
        let lines = feed.next().await?;
        let mut text = Vec::new();
        for line in lines {
            // Nothing that a line consists of fails.
            if serde_json::to_writer(&mut text, &line).is_ok() {
                text.push(b'\n');
            }
        }
        Some((Ok::<_, Infallible>(Frame::data(text.into())), feed))
    });
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(lines)));
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, lines);
    response
}

async fn follow(head: &Parts, body: Incoming, orders: &mpsc::Sender<Order>) -> Response<Body> {
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
            let help = "use GET /status, POST /drain, POST /upgrade, GET /watch, \
                GET /connections, GET /bans, POST /connections/ID/reset, POST /peers/CIDR/ban or DELETE /peers/CIDR/ban\n";
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

fn response(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::new(Full::new(text.into())));
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
        let before = Control::listen(&path, None, orders(), Watching::new()).unwrap();
        let handed = || Some(before.socket().unwrap());
        drop(Control::listen(&path, handed(), orders(), Watching::new()).unwrap());
        assert!(path.exists(), "the successor gave up");
        let mut successor = Control::listen(&path, handed(), orders(), Watching::new()).unwrap();
        successor.own();
        before.hand_over(Duration::ZERO).await;
        assert!(path.exists(), "the successor goes on");
        drop(successor);
        assert!(!path.exists());
    }
}
