//! A watcher of a server: `halfopen watch --json`.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::events::Checker;
use crate::patience::patience;
use crate::server::Server;

/// A process that prints the events of a server. What it prints is checked as it comes.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    lines: Receiver<Result<Value>>,
    /// The first line.
    pub hello: Value,
}

impl Watcher {
    /// Attaches to a server's control socket, and waits for the first line.
    ///
    /// # Errors
    ///
    /// If there is no server.
    pub fn attach(halfopen: &Path, control: &Path) -> Result<Self> {
        let mut child = Command::new(halfopen)
            .args(["watch", "--json", "--control"])
            .arg(control)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, lines) = channel();
        thread::spawn(move || read(stdout, &sender));
        let hello = lines.recv_timeout(patience())??;
        Ok(Watcher {
            child,
            lines,
            hello,
        })
    }

    /// Returns the events until one that `last` accepts.
    ///
    /// # Errors
    ///
    /// If it does not come, or an event contradicts another one.
    pub fn until(&self, last: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let deadline = Instant::now() + patience();
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(event) => events.push(event?),
                Err(RecvTimeoutError::Timeout) => bail!("it does not come: {events:#?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the watcher has ended: {events:#?}"),
            }
            if events.last().is_some_and(&last) {
                return Ok(events);
            }
        }
    }

    /// Returns the events of the next connection that closes, without what differs from run to run:
    /// numbers, times, and whether somebody had time to notice that FIN was acknowledged.
    ///
    /// # Errors
    ///
    /// If none closes.
    pub fn closed(&self) -> Result<Vec<Value>> {
        let mut events = self.until(|event| event["event"] == "closed")?;
        let id = events
            .last()
            .map_or(Value::Null, |event| event["id"].clone());
        events.retain(|event| event["id"] == id && event["event"] != "acknowledged");
        for event in &mut events {
            let event = event.as_object_mut().context("no object")?;
            event.retain(|field, _| !["seq", "at", "id", "age", "instance"].contains(&&**field));
        }
        Ok(events)
    }

    /// Returns the events until the server has ended.
    ///
    /// # Errors
    ///
    /// If it does not end, or an event contradicts another one.
    pub fn rest(&self) -> Result<Vec<Value>> {
        let deadline = Instant::now() + patience();
        let mut events = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(event) => events.push(event?),
                Err(RecvTimeoutError::Timeout) => bail!("it does not end: {events:#?}"),
                Err(RecvTimeoutError::Disconnected) => return Ok(events),
            }
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    ///
    /// If it cannot be waited for.
    pub fn ends(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }
}

fn read(stdout: impl std::io::Read, lines: &Sender<Result<Value>>) {
    let mut checker = Checker::default();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let line = serde_json::from_str(&line).with_context(|| line);
        let line = line.and_then(|line| checker.take(&line).map(|()| line));
        if lines.send(line).is_err() {
            return;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The begin of a client's connection.
///
/// # Errors
///
/// If its address cannot be read.
pub fn accepted(peer: &TcpStream, server: &Server, service: &str) -> Result<Value> {
    Ok(json!({
        "event": "accepted", "service": service,
        "peer": peer.local_addr()?.to_string(), "local": server.address().to_string(),
    }))
}

/// Compares the events of a connection, of which data may come in any pieces.
///
/// # Errors
///
/// If they differ.
pub fn ensure_events(events: Vec<Value>, expected: &[Value]) -> Result<()> {
    let mut joined: Vec<Value> = Vec::new();
    for event in events {
        if let Some(last) = joined.last_mut()
            && event["event"] == "data"
            && last["event"] == "data"
            && last["dir"] == event["dir"]
        {
            let sum = last["length"].as_u64().unwrap_or(0) + event["length"].as_u64().unwrap_or(0);
            last["length"] = sum.into();
        } else {
            joined.push(event);
        }
    }
    ensure!(joined == expected, "{joined:#?} instead of {expected:#?}");
    Ok(())
}

/// Data in a direction.
#[must_use]
pub fn data(dir: &str, offset: u64, length: u64) -> Value {
    json!({"event": "data", "dir": dir, "offset": offset, "length": length})
}

/// FIN in a direction.
#[must_use]
pub fn fin(dir: &str) -> Value {
    json!({"event": "fin", "dir": dir})
}

/// RST in a direction.
#[must_use]
pub fn rst(dir: &str) -> Value {
    json!({"event": "rst", "dir": dir})
}

/// The end of a connection.
#[must_use]
pub fn closed(outcome: &str, first: Option<&str>, bytes: (u64, u64), cause: &str) -> Value {
    json!({
        "event": "closed", "outcome": outcome, "first": first,
        "received": bytes.0, "sent": bytes.1, "cause": cause,
    })
}
