//! TLS that a service begins on a connection in use: `secure` and `socket-secure`.
//!
//! The services `tests/guests/lift` (callback style) and `tests/guests/upgrade` (await style) do
//! what a client says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::runner::{Binaries, Primitives, Runner};
use halfopen_tests::server::Server;
use halfopen_tests::tls::{Authority, Secure};

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    case("starttls", &["S1", "S7", "P1"], starttls),
    case(
        "starttls-in-await-style",
        &["S1", "S6", "S7"],
        in_await_style,
    ),
    case("starttls-behind-clear-text", &["S2"], behind_clear_text),
    case("starttls-and-clear-text", &["S3"], and_clear_text),
    case("starttls-fails", &["S4"], fails),
    case("starttls-in-a-wrong-state", &["S5"], in_a_wrong_state),
    case(
        "starttls-without-a-certificate",
        &["S6"],
        without_a_certificate,
    ),
    case("starttls-as-client", &["S1", "S6", "S7"], as_client),
    case("starttls-ends-early", &["S8"], ends_early),
    case("starttls-and-idle-time", &["S8", "K14"], and_idle_time),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: |runner| {
            let native = runner.properties().primitives == Primitives::Native;
            native && runner != Runner::Embedded
        },
        elsewhere: "the host has no TLS, or grants none",
        run,
    }
}

/// An authority, and a server with a certificate of it.
struct Host {
    authority: Authority,
    server: Server,
}

impl Host {
    fn start(runner: Runner, binaries: &Binaries, guest: &str, more: &[&str]) -> Result<Self> {
        let authority = Authority::new()?;
        authority.sign("a", "a.example")?;
        let mut flags = authority.flags(&["a"]);
        flags.push("--starttls".to_owned());
        flags.extend([
            "--tls-ca".to_owned(),
            authority.path("ca.pem").display().to_string(),
        ]);
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.extend(["--tls-alpn", "echo", "--allow-connect", "127.0.0.1:*"]);
        flags.extend(more);
        let command = runner.service_with(binaries, guest, &["127.0.0.1:0"], &flags, &[]);
        let server = Server::start(command, 1)?;
        Ok(Host { authority, server })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    /// Asks for TLS in the clear, and does the handshake.
    fn secured(&self) -> Result<Secure> {
        let client = self.client()?;
        client.send("server 0\n")?;
        client.expect(&["go ahead"])?;
        let mut secure = self.authority.secure(client.0, "a.example", None)?;
        expect(&mut secure, &["secured"])?;
        Ok(secure)
    }
}

/// A client in the clear. It reads byte by byte, so that it takes nothing of what follows.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client(stream))
    }

    fn send(&self, text: &str) -> Result<()> {
        Ok((&self.0).write_all(text.as_bytes())?)
    }

    fn line(&self) -> Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            (&self.0).read_exact(&mut byte)?;
            match byte {
                [b'\n'] => return Ok(String::from_utf8(line)?),
                [byte] => line.push(byte),
            }
        }
    }

    fn expect(&self, lines: &[&str]) -> Result<()> {
        for expected in lines {
            let line = self.line()?;
            ensure!(line == *expected, "{line:?}, not {expected:?}");
        }
        Ok(())
    }

    /// Receives until RST.
    fn ends_by_reset(mut self) -> Result<()> {
        let end = self.0.read_to_end(&mut Vec::new());
        let error = end.err().context("FIN, not RST")?;
        ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
        Ok(())
    }
}

fn expect(secure: &mut Secure, lines: &[&str]) -> Result<()> {
    for expected in lines {
        let line = secure.line()?;
        ensure!(line == *expected, "{line:?}, not {expected:?}");
    }
    Ok(())
}

fn send(secure: &mut Secure, text: &str) -> Result<()> {
    Ok(secure.0.write_all(text.as_bytes())?)
}

/// The service sees the session, and each direction ends on its own.
fn starttls(runner: Runner, binaries: &Binaries) -> Result<()> {
    let host = Host::start(runner, binaries, "lift", &[])?;
    let client = host.client()?;
    client.send("tls\n")?;
    client.expect(&["no tls"])?;
    client.send("server 0\n")?;
    client.expect(&["go ahead"])?;
    let mut client = host.authority.secure(client.0, "a.example", None)?;
    send(&mut client, "tls\n")?;
    let session = "tls TLSv1.3 for a.example with echo, name -, certificates 0";
    expect(&mut client, &["secured", session])?;
    // The client ends first; the other direction goes on.
    send(&mut client, "timeout 50\n")?;
    expect(&mut client, &["done timeout 50"])?;
    client.close_notify()?;
    client.0.sock.shutdown(std::net::Shutdown::Write)?;
    host.server.logged("end")?;
    expect(&mut client, &["timeout", "timeout"])?;
    drop(client);

    // The server ends first.
    let mut client = host.secured()?;
    send(&mut client, "end\n")?;
    ensure!(client.rest()?.is_empty());
    send(&mut client, "unknown to the service\n")?;
    client.close_notify()?;
    client.0.sock.shutdown(std::net::Shutdown::Write)?;
    host.server.logged("close false")?;

    // FIN without an end of TLS is a truncation.
    let client = host.secured()?;
    client.0.sock.shutdown(std::net::Shutdown::Write)?;
    host.server.logged("error: truncated: ")
}

fn in_await_style(runner: Runner, binaries: &Binaries) -> Result<()> {
    let host = Host::start(runner, binaries, "upgrade", &["--tls-alpn", "upgrade"])?;
    let client = host.client()?;
    client.send("in the clear\ntls\nSTARTTLS\n")?;
    client.expect(&["IN THE CLEAR", "tls ", "220 go ahead"])?;
    let mut client = host.authority.secure(client.0, "a.example", None)?;
    send(&mut client, "within\ntls\n")?;
    expect(&mut client, &["secured", "WITHIN", "tls TLSv1.3"])?;
    // TLS begins once. The service is a client as well, here of itself.
    let port = host.server.address().port();
    send(&mut client, &format!("STARTTLS\nCLIENT {port} a.example\n"))?;
    let refused = "no TLS: invalid state: it was used or has ended before";
    expect(&mut client, &["220 go ahead", refused, "secured"])?;
    send(&mut client, &format!("CLIENT {port} b.example\n"))?;
    expect(&mut client, &["tls TLSv1.3"])?;
    let refused = client.line()?;
    ensure!(
        refused.starts_with("no answer: TLS: invalid peer certificate"),
        "{refused}"
    );
    // Much goes either way.
    let line = "x".repeat(8000);
    for _ in 0..200 {
        send(&mut client, &format!("{line}\n"))?;
        expect(&mut client, &[&line.to_uppercase()])?;
    }
    client.close_notify()?;
    ensure!(client.rest()?.is_empty());

    // What was received behind the request is refused, wherever it waits.
    let client = host.client()?;
    client.send("STARTTLS\nEVIL\n")?;
    host.server.logged("no TLS: data in the clear")?;
    client.ends_by_reset()
}

/// What was written before is sent in the clear and first, what is written after it within TLS.
fn behind_clear_text(runner: Runner, binaries: &Binaries) -> Result<()> {
    const MUCH: usize = 8 * 1024;
    let host = Host::start(runner, binaries, "lift", &[])?;
    let mut client = host.client()?;
    client.send(&format!("server-behind {MUCH}\n"))?;
    let mut clear = vec![0; 1024 * MUCH];
    client.0.read_exact(&mut clear)?;
    ensure!(clear.iter().all(|byte| *byte == b'.'));
    client.expect(&["go ahead"])?;
    let mut client = host.authority.secure(client.0, "a.example", None)?;
    expect(&mut client, &["within TLS", "secured"])?;
    send(&mut client, "write still-there\n")?;
    ensure!(client.line()? == "still-theretaken true");
    Ok(())
}

/// CVE-2011-0411: what came in the clear behind the request is never taken for data of the
/// session.
fn and_clear_text(runner: Runner, binaries: &Binaries) -> Result<()> {
    let host = Host::start(runner, binaries, "lift", &["--access-log"])?;
    let hello = "\u{16}\u{3}\u{1}\u{2}"; // how a ClientHello begins
    // Behind the request in the same packet; the same, with a handshake behind that; as the
    // service says; and while it waits in the host.
    for request in [
        "server 0\nEVIL\n".to_owned(),
        format!("server 0\nEVIL\n{hello}"),
        format!("server 0\n{hello}"),
        "server 4\n".to_owned(),
    ] {
        let client = host.client()?;
        client.send(&request)?;
        client.ends_by_reset()?;
    }
    let client = host.client()?;
    client.send("server-late 200\n")?;
    client.expect(&["done server-late 200"])?;
    client.send("EVIL\n")?;
    client.ends_by_reset()?;
    // After the answer, on its way while the service waits for a handshake.
    let client = host.client()?;
    client.send("server 0\n")?;
    client.expect(&["go ahead"])?;
    client.send("EVIL\n")?;
    client.ends_by_reset()?;
    let refused = "error: data in the clear came behind the request for TLS";
    eventually("each of them is reported to the service", || {
        let errors = host.server.errors();
        Ok(errors.iter().filter(|line| line.contains(refused)).count() == 6)
    })?;
    host.server.logged("ending=clear-text")?;
    // Others are not affected.
    host.secured().map(drop)
}

/// A handshake that fails is the connection's failure.
fn fails(runner: Runner, binaries: &Binaries) -> Result<()> {
    let more = ["--tls-timeout", "1", "--access-log"];
    let host = Host::start(runner, binaries, "lift", &more)?;
    let begin = |host: &Host| -> Result<Client> {
        let client = host.client()?;
        client.send("server 0\n")?;
        client.expect(&["go ahead"])?;
        Ok(client)
    };
    // The client trusts another authority.
    let stranger = Authority::new()?;
    ensure!(stranger.secure(begin(&host)?.0, "a.example", None).is_err());
    host.server.logged("error: TLS: received fatal alert: ")?;
    host.server.logged("close true")?;
    // It leaves.
    let client = begin(&host)?;
    client.0.shutdown(std::net::Shutdown::Write)?;
    host.server
        .logged("error: TLS: the peer has ended the connection")?;
    // It says nothing.
    let began = Instant::now();
    begin(&host)?.ends_by_reset()?;
    ensure!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    host.server.logged("error: timeout")?;
    host.server.logged("ending=limit-handshake")?;
    // It sends rubbish that looks like TLS, and gets an alert.
    let mut client = begin(&host)?;
    client.0.write_all(&[22, 3, 1, 0, 4, 9, 0, 0, 0])?;
    let mut alert = [0];
    client.0.read_exact(&mut alert)?;
    ensure!(alert == [21], "{alert:?}");
    Ok(())
}

fn in_a_wrong_state(runner: Runner, binaries: &Binaries) -> Result<()> {
    let host = Host::start(runner, binaries, "lift", &[])?;
    let mut client = host.secured()?;
    send(&mut client, "server 0\nclient a.example\n")?;
    let refused = "refused: invalid-state";
    expect(&mut client, &["go ahead", refused, refused])?;
    // A connection that does not exist yet, and one that is piped.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let client = host.client()?;
    client.send(&format!("connect {port}\nup client a.example\n"))?;
    client.expect(&[&format!("done connect {port}"), refused, "up connection"])?;
    let (mut upstream, _) = listener.accept()?;
    client.send("up pipe\nup client a.example\nclient a.example\n")?;
    // The first line is the last that the service itself reads of the client. It goes on with
    // those that came with it, and the pipe with what follows.
    client.expect(&["done up pipe", refused, refused])?;
    client.send("to the end")?;
    let mut passed = [0; 10];
    upstream.read_exact(&mut passed)?;
    ensure!(passed == *b"to the end");
    // A handshake that goes on has the connection alone.
    let client = host.client()?;
    client.send(&format!("connect {port}\n"))?;
    let (_upstream, _) = listener.accept()?;
    client.expect(&[&format!("done connect {port}"), "up connection"])?;
    client.send("up client a.example\nup pipe\nup client a.example\n")?;
    client.expect(&["done up client a.example", refused, refused])
}

fn without_a_certificate(runner: Runner, binaries: &Binaries) -> Result<()> {
    let command = runner.service_with(binaries, "lift", &["127.0.0.1:0"], &[], &[]);
    let server = Server::start(command, 1)?;
    let client = Client::connect(server.address())?;
    client.send("server 0\n")?;
    client.expect(&["go ahead", "refused: access-denied"])?;
    client.send("tls\n")?;
    client.expect(&["no tls"])?;
    let logged = server.logged_line("may not begin TLS as the server")?;
    ensure!(logged.contains("--starttls"), "{logged}");
    Ok(())
}

/// The service begins TLS as the client of a server that it has connected to.
fn as_client(runner: Runner, binaries: &Binaries) -> Result<()> {
    let host = Host::start(runner, binaries, "lift", &[])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let connected = || -> Result<(Client, TcpStream)> {
        let client = host.client()?;
        client.send(&format!("connect {port}\n"))?;
        let (upstream, _) = listener.accept()?;
        upstream.set_read_timeout(Some(PATIENCE))?;
        client.expect(&[&format!("done connect {port}"), "up connection"])?;
        Ok((client, upstream))
    };
    let (client, mut upstream) = connected()?;
    client.send("up write please\n")?;
    client.expect(&["taken true"])?;
    let mut please = [0; 6];
    upstream.read_exact(&mut please)?;
    upstream.write_all(b"S")?;
    client.expect(&["up data S"])?;
    client.send("up client a.example postgresql\n")?;
    client.expect(&["done up client a.example postgresql"])?;
    let mut upstream = host.authority.accept(upstream, "a", &["postgresql"])?;
    ensure!(upstream.conn.server_name() == Some("a.example"));
    ensure!(upstream.conn.alpn_protocol() == Some(&b"postgresql"[..]));
    client.expect(&["up secured"])?;
    client.send("up tls\nup write question\nup end\n")?;
    client.expect(&[
        "tls TLSv1.3 for - with postgresql, name a.example, certificates 1",
        "taken true",
        "done up end",
    ])?;
    let mut question = String::new();
    upstream.read_to_string(&mut question)?;
    ensure!(question == "question");
    // Its end is seen, and this direction still open.
    upstream.write_all(b"answer")?;
    client.expect(&["up data answer"])?;
    upstream.conn.send_close_notify();
    upstream.flush()?;
    client.expect(&["up end", "up close false"])?;

    // The name is checked, and the authority.
    for (name, authority, why) in [
        ("b.example", &host.authority, "not valid for name"),
        ("a.example", &Authority::new()?, "BadSignature"),
    ] {
        authority.sign("a", "a.example")?;
        let (client, upstream) = connected()?;
        client.send(&format!("up client {name}\n"))?;
        client.expect(&[&format!("done up client {name}")])?;
        ensure!(authority.accept(upstream, "a", &[]).is_err());
        let error = client.line()?;
        let begins = "up error TLS: invalid peer certificate: ";
        ensure!(error.starts_with(begins) && error.contains(why), "{error}");
        client.expect(&["up close true"])?;
    }
    // Neither a name nor a protocol.
    let (client, _upstream) = connected()?;
    client.send("up client no_host_/name\nup client a.example \n")?;
    let refused = "refused: invalid-argument";
    client.expect(&[refused, refused])?;
    client.send("up write x\n")?;
    client.expect(&["taken true"])
}

/// What a service does while the handshake goes on.
fn ends_early(runner: Runner, binaries: &Binaries) -> Result<()> {
    let host = Host::start(runner, binaries, "lift", &[])?;
    // FIN comes behind the handshake.
    let client = host.client()?;
    client.send("server-end\n")?;
    client.expect(&["go ahead"])?;
    let mut client = host.authority.secure(client.0, "a.example", None)?;
    ensure!(client.rest()?.is_empty());
    client.close_notify()?;
    // Without a session nothing can end well.
    let client = host.client()?;
    client.send("server-destroy\n")?;
    client.ends_by_reset()?;
    host.server.logged("close false")
}

/// The idle time counts on while the handshake goes on, and anew after it.
fn and_idle_time(runner: Runner, binaries: &Binaries) -> Result<()> {
    const TIME: Duration = Duration::from_millis(150);
    let host = Host::start(runner, binaries, "lift", &[])?;
    let client = host.client()?;
    client.send("timeout 150\nserver 0\n")?;
    client.expect(&["done timeout 150", "go ahead"])?;
    // The event comes meanwhile, and once; what it writes waits for the session.
    thread::sleep(3 * TIME);
    let handshake = Instant::now();
    let mut client = host.authority.secure(client.0, "a.example", None)?;
    expect(&mut client, &["timeout", "secured", "timeout"])?;
    ensure!(handshake.elapsed() >= TIME, "{:?}", handshake.elapsed());
    Ok(())
}
