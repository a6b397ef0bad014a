//! A running server, over its control socket or its admin address: its events, and orders.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::control::client;
use crate::viewer::source::Source;
use crate::watch::json::Line;

/// How long to wait for an answer to an order.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest answer to an order.
const LONGEST: usize = 64 * 1024;
/// The longest list of open connections.
const LONGEST_LIST: usize = 256 * 1024 * 1024;
/// The longest line of a stream.
const LONGEST_LINE: usize = 4 * 1024 * 1024;

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Control(PathBuf),
    Admin(String),
}

/// What a watcher may do to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Reset(u64),
    Ban(IpAddr, Duration),
}

impl Order {
    /// The path and the query of its request, which is a POST.
    pub(crate) fn request(self) -> (String, Option<String>) {
        match self {
            Order::Reset(id) => (format!("/connections/{id}/reset"), None),
            Order::Ban(peer, time) => {
                let query = format!("seconds={}", time.as_secs());
                (format!("/peers/{peer}/ban"), Some(query))
            }
        }
    }
}

impl Server {
    /// The server with this control socket.
    pub(crate) fn at_control(path: &Path) -> Self {
        Server::Control(path.to_owned())
    }

    /// The server with this admin address, HOST:PORT.
    pub(crate) fn at_admin(address: &str) -> Self {
        Server::Admin(address.to_owned())
    }

    /// Attaches to its events.
    ///
    /// # Errors
    /// If it cannot be reached, or does not let its connections be watched.
    pub(crate) fn events(&self) -> anyhow::Result<Events> {
        let runtime = runtime()?;
        let path = match self {
            Server::Control(_) => "/watch",
            Server::Admin(_) => "/events",
        };
        let answer = async {
            let answer = self.ask(Method::GET, path).await?;
            match answer.status() {
                StatusCode::OK if self.sends_events(&answer) => Ok(answer),
                StatusCode::OK => bail!("{self} is no server of halfopen"),
                StatusCode::NOT_FOUND => {
                    bail!("{self} is no server of halfopen, or an older one that shows no events")
                }
                status => bail!("{}", reason(answer, status).await),
            }
        };
        let answer = async { self.in_time(answer).await };
        let answer = runtime.block_on(answer)?;
        Ok(Events {
            runtime,
            body: answer.into_body(),
            text: Vec::new(),
            scanned: 0,
            lines: VecDeque::new(),
        })
    }

    /// Returns the connections that are open now; `None` if the server does not tell.
    pub(crate) fn open(&self) -> Option<Vec<Line>> {
        let asked = async {
            let answer = self.ask(Method::GET, "/connections").await.ok()?;
            let body = Limited::new(answer.into_body(), LONGEST_LIST)
                .collect()
                .await;
            serde_json::from_slice(&body.ok()?.to_bytes()).ok()
        };
        let asked = async { timeout(ANSWER, asked).await.ok()? };
        runtime().ok()?.block_on(asked)
    }

    /// Gives an order, and returns what the server says.
    ///
    /// # Errors
    /// If it cannot be reached, or refuses.
    pub(crate) fn give(&self, order: Order) -> anyhow::Result<String> {
        let (path, query) = order.request();
        let path = match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let answered = async {
            let answer = self.ask(Method::POST, &path).await?;
            let status = answer.status();
            let text = reason(answer, status).await;
            match status.is_success() {
                true => Ok(text),
                false => bail!("{text}"),
            }
        };
        let answered = async { self.in_time(answered).await };
        runtime()?.block_on(answered)
    }

    /// Waits for an answer, and not for ever.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        match timeout(ANSWER, answer).await {
            Ok(answer) => answer,
            Err(_) => bail!("{self} does not answer"),
        }
    }

    /// Whether the answer is a stream of events, and not the page of some other server.
    fn sends_events(&self, answer: &Response<Incoming>) -> bool {
        let kind = answer.headers().get(CONTENT_TYPE);
        match self {
            Server::Control(_) => true,
            Server::Admin(_) => kind.is_some_and(|kind| kind == "text/event-stream"),
        }
    }

    /// Sends a request.
    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        match self {
            Server::Control(control) => client::send(control, method, path, String::new()).await,
            Server::Admin(address) => {
                let stream = TcpStream::connect(address).await.with_context(|| {
                    format!(
                        "cannot connect to {address}; does a server run with `--admin {address}`?"
                    )
                })?;
                to_admin(stream, method, path, address).await
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Control(path) => write!(f, "{}", path.display()),
            Server::Admin(address) => f.write_str(address),
        }
    }
}

/// What the text of an answer says.
async fn reason(answer: Response<Incoming>, status: StatusCode) -> String {
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let bytes = body.map(http_body_util::Collected::to_bytes);
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    match text.trim().lines().next() {
        Some(line) => line.to_owned(),
        None if status.is_success() => "done".to_owned(),
        None => format!("the server answers `{status}`"),
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime)
}

async fn to_admin(
    stream: TcpStream,
    method: Method,
    path: &str,
    host: &str,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(&method).uri(path);
    request = request.header(HOST, host);
    if method != Method::GET {
        request = request.header(ORIGIN, format!("http://{host}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await;
    answer.with_context(|| format!("{host} does not speak HTTP; is it the address of `--admin`?"))
}

/// The events of a running server.
pub(crate) struct Events {
    runtime: Runtime,
    body: Incoming,
    /// What has arrived of the next line.
    text: Vec<u8>,
    /// How many bytes of `text` have no line end in them.
    scanned: usize,
    lines: VecDeque<Line>,
}

impl Events {
    /// Takes the whole lines out of what has arrived.
    fn split(&mut self) -> anyhow::Result<()> {
        while let Some(end) = self.text[self.scanned..]
            .iter()
            .position(|&byte| byte == b'\n')
        {
            let rest = self.text.split_off(self.scanned + end + 1);
            let line = std::mem::replace(&mut self.text, rest);
            self.scanned = 0;
            if let Some(json) = object(&line) {
                let line = serde_json::from_slice(json).context("the server sent no event")?;
                self.lines.push_back(line);
            }
        }
        self.scanned = self.text.len();
        if self.scanned > LONGEST_LINE {
            bail!("the server sends something else than events");
        }
        Ok(())
    }
}

/// The JSON of a line, which may be that of a server-sent event.
fn object(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let json = line.strip_prefix(b"data:").unwrap_or(line).trim_ascii();
    json.starts_with(b"{").then_some(json)
}

impl Source for Events {
    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            // A connection that breaks is the server's end as well.
            let Some(Ok(frame)) = self.runtime.block_on(self.body.frame()) else {
                return Ok(None);
            };
            if let Ok(data) = frame.into_data() {
                self.text.extend_from_slice(&data);
                self.split()?;
            }
        }
    }

    fn is_ready(&self) -> bool {
        !self.lines.is_empty()
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_as_lines_or_as_server_sent_events() {
        for (line, expected) in [
            ("{\"a\":1}\n", Some("{\"a\":1}")),
            ("data: {\"a\":1}\r\n", Some("{\"a\":1}")),
            ("id: 7\n", None),
            (": still here\n", None),
            ("\n", None),
        ] {
            assert_eq!(object(line.as_bytes()), expected.map(str::as_bytes));
        }
    }
}
