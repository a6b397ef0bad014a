//! The servers of a scenario. Their connections are captured, and compared with what the server
//! itself has recorded of them.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::recorded;
use crate::runner::{Binaries, Runner};
use crate::server::Server;
use crate::wire::{self, Capture, Wire, Wires, can_capture};

/// What the code of a scenario may use.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The runner that the server runs on.
    pub runner: Runner,
    /// The binaries, to start further servers.
    pub binaries: &'a Binaries,
    /// The server under test.
    pub server: &'a Server,
    /// How many connections of further servers were compared.
    pub(crate) compared: Cell<usize>,
}

/// A server, the packets of its connections, and its own recording of them.
#[derive(Debug)]
pub struct Observed {
    /// The server.
    pub server: Server,
    /// One for each address.
    captures: Vec<Capture>,
    recording: Option<NamedTempFile>,
}

/// Whether servers of a runner record connections, and there are packets to compare them with.
#[must_use]
pub fn can_compare(runner: Runner) -> bool {
    runner.is_serve() && can_capture()
}

impl Stage<'_> {
    /// Starts another server of the same runner.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(&self, guest: &str, listen: &[&str], arguments: &[&str]) -> Result<Observed> {
        self.start_by(guest, listen, arguments, |command| command)
    }

    /// Starts another server of the same runner, by the command that `wrap` makes of its own.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_by(
        &self,
        guest: &str,
        listen: &[&str],
        arguments: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Result<Observed> {
        let captured = can_compare(self.runner);
        Observed::start(self.runner, captured, listen.len(), |flags| {
            let runner = self.runner;
            wrap(runner.service_with(self.binaries, guest, listen, flags, arguments))
        })
    }

    /// Compares the connections of a server, and returns it.
    ///
    /// # Errors
    ///
    /// If the server has recorded another connection than was captured.
    pub fn compare(&self, observed: Observed) -> Result<Server> {
        let (server, compared) = observed.finish(|_| Ok(()))?;
        self.compared.set(self.compared.get() + compared);
        Ok(server)
    }
}

impl Observed {
    /// Starts a server with so many addresses, by the command that `command` makes with these flags.
    /// Its connections are compared if its runner records any, and if they are `captured`.
    pub(crate) fn start(
        runner: Runner,
        captured: bool,
        addresses: usize,
        command: impl FnOnce(&[&str]) -> Command,
    ) -> Result<Self> {
        let recorded = captured && runner.is_serve();
        let recording = recorded.then(NamedTempFile::new).transpose()?;
        let flag = recording.as_ref();
        let flag = flag.map(|file| format!("--record={}", file.path().display()));
        let flags: Vec<_> = flag.as_deref().into_iter().collect();
        let server = Server::start(command(&flags), addresses)?;
        let captures = match captured {
            true => server
                .addresses
                .iter()
                .map(|&address| Capture::start(address)),
            false => return Ok(Observed::of(server)),
        };
        Ok(Observed {
            captures: captures.collect::<Result<_>>()?,
            server,
            recording,
        })
    }

    /// A server whose connections nobody looks at.
    fn of(server: Server) -> Self {
        Observed {
            server,
            captures: Vec::new(),
            recording: None,
        }
    }

    /// Waits until the packets pass a check, and agree with the recording. Returns how many
    /// connections were compared.
    ///
    /// # Errors
    ///
    /// If they do not.
    pub(crate) fn finish(self, check: impl Fn(&Wires) -> Result<()>) -> Result<(Server, usize)> {
        let compared = Cell::new(0);
        for (capture, address) in self.captures.into_iter().zip(&self.server.addresses) {
            let before = compared.get();
            capture.finish(|wires| {
                check(wires)?;
                if let Some(recording) = &self.recording {
                    let lacks = |line: &String| line.contains("the recording lacks");
                    let complete = !self.server.errors().iter().any(lacks);
                    ensure!(complete, "events were lost");
                    agrees(recording.path(), address.port(), wires)?;
                    compared.set(before + wires.values().map(Vec::len).sum::<usize>());
                }
                Ok(())
            })?;
        }
        Ok((self.server, compared.get()))
    }
}

/// Checks that a server has recorded each captured connection as it was.
fn agrees(file: &Path, port: u16, wires: &Wires) -> Result<()> {
    let recorded = wire::read(file, port)?;
    wires.iter().try_for_each(|(client, captured)| {
        let recorded = recorded.get(client).map_or(&[][..], Vec::as_slice);
        agree(recorded, captured)
    })
}

/// Checks the connections from one port, one after the other.
fn agree(recorded: &[Wire], captured: &[Wire]) -> Result<()> {
    let (mut rest, none) = (recorded.iter(), Wire::default());
    for captured in captured {
        let recorded = rest.as_slice().first().unwrap_or(&none);
        let agrees = recorded::agrees(recorded, captured);
        // One of them may never have been accepted.
        if agrees.is_err() && recorded::agrees(&none, captured).is_ok() {
            continue;
        }
        agrees.with_context(|| format!("recorded {recorded:?}\ncaptured {captured:?}"))?;
        rest.next();
    }
    ensure!(
        rest.as_slice().is_empty(),
        "recorded, and not captured: {rest:?}"
    );
    Ok(())
}
