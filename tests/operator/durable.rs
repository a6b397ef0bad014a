//! State in a file that a crash, a stop or a full disk interrupts.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use rustix::process::Signal;

use super::host::{BINARIES, folder, serve};
use super::state::{Ledger, text};

/// Clients count up until the process is killed. What the service has answered is there
/// afterwards, and at most one more for each client.
#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_kill() -> Result<()> {
    const CLIENTS: usize = 6;
    let folder = folder()?;
    let state = folder.path().join("state");
    let flags = ["--state", text(&state)?];
    let mut before = [0; CLIENTS];
    for round in 0..4 {
        let server = serve("ledger", &flags, &[])?;
        let address = server.address();
        for (client, &before) in before.iter().enumerate() {
            let answer = Ledger::connect(address)?.ask(&format!("get k{client}"))?;
            let now: usize = if answer == "-" { 0 } else { answer.parse()? };
            ensure!(
                now == before || now == before + 1,
                "{now} after {before} in round {round}"
            );
        }
        let done = AtomicUsize::new(0);
        let counts = thread::scope(|scope| -> Result<Vec<usize>> {
            let count = |client: usize| {
                let done = &done;
                move || -> Result<usize> {
                    let mut ledger = Ledger::connect(address)?;
                    let mut count: usize = ledger.ask(&format!("add k{client} 0"))?.parse()?;
                    // Until the kill.
                    while let Ok(answer) = ledger.ask(&format!("add k{client} 1")) {
                        count += 1;
                        ensure!(answer == count.to_string(), "{answer} instead of {count}");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(count)
                }
            };
            let threads: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(count(client)))
                .collect();
            eventually("the clients count", || {
                Ok(done.load(Ordering::Relaxed) > 100)
            })?;
            server.signal(Signal::KILL)?;
            let join = |thread: thread::ScopedJoinHandle<'_, Result<usize>>| {
                thread.join().map_err(|_| anyhow!("a client panicked"))?
            };
            threads.into_iter().map(join).collect()
        })?;
        before.copy_from_slice(&counts);
    }
    Ok(())
}

/// With `every-second` too, a server that is stopped loses nothing.
#[test]
fn a_stop_loses_nothing_that_waits_for_the_disk() -> Result<()> {
    let folder = folder()?;
    let state = folder.path().join("state");
    let flags = ["--state", text(&state)?, "--state-sync", "every-second"];
    for count in 1..=3 {
        let server = serve("ledger", &flags, &[])?;
        Ledger::connect(server.address())?.expect("add n 1", &count.to_string())?;
        ensure!(server.stop(Signal::TERM)?.status.success());
    }
    // After a second, a kill loses nothing either: the file changes when it is synced.
    let server = serve("ledger", &flags, &[])?;
    Ledger::connect(server.address())?.expect("add n 1", "4")?;
    let copy = folder.path().join("copy");
    eventually("the change is on the disk", || {
        // A copy of an open file is what a crash would leave.
        fs::copy(&state, &copy)?;
        let copied = serve("ledger", &["--state", text(&copy)?], &[]);
        match copied {
            Ok(copied) => Ok(Ledger::connect(copied.address())?.ask("get n")? == "4"),
            // The file was copied while it was written.
            Err(_) => Ok(false),
        }
    })
}

/// A disk that is full makes changes fail, and nothing else. Once it has room again, the file is
/// used again.
#[test]
fn a_full_disk_is_an_error_value_until_it_has_room() -> Result<()> {
    let folder = folder()?;
    // A file system of 3 MiB, in a mount namespace of the server's own.
    let namespace = |script: &str| {
        let mut unshare = command("unshare", ["--map-root-user", "--mount", "sh", "-ec"]);
        let script = format!("mount -t tmpfs -o size=3m none \"$0\"; {script}");
        unshare.arg(script).arg(folder.path());
        unshare
    };
    if !namespace("")
        .output()
        .is_ok_and(|made| made.status.success())
    {
        let line = "!!! SKIPPED: a full disk: `unshare` may make no file system here";
        writeln!(std::io::stderr(), "{line}")?;
        return Ok(());
    }
    let mut serve = namespace("head -c 1000000 /dev/zero >\"$0/filler\"; exec \"$@\"");
    serve
        .arg(&BINARIES.halfopen)
        .args(["serve", "--listen", "127.0.0.1:0", "--state"]);
    serve
        .arg(folder.path().join("state"))
        .arg(guest_path("ledger"));
    let server = Server::start(serve, 1)?;
    let mut ledger = Ledger::connect(server.address())?;
    ledger.expect("set before v", "ok")?;
    let failed = "error: the store has failed";
    let mut filled = 0;
    eventually("the disk is full", || {
        filled += 1;
        Ok(ledger.ask(&format!("large k{filled} 500000"))? == failed)
    })?;
    server.logged("No space left on device")?;
    let mut other = Ledger::connect(server.address())?;
    other.expect("open other", "error: no such store")?;
    let root = format!("/proc/{}/root", server.id());
    let within = Path::new(&root).join(folder.path().strip_prefix("/")?);
    fs::remove_file(within.join("filler"))?;
    eventually("there is room again", || {
        Ok(other.ask("set after v")? == "ok")
    })?;
    for number in 1..filled {
        ledger.expect(&format!("exists k{number}"), "yes")?;
    }
    ledger.expect("get before", "v")
}

/// A file that was closed needs no repair.
#[test]
fn a_stop_closes_the_file_and_a_kill_is_repaired() -> Result<()> {
    let folder = folder()?;
    let state = folder.path().join("state");
    let repaired = |end: Signal| -> Result<bool> {
        let flags = ["serve", "--listen", "127.0.0.1:0", "--state", text(&state)?];
        let mut serve = command(&BINARIES.halfopen, flags);
        serve.arg(guest_path("ledger")).env("HALFOPEN_LOG", "info");
        let server = Server::start(serve, 1)?;
        Ledger::connect(server.address())?.expect("fill k 100", "ok")?;
        let stopped = server.stop(end)?;
        Ok(stopped
            .stderr
            .iter()
            .any(|line| line.contains("is repaired")))
    };
    ensure!(!repaired(Signal::TERM)?, "a new file was repaired");
    ensure!(!repaired(Signal::INT)?, "the stop did not close it");
    ensure!(!repaired(Signal::KILL)?, "the stop did not close it");
    ensure!(repaired(Signal::TERM)?, "the kill was not noticed");
    Ok(())
}
