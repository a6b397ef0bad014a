//! What the others have in common.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::{Binaries, guest_path};
use halfopen_tests::server::{PATIENCE, Server, command};
use socket2::{Domain, Socket, Type};

pub(super) static BINARIES: LazyLock<Binaries> =
    LazyLock::new(|| Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));

/// `halfopen serve` with a shipped service on a free port, and with these flags.
pub(super) fn serve(guest: &str, flags: &[&str], arguments: &[&str]) -> Result<Server> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(flags).arg(guest_path(guest));
    serve.arg("--").args(arguments);
    Server::start(serve, 1)
}

/// The echo without prints.
pub(super) fn echo(flags: &[&str]) -> Result<Server> {
    serve("echo", flags, &["--quiet"])
}

/// A connection that is served.
pub(super) fn served(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    is_served(&mut client)?;
    Ok(client)
}

pub(super) fn is_served(client: &mut Client) -> Result<()> {
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x", "it is not served");
    Ok(())
}

/// A connection from another address of this machine.
pub(super) fn connect_from(from: [u8; 4], to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the other end resets, or sends FIN, before a byte comes.
pub(super) fn is_refused(mut stream: TcpStream) -> Result<bool> {
    // It may be reset already.
    let _ = stream.write_all(b"x");
    match stream.read(&mut [0]) {
        Ok(0) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Asks over HTTP, and returns the status and the body.
pub(super) fn get(address: &str, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

/// A server with an admin address, and that.
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

/// A metric's value, by its name and labels as they stand there.
pub(super) fn metric(admin: &str, name: &str) -> Result<f64> {
    let (_, metrics) = get(admin, "/metrics")?;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    // A counter that never counted is not there.
    Ok(value.unwrap_or("0").parse()?)
}

/// Waits until something is so.
pub(super) fn soon(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A folder for files of a test.
pub(super) fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir()?)
}

/// A copy of a shipped component, to be replaced later.
pub(super) fn copy_of(guest: &str, folder: &tempfile::TempDir) -> Result<PathBuf> {
    let path = folder.path().join("service.wasm");
    std::fs::copy(guest_path(guest), &path)?;
    Ok(path)
}

pub(super) fn descriptors(server: &Server) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", server.id()))?.count())
}
