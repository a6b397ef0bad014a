//! The admin address: metrics, health and the page of connections over HTTP.

mod clients;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::observe::metrics::{Exposition, Metrics};
use crate::observe::page::{Page, Response, plain, typed};

use clients::{Clients, Progress, TIMEOUT};

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
    page: Arc<Page>,
    /// The services accept connections.
    ready: Arc<AtomicBool>,
}

impl Admin {
    pub(crate) fn new(metrics: Arc<Metrics>, page: Page) -> Self {
        Admin {
            metrics,
            page: Arc::new(page),
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
                    let progress = Progress::default();
                    let of_client = progress.clone();
                    let task = tokio::spawn(async move {
                        // A client that is too slow, or gone, gets no answer.
                        tokio::select! {
                            _ = admin.answer(stream, &of_client) => {}
                            () = of_client.over() => {}
                        }
                    });
                    clients.add(task, progress);
                }
                // Usually the process is out of descriptors. Leave free ones to the
                // services, whose listeners retry sooner.
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    async fn answer(self, stream: TcpStream, progress: &Progress) -> io::Result<()> {
        let respond = service_fn(|request: Request<Incoming>| {
            progress.has_asked();
            let response = self.respond(&request, progress);
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

    fn respond(&self, request: &Request<Incoming>, progress: &Progress) -> Response {
        if let Some(response) = self.page.respond(request, &progress.stay) {
            return response;
        }
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
                Ok(text) => typed(StatusCode::OK, exposition.content_type(), Bytes::from(text)),
                Err(_) => plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "cannot encode the metrics\n",
                ),
            },
            // Alive, because it answers.
            "/healthz" => plain(StatusCode::OK, "alive\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "ready\n"),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not accepting\n"),
            _ => plain(
                StatusCode::NOT_FOUND,
                "try /watch, /metrics, /healthz or /readyz\n",
            ),
        }
    }
}
