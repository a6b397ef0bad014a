//! Processes that take over in an upgrade.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use halfopen_tests::patience::eventually;
use halfopen_tests::server::Server;
use rustix::process::{Pid, Signal, kill_process};

use super::host::{BINARIES, folder};

/// A command that the test may replace, as a package manager does: another file at its path.
pub(super) struct Binary {
    folder: tempfile::TempDir,
}

impl Binary {
    pub(super) fn new() -> Result<Self> {
        let binary = Binary { folder: folder()? };
        fs::copy(&BINARIES.halfopen, binary.path())?;
        Ok(binary)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("halfopen")
    }

    /// Puts a script into the place of the binary.
    pub(super) fn replace(&self, script: &str) -> Result<()> {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(new, self.path())?)
    }

    pub(super) fn restore(&self) -> Result<()> {
        let new = self.folder.path().join("new");
        fs::copy(&BINARIES.halfopen, &new)?;
        Ok(fs::rename(new, self.path())?)
    }

    pub(super) fn serve(&self, flags: &[&str]) -> Result<Server> {
        let mut command = Command::new(self.path());
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags);
        Server::start(command, 1)
    }
}

/// A process that took over from another one. It is killed on drop.
pub(super) struct Successor(Pid);

impl Successor {
    /// Waits until as many upgrades are done, and returns the newest process.
    pub(super) fn after(server: &Server, upgrades: usize) -> Result<Self> {
        const DONE: &str = "upgraded; process ";
        let mut newest = None;
        eventually("the upgrade is done", || {
            let lines = server.errors();
            let done: Vec<_> = lines.iter().filter(|line| line.contains(DONE)).collect();
            newest = done.last().and_then(|line| {
                let (_, rest) = line.split_once(DONE)?;
                Pid::from_raw(rest.split(' ').next()?.parse().ok()?)
            });
            Ok(done.len() == upgrades)
        })?;
        newest.map(Successor).context("the line names no process")
    }

    pub(super) fn process(&self) -> Pid {
        self.0
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.0, signal)?)
    }

    /// Stops the process, and waits until it has ended.
    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        eventually("the successor ends", || Ok(!self.is_alive()))
    }

    pub(super) fn is_alive(&self) -> bool {
        is_alive(self.0.as_raw_pid().cast_unsigned())
    }
}

/// Whether a process runs. Nobody may wait for it after its end, so that it stays a zombie.
pub(super) fn is_alive(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat"));
    status.is_ok_and(|status| !status.contains(") Z "))
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = kill_process(self.0, Signal::KILL);
    }
}
