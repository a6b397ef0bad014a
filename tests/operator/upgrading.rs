//! Upgrades in place: SIGUSR2 starts the binary anew, which takes over the listening sockets.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE, PATIENCE_SECONDS, eventually};
use halfopen_tests::server::Server;
use halfopen_tests::tools::is_missing;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, test_kill_process};

use super::activation::{Manager, activated, listener};
use super::host::{BINARIES, folder, get, is_served, served};

/// A command that the test may replace, as a package manager does: another file at its path.
struct Binary {
    folder: tempfile::TempDir,
}

impl Binary {
    fn new() -> Result<Self> {
        let binary = Binary { folder: folder()? };
        fs::copy(&BINARIES.halfopen, binary.path())?;
        Ok(binary)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("halfopen")
    }

    /// Puts a script into the place of the binary.
    fn replace(&self, script: &str) -> Result<()> {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(new, self.path())?)
    }

    fn restore(&self) -> Result<()> {
        let new = self.folder.path().join("new");
        fs::copy(&BINARIES.halfopen, &new)?;
        Ok(fs::rename(new, self.path())?)
    }

    fn serve(&self, flags: &[&str]) -> Result<Server> {
        let mut command = Command::new(self.path());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        if !flags.contains(&"--upgrade-timeout") {
            command.args(["--upgrade-timeout", PATIENCE_SECONDS]);
        }
        command.args(flags);
        Server::start(command, 1)
    }
}

/// A process that took over from another one. It is killed on drop.
struct Successor(Pid);

impl Successor {
    /// Waits until as many upgrades are done, and returns the newest process.
    fn after(server: &Server, upgrades: usize) -> Result<Self> {
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

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.0, signal)?)
    }

    /// Waits until the process has ended with all of its threads. (Its state in proc(5) is that of
    /// the first thread alone.)
    fn ends(&self) -> Result<()> {
        let process = match pidfd_open(self.0, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            opened => opened?,
        };
        let ended = &mut [PollFd::new(&process, PollFlags::IN)];
        let limit = Timespec::try_from(PATIENCE)?;
        ensure!(poll(ended, Some(&limit))? == 1, "{} still runs", self.0);
        Ok(())
    }

    /// Stops the process, and waits until it has ended.
    fn stop(&self) -> Result<()> {
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

#[test]
fn an_upgrade_keeps_the_listener_the_backlog_and_open_connections() -> Result<()> {
    let binary = Binary::new()?;
    let mut server = binary.serve(&["--admin", "0"])?;
    let line = server.logged_line("metrics on http://")?;
    let admin = line
        .split_once("http://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .context("no address")?
        .0
        .to_owned();
    let mut open = served(&server)?;
    server.signal(Signal::USR2)?;
    let successor = Successor::after(&server, 1)?;
    // The connection goes on in the first process, new ones are served by the successor, at the
    // same address, and so is the admin address.
    is_served(&mut open)?;
    let mut new = Client::connect(server.address())?;
    is_served(&mut new)?;
    eventually("the successor answers on the admin address", || {
        let (_, metrics) = get(&admin, "/metrics")?;
        Ok(metrics.contains("halfopen_accepted_total{service=\"echo\"} 1"))
    })?;
    ensure!(get(&admin, "/readyz")?.0.contains("200"));
    // The first process says so if it is asked for more, and ends with its last connection.
    server.signal(Signal::HUP)?;
    server.logged("this process only lets connections finish")?;
    let address = server.address();
    drop(open);
    let status = server.ends()?;
    ensure!(status.success(), "{status:?}");
    is_served(&mut new)?;
    is_served(&mut Client::connect(address)?)?;
    drop(new);
    successor.stop()?;
    ensure!(TcpStream::connect(address).is_err());
    Ok(())
}

/// Whatever the new binary does, the old process goes on as if nothing had happened.
#[test]
fn a_successor_that_fails_changes_nothing() -> Result<()> {
    let binary = Binary::new()?;
    let server = binary.serve(&["--upgrade-timeout", "1"])?;
    let mut open = served(&server)?;
    let mut goes_on = |what: &str| -> Result<()> {
        server.logged(&format!("not upgraded, and nothing has changed: {what}"))?;
        is_served(&mut open)?;
        is_served(&mut Client::connect(server.address())?)
    };
    binary.replace("exit 3")?;
    server.signal(Signal::USR2)?;
    goes_on("the other process has ended")?;
    // Reads everything, and says nothing.
    binary.replace("exec sleep 1000")?;
    server.signal(Signal::USR2)?;
    goes_on("it was not ready within 1 s")?;
    fs::remove_file(binary.path())?;
    server.signal(Signal::USR2)?;
    goes_on("cannot start ")?;
    // After all that, an upgrade works.
    binary.restore()?;
    server.signal(Signal::USR2)?;
    let successor = Successor::after(&server, 1)?;
    is_served(&mut open)?;
    is_served(&mut Client::connect(server.address())?)?;
    successor.stop()
}

/// The new configuration has a mistake: the successor says what, and the old process goes on.
#[test]
fn a_mistake_in_the_new_configuration_is_reported_by_the_old_process() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config = "[services.echo]\nlisten = [\"127.0.0.1:0\"]\n";
    fs::write(&file, config)?;
    let mut command = Command::new(&BINARIES.halfopen);
    command.args(["serve", "--config"]).arg(&file);
    let server = Server::start(command, 1)?;
    fs::write(&file, format!("{config}nonsense = 1\n"))?;
    server.signal(Signal::USR2)?;
    let line = server.logged_line("not upgraded, and nothing has changed: ")?;
    ensure!(line.contains("nonsense"), "{line}");
    // A reload would find it, too; a port that was free becomes the configured one.
    let listen = format!("[services.echo]\nlisten = [\"{}\"]\n", server.address());
    fs::write(&file, listen)?;
    let address = server.address();
    server.signal(Signal::USR2)?;
    let successor = Successor::after(&server, 1)?;
    is_served(&mut Client::connect(address)?)?;
    successor.stop()
}

#[test]
fn systemd_follows_the_upgrade_and_keeps_its_sockets() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("notify");
    let manager = Manager::new(&path)?;
    let socket = listener()?;
    let mut command = activated(&[("echo", &socket)], &["--grace", "1"])?;
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "400000");
    let mut server = Server::start(command, 1)?;
    manager.receives("READY=1")?;
    server.signal(Signal::USR2)?;
    let successor = Successor::after(&server, 1)?;
    manager.receives(&format!("MAINPID={}", successor.0))?;
    ensure!(server.ends()?.success());
    // The watchdog hears from the successor.
    manager.receives("WATCHDOG=1")?;
    manager.receives("WATCHDOG=1")?;
    is_served(&mut Client::connect(socket.local_addr()?)?)?;
    successor.stop()?;
    manager.receives("STOPPING=1").map(drop)
}

/// Several generations drain at once, and their number is bounded.
#[test]
fn the_number_of_processes_that_drain_is_bounded() -> Result<()> {
    let binary = Binary::new()?;
    let server = binary.serve(&[])?;
    let mut clients = vec![served(&server)?];
    let mut successors: Vec<Successor> = Vec::new();
    for upgrade in 1..=8 {
        match successors.last() {
            None => server.signal(Signal::USR2)?,
            Some(newest) => newest.signal(Signal::USR2)?,
        }
        successors.push(Successor::after(&server, upgrade)?);
        // Only the newest process accepts.
        clients.push(served(&server)?);
    }
    let newest = &successors[7];
    newest.signal(Signal::USR2)?;
    server.logged("not upgraded, and nothing has changed: 8 earlier processes still drain")?;
    for client in &mut clients {
        is_served(client)?;
    }
    // One finishes, and there is room.
    drop(clients.remove(3));
    successors[2].ends()?;
    newest.signal(Signal::USR2)?;
    let ninth = Successor::after(&server, 9)?;
    for client in &mut clients {
        is_served(client)?;
    }
    is_served(&mut served(&server)?)?;
    ninth.stop()
}

/// Clients come and go all the time, and none is refused, reset or cut.
#[test]
fn upgrades_one_after_another_cut_nobody() -> Result<()> {
    let binary = Binary::new()?;
    let server = binary.serve(&["--", "--quiet"])?;
    let address = server.address();
    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let upgraded = thread::scope(|scope| -> Result<Vec<Successor>> {
        let clients: Vec<_> = (0..8_u64)
            .map(|number| {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || {
                    let worked = come_and_go(address, number, stop, done);
                    // The others need not go on.
                    if worked.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    worked
                })
            })
            .collect();
        let upgraded = one_after_another(&server, 10, &stop, &done);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        upgraded
    })?;
    println!(
        "{} connections over 10 upgrades",
        done.load(Ordering::Relaxed)
    );
    upgraded.last().context("no upgrade")?.stop()
}

/// Connects again and again. Every fourth connection is a long one, which outlives an upgrade.
fn come_and_go(
    address: SocketAddr,
    number: u64,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Result<()> {
    let mut long = Client::connect(address)?;
    while !stop.load(Ordering::Relaxed) {
        is_served(&mut long)?;
        Client::connect(address)?.exchange(20_000, number)?;
        if done.fetch_add(1, Ordering::Relaxed).is_multiple_of(32) {
            long.fin()?;
            let (_, end) = long.end()?;
            ensure!(end == End::Fin, "the long connection was reset");
            long = Client::connect(address)?;
        }
    }
    Ok(())
}

fn one_after_another(
    server: &Server,
    upgrades: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Result<Vec<Successor>> {
    let mut successors: Vec<Successor> = Vec::new();
    for upgrade in 1..=upgrades {
        let before = done.load(Ordering::Relaxed);
        match successors.last() {
            None => server.signal(Signal::USR2)?,
            Some(newest) => newest.signal(Signal::USR2)?,
        }
        successors.push(Successor::after(server, upgrade)?);
        eventually("clients go on", || {
            ensure!(!stop.load(Ordering::Relaxed), "a client failed");
            Ok(done.load(Ordering::Relaxed) > before + 20)
        })?;
    }
    Ok(successors)
}

/// In a container the server is process 1, whose end would be that of the container: it stays
/// until its successors have ended, and passes signals on.
#[test]
fn process_1_of_a_container_outlives_its_successors() -> Result<()> {
    if is_missing("unshare", "a namespace of processes")? || !rustix::process::geteuid().is_root() {
        println!("!!! SKIPPED: only root may make a namespace of processes");
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(&BINARIES.halfopen)
        .args(["serve", "--listen", "127.0.0.1:0"]);
    let mut server = Server::start(command, 1)?;
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.id()))?;
    let first = children.trim().parse().ok().and_then(Pid::from_raw);
    let first = first.with_context(|| format!("unshare has no child: {children}"))?;
    let open = served(&server)?;
    kill_process(first, Signal::USR2)?;
    server.logged("upgraded; process ")?;
    // Its last connection ends, and process 1 stays.
    drop(open);
    is_served(&mut served(&server)?)?;
    // A second upgrade, which process 1 only passes on.
    kill_process(first, Signal::USR2)?;
    eventually("the second upgrade is done", || {
        let lines = server.errors();
        let done = lines
            .iter()
            .filter(|line| line.contains("upgraded; process "));
        Ok(done.count() == 2)
    })?;
    is_served(&mut served(&server)?)?;
    ensure!(test_kill_process(first).is_ok(), "process 1 has ended");
    kill_process(first, Signal::TERM)?;
    let status = server.ends()?;
    ensure!(status.success(), "{status:?}");
    ensure!(TcpStream::connect(server.address()).is_err());
    Ok(())
}

/// Started by hand with the variable, it says what to do.
#[test]
fn the_variable_alone_is_a_mistake_with_a_remedy() -> Result<()> {
    let mut command = Command::new(&BINARIES.halfopen);
    command.arg("serve").env("HALFOPEN_UPGRADE", "stdin");
    let stopped = halfopen_tests::server::run(command)?;
    ensure!(!stopped.status.success());
    let error = stopped.stderr.join("\n");
    ensure!(error.contains("unset it to start afresh"), "{error}");
    Ok(())
}
