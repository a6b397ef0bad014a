//! Requests to a control socket.

use std::path::Path;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Sends a request, and returns the answer, which may be a refusal.
///
/// # Errors
/// If no server takes orders there.
pub(crate) async fn attempt(
    control: &Path,
    method: Method,
    path: &str,
    body: String,
) -> anyhow::Result<(StatusCode, String)> {
    let answer = send(control, method, path, body).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
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
