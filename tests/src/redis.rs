//! A Redis for the tests: Debian's `redis-server`, on a free port of loopback.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::port::Port;
use crate::tools::is_missing;

/// A Redis that is killed on drop.
#[derive(Debug)]
pub struct Redis {
    process: Option<Child>,
    address: SocketAddr,
    _port: Port,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts a Redis with further arguments; `None` if `what` has to be skipped, because there
    /// is no `redis-server`.
    ///
    /// # Errors
    ///
    /// If it does not start, or is missing with `CI` set.
    pub fn start(what: &str, arguments: &[&str]) -> Result<Option<Self>> {
        if is_missing("redis-server", what)? {
            return Ok(None);
        }
        let port = Port::reserve()?;
        let mut redis = Redis {
            process: None,
            address: port.address()?,
            _port: port,
            folder: tempfile::tempdir()?,
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
        };
        redis.start_again()?;
        Ok(Some(redis))
    }

    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it on the same address, after [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.address.port().to_string(), "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `redis-server`")?;
        let lines = BufReader::new(process.stdout.take().context("it has an output")?).lines();
        self.process = Some(process);
        let mut said = String::new();
        for line in lines {
            let line = line?;
            said += &format!("{line}\n");
            if line.contains("Ready to accept connections") {
                return Ok(());
            }
        }
        bail!("redis-server has not started: {said}")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It has ended already, if this fails.
        let _ = self.kill();
    }
}
