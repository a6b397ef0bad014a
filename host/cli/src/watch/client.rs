//! Reads the events of a running server.

use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};

use crate::control::client::send;

/// The longest line that a server may send. A line has at most 64 KiB of payload.
const LONGEST: usize = 1 << 20;

/// The events of a server, as it sends them.
#[derive(Debug)]
pub(crate) struct Client {
    body: Incoming,
    /// What has come and is not yet returned.
    rest: Vec<u8>,
}

impl Client {
    /// Asks the server on a control socket for its events.
    ///
    /// # Errors
    /// If no server takes orders there, or it sends no events.
    pub(crate) async fn connect(control: &Path) -> anyhow::Result<Self> {
        let answer = send(control, Method::GET, "/watch", String::new()).await?;
        if !answer.status().is_success() {
            let bytes = answer.into_body().collect().await?.to_bytes();
            bail!("{}", String::from_utf8_lossy(&bytes).trim_end());
        }
        Ok(Client {
            body: answer.into_body(),
            rest: Vec::new(),
        })
    }

    /// Waits for whole lines, each with its end, as many as have come; `None` once the server has
    /// ended. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If a line is too long.
    pub(crate) async fn lines(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            // A server that is killed does not end its answer.
            let Some(Ok(frame)) = self.body.frame().await else {
                return Ok(None);
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.rest.extend_from_slice(&data);
            if let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') {
                let rest = self.rest.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.rest, rest).into()));
            }
            if self.rest.len() > LONGEST {
                return Err(anyhow::anyhow!("a line has more than {LONGEST} bytes"))
                    .context("the server's events cannot be read");
            }
        }
    }
}
