//! Requests to a control socket.

use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Sends a request, and returns the text of the answer.
///
/// # Errors
/// If no server takes orders there, or the order is refused.
pub(crate) async fn ask(
    control: &Path,
    method: Method,
    path: &str,
    body: String,
) -> anyhow::Result<String> {
    let answer = send(control, method, path, body).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if !status.is_success() {
        bail!("{}", text.trim_end());
    }
    Ok(text)
}

/// Sends a request, and returns the head of the answer, with a body that is still to come.
///
/// # Errors
/// If no server takes orders there.
pub(crate) async fn send(
    control: &Path,
    method: Method,
    path: &str,
    body: String,
) -> anyhow::Result<Response<Incoming>> {
    let shown = control.display();
    let stream = UnixStream::connect(control).await.with_context(|| {
        format!("cannot connect to {shown}; does a server run with `--control {shown}`?")
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "halfopen")
        .body(Full::new(Bytes::from(body)))?;
    Ok(sender.send_request(request).await?)
}
