//! Under systemd, whose part the tests play: sockets that outlive the process
//! (sd_listen_fds(3)), and messages about readiness, reload, stopping and life (sd_notify(3)).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use command_fds::{CommandFdExt, FdMapping};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::Server;
use rustix::process::Signal;

use super::host::{BINARIES, LONG_GRACE, folder, is_served};

/// Returns the command that serves on these sockets, passed as systemd does. A shell sets the
/// variables with the process id, which is known only within the process.
pub(super) fn activated(sockets: &[(&str, &TcpListener)], arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$0\" \"$@\"",
        ])
        .arg(&BINARIES.halfopen)
        .arg("serve")
        .args(arguments)
        .env("LISTEN_FDS", sockets.len().to_string());
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    command.env("LISTEN_FDNAMES", names.join(":"));
    let mappings = sockets
        .iter()
        .zip(3..)
        .map(|((_, socket), child_fd)| {
            let parent_fd = OwnedFd::from(socket.try_clone()?);
            Ok(FdMapping {
                parent_fd,
                child_fd,
            })
        })
        .collect::<Result<_>>()?;
    command.fd_mappings(mappings)?;
    Ok(command)
}

pub(super) fn listener() -> Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0")?)
}

#[test]
fn a_restart_loses_no_connection() -> Result<()> {
    let socket = listener()?;
    let address = socket.local_addr()?;
    let start = || Server::start(activated(&[("echo", &socket)], &LONG_GRACE)?, 1);
    let server = start()?;
    ensure!(server.address() == address, "{:?}", server.addresses);
    let mut before = Client::connect(address)?;
    is_served(&mut before)?;
    // SIGTERM: the connection that is served finishes, and one that comes meanwhile waits.
    server.signal(Signal::TERM)?;
    server.logged("stopping;")?;
    let mut waiting = waits(address)?;
    is_served(&mut before)?;
    before.fin()?;
    ensure!(before.end()?.1 == End::Fin);
    ensure!(server.wait()?.status.success());
    let server = start()?;
    ensure!(waiting.receive(1)? == b"x");

    // SIGKILL: the connection that is served is lost, and no other.
    let mut lost = Client::connect(address)?;
    is_served(&mut lost)?;
    server.signal(Signal::KILL)?;
    lost.end()?;
    let mut waiting = Client::connect(address)?;
    waiting.send(b"x")?;
    let server = start()?;
    ensure!(waiting.receive(1)? == b"x");
    drop(waiting);
    ensure!(server.stop(Signal::TERM)?.status.success());
    Ok(())
}

/// Connects until a connection waits in the backlog. Connections that the server accepts
/// before it stops accepting are closed.
fn waits(address: SocketAddr) -> Result<Client> {
    let mut waiting = None;
    eventually("a connection waits in the backlog", || {
        let mut client = Client::connect(address)?;
        client.send(b"x")?;
        let waits = client.silence(Duration::from_secs(1)).is_ok();
        waiting = waits.then_some(client);
        Ok(waits)
    })?;
    waiting.context("no connection waits")
}

#[test]
fn names_say_which_service_gets_which_socket() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let digest = halfopen_tests::runner::guest_path("digest");
    std::fs::write(
        &file,
        format!(
            "[services.echo]\n[services.sums]\ncomponent = \"{}\"\n",
            digest.display()
        ),
    )?;
    let (echo, sums) = (listener()?, listener()?);
    let config = ["--config", file.to_str().context("the path is not UTF-8")?];
    let server = Server::start(activated(&[("sums", &sums), ("echo", &echo)], &config)?, 2)?;
    is_served(&mut Client::connect(echo.local_addr()?)?)?;
    let mut client = Client::connect(sums.local_addr()?)?;
    client.fin()?;
    ensure!(client.end()?.0.starts_with(b"0 bytes, SHA-256"));
    // The sockets stay open over a reload.
    let before = server.descriptors()?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    is_served(&mut Client::connect(echo.local_addr()?)?)?;
    server.closes_to(before)?;

    let unknown = activated(&[("other", &listener()?)], &config)?;
    let stopped = halfopen_tests::server::run(unknown)?;
    ensure!(!stopped.status.success());
    ensure!(
        stopped
            .stderr
            .join("\n")
            .contains("systemd passed a socket `other`"),
        "{stopped:?}"
    );
    Ok(())
}

/// The receiver of messages, in place of systemd.
pub(super) struct Manager(UnixDatagram);

impl Manager {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Manager(socket))
    }

    /// Waits for a message with this line, and returns the message.
    pub(super) fn receives(&self, line: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut message = [0; 4096];
            let length = self
                .0
                .recv(&mut message)
                .with_context(|| format!("no message {line}"))?;
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.lines().any(|received| received == line) {
                return Ok(message);
            }
        }
        anyhow::bail!("no message {line}")
    }
}

/// A manager that does not read, while reports to the watchdog fill its queue (unix(7),
/// `/proc/sys/net/unix/max_dgram_qlen`).
#[test]
fn a_manager_that_does_not_read_holds_up_nothing() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("notify");
    let manager = Manager::new(&path)?;
    let full = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        anyhow::Ok(socket.send_to(b"FULL=1", &path).is_err())
    };
    let mut command = activated(&[("echo", &listener()?)], &["--grace", "1"])?;
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "2000");
    let server = Server::start(command, 1)?;
    eventually("the queue is full", full)?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    is_served(&mut Client::connect(server.address())?)?;
    // What changed is reported once the manager reads again.
    manager.receives("READY=1")?;
    manager.receives("RELOADING=1")?;
    manager.receives("READY=1")?;
    eventually("the queue is full again", full)?;
    ensure!(server.stop(Signal::TERM)?.status.success());
    Ok(())
}

#[test]
fn the_manager_learns_of_every_change_of_state() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("notify");
    let manager = Manager::new(&path)?;
    let mut command = activated(&[("echo", &listener()?)], &["--grace", "1"])?;
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "400000");
    let server = Server::start(command, 1)?;
    manager.receives("READY=1")?;
    manager.receives("WATCHDOG=1")?;
    manager.receives("WATCHDOG=1")?;
    server.signal(Signal::HUP)?;
    let message = manager.receives("RELOADING=1")?;
    ensure!(message.contains("MONOTONIC_USEC="), "{message}");
    manager.receives("READY=1")?;
    server.signal(Signal::TERM)?;
    manager.receives("STOPPING=1")?;
    ensure!(server.wait()?.status.success());
    Ok(())
}
