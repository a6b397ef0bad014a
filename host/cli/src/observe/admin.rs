//! The admin address: metrics and health over HTTP.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::observe::metrics::{Exposition, Metrics};

/// The limit on connections at once: each takes a descriptor from the services. A further
/// one takes the place of another.
const CONNECTIONS: usize = 16;
/// The limit on a connection, from accept to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after accept failed.
const RETRY: Duration = Duration::from_millis(100);

/// The admin address, while it answers.
#[derive(Debug)]
pub(crate) struct Listening {
    /// The address as the configuration writes it.
    pub(crate) configured: SocketAddr,
    /// The address with its port.
    pub(crate) bound: SocketAddr,
    /// The listening socket, for a successor.
    pub(crate) socket: OwnedFd,
    task: JoinHandle<()>,
}

impl Listening {
    /// Answers no more.
    pub(crate) fn close(self) {
        self.task.abort();
    }
}

/// Answers HTTP requests about the process.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    metrics: Arc<Metrics>,
    /// The services accept connections.
    ready: Arc<AtomicBool>,
}

impl Admin {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Admin {
            metrics,
            ready: Arc::default(),
        }
    }

    /// Sets whether the services accept connections, which `/readyz` reports.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Listens on an address, and answers in a task. With `socket`, which listens already, it
    /// answers there.
    pub(crate) async fn listen(
        &self,
        address: SocketAddr,
        socket: Option<std::net::TcpListener>,
    ) -> anyhow::Result<Listening> {
        let listener = match socket {
            Some(socket) => TcpListener::from_std(socket)?,
            None => TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}, the admin address"))?,
        };
        Ok(Listening {
            configured: address,
            bound: listener.local_addr()?,
            socket: listener.as_fd().try_clone_to_owned()?,
            task: tokio::spawn(self.clone().answer_all(listener)),
        })
    }

    async fn answer_all(self, listener: TcpListener) {
        let mut clients = Clients::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    clients.make_room();
                    let admin = self.clone();
                    let asked = Arc::<AtomicBool>::default();
                    let is_asked = asked.clone();
                    let task = tokio::spawn(async move {
                        // A client that is too slow, or gone, gets no answer.
                        let _ = timeout(TIMEOUT, admin.answer(stream, &is_asked)).await;
                    });
                    clients.0.push_back((task, asked));
                }
                // Usually the process is out of descriptors. Leave free ones to the
                // services, whose listeners retry sooner.
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    async fn answer(self, stream: TcpStream, asked: &AtomicBool) -> io::Result<()> {
        let respond = service_fn(|request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(TIMEOUT)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), respond)
            .await
            .map_err(io::Error::other)
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let accept = request.headers().get_all(ACCEPT).iter();
        let exposition = Exposition::negotiate(accept.filter_map(|value| value.to_str().ok()));
        match request.uri().path() {
            "/metrics" => match self.metrics.text(exposition) {
                Ok(text) => typed(StatusCode::OK, exposition.content_type(), text),
                Err(_) => plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "cannot encode the metrics\n",
                ),
            },
            // Alive, because it answers.
            "/healthz" => plain(StatusCode::OK, "alive\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "ready\n"),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not accepting\n"),
            _ => plain(StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n"),
        }
    }
}

/// The connections of clients, the oldest first, and whether each has sent its request.
#[derive(Default)]
struct Clients(VecDeque<(JoinHandle<()>, Arc<AtomicBool>)>);

impl Clients {
    /// Makes room for another connection: clients that connect and send nothing must not keep
    /// others from an answer. The victim is the oldest that has not sent its request; only if
    /// all have, the oldest.
    fn make_room(&mut self) {
        self.0.retain(|(task, _)| !task.is_finished());
        if self.0.len() < CONNECTIONS {
            return;
        }
        let silent = |(_, asked): &(_, Arc<AtomicBool>)| !asked.load(Ordering::Relaxed);
        let victim = self.0.iter().position(silent).unwrap_or(0);
        if let Some((task, _)) = self.0.remove(victim) {
            task.abort();
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
