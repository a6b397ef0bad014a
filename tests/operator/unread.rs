//! Standard streams that nobody reads, or that cannot be written. The server goes on.

use std::fs::OpenOptions;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::{PATIENCE, POLL, eventually};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::command;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process};

use super::host::{BINARIES, is_served, metric};
use super::terminal::terminal;

/// A server whose standard streams the test does not read. It is killed on drop.
struct Mute {
    child: Child,
    address: SocketAddr,
    /// The admin address, as `host:port`.
    admin: String,
}

impl Mute {
    /// Starts `halfopen serve` with the access log. The addresses are this test's own,
    /// because the server may be unable to print any.
    fn start(flags: &[&str], arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(64);
        let host = NEXT.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = process::id().to_be_bytes();
        let address = SocketAddr::from(([127, host, high, low], 4999));
        let admin = SocketAddr::new(address.ip(), 4998).to_string();
        let listen = address.to_string();
        let fixed = [
            "serve",
            "--listen",
            &listen,
            "--admin",
            &admin,
            "--access-log",
        ];
        let mut serve = command(&BINARIES.halfopen, fixed);
        serve
            .args(flags)
            .arg(guest_path("echo"))
            .arg("--")
            .args(arguments);
        serve.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = serve.spawn()?;
        let mute = Mute {
            child,
            address,
            admin,
        };
        eventually("the server accepts", || {
            Ok(Client::connect(mute.address).is_ok())
        })?;
        Ok(mute)
    }

    /// Serves connections one after the other. Each prints some lines, and logs one.
    fn serve(&self, connections: usize) -> Result<()> {
        for number in 0..connections {
            let mut client = Client::connect(self.address)?;
            is_served(&mut client).with_context(|| format!("after {number} connections"))?;
        }
        Ok(())
    }

    fn stop(mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the child has no id")?, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the server does not end");
            thread::sleep(POLL);
        }
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe without room for another byte, and the number of bytes in it.
fn full_pipe() -> Result<(PipeReader, PipeWriter, usize)> {
    let (reader, mut writer) = pipe()?;
    let mut length = 0;
    ioctl_fionbio(&writer, true)?;
    for piece in [&[b'-'; 4096][..], b"-"] {
        while let Ok(written) = writer.write(piece) {
            length += written;
        }
    }
    // The server shares this setting.
    ioctl_fionbio(&writer, false)?;
    Ok((reader, writer, length))
}

/// A pipe whose reader has gone.
fn broken_pipe() -> Result<Stdio> {
    Ok(pipe()?.1.into())
}

/// A file on a disk without room: each write fails with ENOSPC.
fn full_disk() -> Result<Stdio> {
    Ok(OpenOptions::new().write(true).open("/dev/full")?.into())
}

const DROPPED: &str = "halfopen_log_lines_dropped_total";

#[test]
fn a_log_that_nobody_reads_stops_nothing() -> Result<()> {
    let (mut reader, writer, length) = full_pipe()?;
    let server = Mute::start(&[], &["--quiet"], Stdio::null(), writer.into())?;
    server.serve(100)?;
    ensure!(metric(&server.admin, DROPPED)? == 0.0);
    // More than the queue takes.
    eventually("lines are dropped", || {
        server.serve(100)?;
        Ok(metric(&server.admin, DROPPED)? > 0.0)
    })?;
    // Once it is read, everything in the queue arrives, and a line counts what does not.
    reader.read_exact(&mut vec![0; length])?;
    let log = thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).map(|_| log)
    });
    eventually("the queue is empty", || {
        let before = metric(&server.admin, DROPPED)?;
        server.serve(1)?;
        Ok(metric(&server.admin, DROPPED)? == before)
    })?;
    let dropped = metric(&server.admin, DROPPED)?;
    ensure!(server.stop()?.success());
    let log = log.join().expect("reading does not panic")?;
    let counted: Vec<f64> = log
        .lines()
        .filter_map(|line| line.split_once(" log lines dropped")?.0.rsplit(' ').next())
        .map(|count| Ok(count.parse()?))
        .collect::<Result<_>>()?;
    ensure!(
        counted.iter().sum::<f64>() == dropped,
        "{counted:?} of {dropped}"
    );
    ensure!(log.contains("ending=fin"), "{log}");
    Ok(())
}

#[test]
fn a_server_whose_log_nobody_reads_stops_when_asked() -> Result<()> {
    let (_reader, writer, _) = full_pipe()?;
    let server = Mute::start(
        &["--grace", "2"],
        &["--quiet"],
        Stdio::null(),
        writer.into(),
    )?;
    server.serve(10)?;
    let mut open = Client::connect(server.address)?;
    is_served(&mut open)?;
    // The grace time, and a second for what waits to be written.
    let start = Instant::now();
    ensure!(server.stop()?.success());
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(30), "{took:?}");
    Ok(())
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() -> Result<()> {
    for (what, stderr) in [("reader gone", broken_pipe()?), ("disk full", full_disk()?)] {
        let server = Mute::start(&[], &["--quiet"], Stdio::null(), stderr)?;
        server.serve(50).context(what)?;
        eventually("lost lines are counted", || {
            Ok(metric(&server.admin, DROPPED)? >= 50.0)
        })?;
        ensure!(server.stop()?.success(), "{what}");
    }
    Ok(())
}

#[test]
fn output_that_nobody_reads_stops_nothing() -> Result<()> {
    let (_reader, writer, _) = full_pipe()?;
    for isolation in ["connection", "shared"] {
        let flags = ["--isolation", isolation];
        let stdout = writer.try_clone()?.into();
        let server = Mute::start(&flags, &[], stdout, Stdio::null())?;
        server.serve(400).context(isolation)?;
        ensure!(server.stop()?.success(), "{isolation}");
    }
    Ok(())
}

#[test]
fn output_that_cannot_be_written_stops_nothing() -> Result<()> {
    for (what, stdout) in [("reader gone", broken_pipe()?), ("disk full", full_disk()?)] {
        let server = Mute::start(&[], &[], stdout, Stdio::null())?;
        server.serve(50).context(what)?;
        ensure!(server.stop()?.success(), "{what}");
    }
    Ok(())
}

/// A terminal on which somebody has pressed Ctrl-S: neither the log nor the status line nor
/// what services print can be written.
#[test]
fn a_terminal_that_takes_nothing_stops_nothing() -> Result<()> {
    let (_seen, mut written) = terminal()?;
    ioctl_fionbio(&written, true)?;
    while written.write(&[b'-'; 4096]).is_ok() {}
    ioctl_fionbio(&written, false)?;
    let stdout = written.try_clone()?.into();
    let server = Mute::start(&["--grace", "1"], &[], stdout, written.into())?;
    server.serve(100)?;
    // The status line would be drawn again.
    let mut open = Client::connect(server.address)?;
    is_served(&mut open)?;
    server.serve(100)?;
    ensure!(server.stop()?.success());
    Ok(())
}
