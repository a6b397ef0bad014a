//! The server under test, and connections to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::memory;
use halfopen_tests::patience::{PATIENCE, PATIENCE_SECONDS};
use halfopen_tests::runner::{Binaries, guest_path};
use halfopen_tests::server::{Server, command, run};
use socket2::{Domain, Socket, Type};

pub(super) static BINARIES: LazyLock<Binaries> =
    LazyLock::new(|| Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));

/// For tests that expect every connection to finish: the server waits as long as the test.
pub(super) const LONG_GRACE: [&str; 2] = ["--grace", PATIENCE_SECONDS];

/// Starts `halfopen serve` on a free port of loopback.
pub(super) fn serve(guest: &str, flags: &[&str], arguments: &[&str]) -> Result<Server> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(flags).arg(guest_path(guest));
    serve.arg("--").args(arguments);
    Server::start(serve, 1)
}

/// Starts `halfopen serve` with an echo that prints nothing.
pub(super) fn echo(flags: &[&str]) -> Result<Server> {
    serve("echo", flags, &["--quiet"])
}

/// Connects, and waits until the connection is served.
pub(super) fn served(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    is_served(&mut client)?;
    Ok(client)
}

/// Checks that the echo serves this connection.
pub(super) fn is_served(client: &mut Client) -> Result<()> {
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x", "the connection is not served");
    Ok(())
}

/// Connects from another address of this machine. A connection that the server has reset by
/// then is returned as it is.
pub(super) fn connect_from(from: [u8; 4], to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    match socket.connect(&to.into()) {
        // The connection was made, and reset before connect(2) returned.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        connected => connected?,
    }
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the server resets the connection before it sends a byte.
///
/// # Errors
///
/// If the server sends FIN, which the peer could take for an answer.
pub(super) fn is_refused(mut stream: TcpStream) -> Result<bool> {
    // The connection may be reset already.
    let sent = stream.write_all(b"x");
    match stream.read(&mut [0]) {
        // Linux reports a reset once, and then the end, if the write had the reset.
        Ok(0) if sent.is_err() => Ok(true),
        Ok(0) => bail!("the server sent FIN"),
        Ok(_) => Ok(false),
        // `NotConnected` if connect(2) had the reset.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::NotConnected
            ) =>
        {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends a GET request, and returns the status line and the body.
pub(super) fn get(address: &str, path: &str) -> Result<(String, String)> {
    let (head, body) = get_as(address, path, "*/*")?;
    let status = head.lines().next().unwrap_or_default();
    Ok((status.to_owned(), body))
}

/// Sends a GET request with an `Accept` header, and returns the head and the body.
pub(super) fn get_as(address: &str, path: &str, accept: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Starts `halfopen serve` with an admin address, and returns both.
pub(super) fn with_admin(
    guest: &str,
    flags: &[&str],
    arguments: &[&str],
) -> Result<(Server, String)> {
    let flags = [&["--admin", "0"], flags].concat();
    let server = serve(guest, &flags, arguments)?;
    let line = server.logged_line("metrics on http://")?;
    let address = line
        .split_once("http://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .context("no address")?;
    Ok((server, address.0.to_owned()))
}

/// Returns a metric's value, by its name and labels as `/metrics` writes them.
pub(super) fn metric(admin: &str, name: &str) -> Result<f64> {
    let (_, metrics) = get(admin, "/metrics")?;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("no metric {name}"))?;
    Ok(value.parse()?)
}

/// Makes a folder for the files of a test.
pub(super) fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir()?)
}

/// Runs `halfopen compile` or `halfopen compose`.
pub(super) fn make(subcommand: &str, component: &Path, output: &Path) -> Result<()> {
    let mut make = command(&BINARIES.halfopen, [subcommand]);
    make.arg(component).arg("-o").arg(output);
    let made = run(make)?;
    ensure!(made.status.success(), "{made:?}");
    Ok(())
}

/// Checks how much the server's memory grew by the work for one instance, in KiB, whose own
/// memory is limited to `limit`.
pub(super) fn grew_within(before: usize, peak: usize, limit: usize) -> Result<()> {
    let (grown, most) = (peak.saturating_sub(before), limit + memory::bound(1));
    ensure!(grown <= most, "memory grew by {grown} of {most} KiB");
    Ok(())
}

/// Copies a component, so that the test can replace it.
pub(super) fn copy_of(guest: &str, folder: &tempfile::TempDir) -> Result<PathBuf> {
    let path = folder.path().join("service.wasm");
    std::fs::copy(guest_path(guest), &path)?;
    Ok(path)
}
