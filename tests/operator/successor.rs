//! Processes that take over in an upgrade.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::{PATIENCE, PATIENCE_SECONDS, eventually};
use halfopen_tests::server::Server;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::host::{BINARIES, folder};

/// A command that the test may replace, as a package manager does: another file at its path.
pub(super) struct Binary {
    folder: tempfile::TempDir,
}

impl Binary {
    pub(super) fn new() -> Result<Self> {
        let binary = Binary { folder: folder()? };
        install(&BINARIES.halfopen, &binary.path())?;
        Ok(binary)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("halfopen")
    }

    /// Puts a script into the place of the binary.
    pub(super) fn replace(&self, script: &str) -> Result<()> {
        let (text, new) = (
            self.folder.path().join("text"),
            self.folder.path().join("new"),
        );
        fs::write(&text, format!("#!/bin/sh\n{script}\n"))?;
        install(&text, &new)?;
        Ok(fs::rename(new, self.path())?)
    }

    pub(super) fn restore(&self) -> Result<()> {
        let new = self.folder.path().join("new");
        install(&BINARIES.halfopen, &new)?;
        Ok(fs::rename(new, self.path())?)
    }

    pub(super) fn serve(&self, flags: &[&str]) -> Result<Server> {
        let mut command = Command::new(self.path());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        if !flags.contains(&"--upgrade-timeout") {
            command.args(["--upgrade-timeout", PATIENCE_SECONDS]);
        }
        command.args(flags);
        Server::start(command, 1)
    }
}

/// Copies a program, in a process of its own. If this one had the copy open for writing, a process
/// that another test starts at that moment would keep it open for a while, and the copy could not be
/// executed meanwhile (ETXTBSY, execve(2)).
pub(super) fn install(from: &Path, to: &Path) -> Result<()> {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).args([from, to]).status()?;
    ensure!(status.success(), "{install:?}: {status}");
    Ok(())
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
        })
        .with_context(|| server.errors().join("\n"))?;
        newest.map(Successor).context("the line names no process")
    }

    /// The process of this number, which a line of the log has named.
    pub(super) fn of(process: Pid) -> Self {
        Successor(process)
    }

    pub(super) fn process(&self) -> Pid {
        self.0
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.0, signal)?)
    }

    /// Waits until the process has ended with all of its threads. (Its state in proc(5) is that of
    /// the first thread alone.)
    pub(super) fn ends(&self) -> Result<()> {
        let process = match pidfd_open(self.0, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            opened => opened?,
        };
        let ended = &mut [PollFd::new(&process, PollFlags::IN)];
        let limit = Timespec::try_from(PATIENCE)?;
        ensure!(poll(ended, Some(&limit))? == 1, "{} still runs", self.0);
        Ok(())
    }

    /// Sends SIGSTOP, and waits until every thread has seen it (proc_pid_stat(5), `T`).
    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.0.as_raw_nonzero());
        eventually("the process has stopped", || {
            let mut stopped = true;
            for task in fs::read_dir(&tasks)? {
                let stat = fs::read_to_string(task?.path().join("stat"))?;
                stopped &= stat.contains(") T ");
            }
            Ok(stopped)
        })
    }

    /// Stops the process, and waits until it has ended.
    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.ends()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = kill_process(self.0, Signal::KILL);
    }
}
