//! The admin address: metrics, and whether all is well, over HTTP.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::metrics::Metrics;

/// How many may ask at once, and how long an answer may take to be asked for and taken.
const AT_ONCE: usize = 16;
const LONGEST: Duration = Duration::from_secs(10);

/// What is answered.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    metrics: Arc<Metrics>,
    /// Connections are accepted.
    ready: Arc<AtomicBool>,
}

/// An address to listen on: with a port alone, on loopback.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    text.parse().or_else(|_| text.parse().map(loopback)).map_err(|_| {
        match text.parse::<IpAddr>() {
            Ok(_) => "the port is missing",
            Err(_) => "write a port, such as 9090, or an IP address and a port, such as 127.0.0.1:9090",
        }
        .to_owned()
    })
}

impl Admin {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Admin {
            metrics,
            ready: Arc::default(),
        }
    }

    /// Whether connections are accepted from now on.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Listens, and answers in a task of its own.
    pub(super) async fn listen(&self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}, the admin address"))?;
        let bound = listener.local_addr()?;
        tokio::spawn(self.clone().answer_all(listener));
        Ok(bound)
    }

    async fn answer_all(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // It is never closed.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = self.clone();
                    tokio::spawn(async move {
                        // Whoever is slower gets no answer, and gives the place back.
                        let _ = timeout(LONGEST, admin.answer(stream)).await;
                        drop(place);
                    });
                }
                // What it is does not matter: the services have the first right to
                // descriptors.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn answer(self, stream: TcpStream) -> io::Result<()> {
        let respond = service_fn(|request: Request<Incoming>| {
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(LONGEST)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), respond)
            .await
            .map_err(io::Error::other)
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => match self.metrics.text() {
                Ok(text) => typed(StatusCode::OK, OPENMETRICS, text),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "no metrics\n"),
            },
            // That there is an answer is the answer.
            "/healthz" => plain(StatusCode::OK, "alive\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "ready\n"),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not accepting\n"),
            _ => plain(
                StatusCode::NOT_FOUND,
                "there are /metrics, /healthz and /readyz\n",
            ),
        }
    }
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_port_alone_is_on_loopback() {
        assert_eq!(parse("9090"), Ok(([127, 0, 0, 1], 9090).into()));
        assert_eq!(parse("0.0.0.0:9090"), Ok(([0, 0, 0, 0], 9090).into()));
        assert!(parse("127.0.0.1").unwrap_err().contains("port is missing"));
        assert!(parse("70000").is_err());
    }
}
