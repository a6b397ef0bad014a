//! Behind load balancers: the PROXY protocol, by hand and from HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::server::{PATIENCE, Server};
use halfopen_tests::tools::is_missing;
use rustix::process::Signal;

use super::host::{connect_from, folder, is_refused, serve, soon};

const FROM_LOOPBACK: [&str; 2] = ["--proxy-from", "127.0.0.1"];

/// What a service says of whoever sends this.
fn answer(server: &Server, sent: &[u8]) -> Result<String> {
    let mut client = Client::connect(server.address())?;
    client.send(sent)?;
    let (answer, _) = client.end()?;
    Ok(String::from_utf8(answer)?)
}

fn version_2(fields: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 0, 80];
    let length = u16::try_from(addresses.len() + fields.len()).expect("short");
    [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
        &length.to_be_bytes()[..],
        &addresses,
        fields,
    ]
    .concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    [&[kind], &length[..], value].concat()
}

#[test]
fn both_versions_tell_the_service_who_it_is() -> Result<()> {
    let server = serve("whoami", &FROM_LOOPBACK, &[])?;
    let told = answer(&server, b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")?;
    ensure!(told == "192.0.2.1:1000\n", "{told}");
    let told = answer(&server, b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n")?;
    ensure!(told == "[2001:db8::1]:1000\n", "{told}");
    ensure!(answer(&server, &version_2(&[]))? == "192.0.2.1:1000\n");
    let ssl = [
        &[0x03, 0, 0, 0, 0][..],
        &field(0x21, b"TLSv1.3"),
        &field(0x22, b"somebody"),
    ]
    .concat();
    let tls = [
        field(0x01, b"echo"),
        field(0x02, b"a.example"),
        field(0x20, &ssl),
    ]
    .concat();
    let told = answer(&server, &version_2(&tls))?;
    ensure!(
        told == "192.0.2.1:1000 TLSv1.3 ends at the balancer, server a.example, protocol echo, name somebody\n",
        "{told}"
    );
    Ok(())
}

#[test]
fn limits_and_lists_are_about_the_peer_and_not_the_balancer() -> Result<()> {
    let flags = [
        &FROM_LOOPBACK[..],
        &[
            "--deny-peer",
            "192.0.2.0/28",
            "--max-connections-per-peer",
            "1",
            "--access-log",
        ],
    ]
    .concat();
    let server = serve("echo", &flags, &["--quiet"])?;
    let from = |peer: &str| -> Result<TcpStream> {
        let mut stream = connect_from([127, 0, 0, 1], server.address())?;
        write!(stream, "PROXY TCP4 {peer} 192.0.2.99 1000 80\r\n")?;
        Ok(stream)
    };
    ensure!(is_refused(from("192.0.2.1")?)?);
    server.logged("peer=192.0.2.1:1000")?;
    let mut one = from("192.0.2.20")?;
    one.write_all(b"x")?;
    one.read_exact(&mut [0])?;
    ensure!(is_refused(from("192.0.2.20")?)?);
    ensure!(!is_refused(from("192.0.2.21")?)?);
    Ok(())
}

#[test]
fn nobody_is_believed_who_is_not_trusted_or_sends_no_header() -> Result<()> {
    let flags = [
        &FROM_LOOPBACK[..],
        &["--proxy-timeout", "0.5", "--access-log"],
    ]
    .concat();
    let server = serve("whoami", &flags, &[])?;
    let mut stranger = connect_from([127, 0, 0, 2], server.address())?;
    stranger
        .write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")
        .ok();
    ensure!(is_refused(stranger)?);
    server.logged("ending=refused-untrusted")?;
    for rubbish in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.1\r\n",
        &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
        &version_2(&[0x20, 0, 9, 1]),
    ] {
        ensure!(answer(&server, rubbish)?.is_empty());
    }
    // One that never ends, byte by byte: it has no more time than one that never begins.
    let start = Instant::now();
    let mut slow = connect_from([127, 0, 0, 1], server.address())?;
    slow.write_all(b"PROXY TCP4 ")?;
    while slow.write_all(b"1").is_ok() {
        ensure!(start.elapsed() < PATIENCE, "it is still listened to");
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(start.elapsed() < Duration::from_secs(10));
    server.logged("ending=refused-proxy-header")
}

/// HAProxy, ended when this is dropped.
struct Haproxy {
    child: Child,
    address: SocketAddr,
}

impl Haproxy {
    fn before(servers: &[&Server], folder: &tempfile::TempDir) -> Result<Self> {
        // HAProxy takes no port 0; nobody else asks for this one now.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut config = format!(
            "global\n  maxconn 2000\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
             timeout client-fin 60s\n  timeout tunnel 60s\n  retries 5\n  option redispatch 1\n\
             listen in\n  bind {address}\n  balance roundrobin\n"
        );
        for (number, server) in servers.iter().enumerate() {
            config += &format!(
                "  server s{number} {} send-proxy-v2 check check-send-proxy inter 100ms fall 1 rise 1\n",
                server.address()
            );
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config)?;
        let child = Command::new("haproxy")
            .args(["-q", "-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start haproxy: `apt-get install haproxy`")?;
        let haproxy = Haproxy { child, address };
        soon("haproxy forwards", || {
            let Ok(mut client) = Client::connect(address) else {
                return Ok(false);
            };
            client.send(b"x")?;
            Ok(client.receive(1)? == b"x")
        })?;
        Ok(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two servers, one of them stopped and started again while clients come and go.
#[test]
fn haproxy_checks_forwards_and_goes_around_a_restart() -> Result<()> {
    if is_missing("haproxy", "a real load balancer")? {
        return Ok(());
    }
    let folder = folder()?;
    let flags = [&FROM_LOOPBACK[..], &["--grace", "30", "--access-log"]].concat();
    let first = serve("echo", &flags, &[])?;
    let second = serve("echo", &flags, &["--quiet"])?;
    let haproxy = Haproxy::before(&[&first, &second], &folder)?;

    // The server knows the client, and not HAProxy, as its peer.
    soon("the client's address reaches a server", || {
        let mut client = Client::connect(haproxy.address)?;
        client.exchange(1000, 1)?;
        let told = format!("new connection 127.0.0.1 {}", client.address()?.port());
        Ok(first.printed(1).contains(&told))
    })?;

    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let listen = first.address().to_string();
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..4_u64)
            .map(|number| {
                let (stop, done, address) = (&stop, &done, haproxy.address);
                scope.spawn(move || -> Result<()> {
                    while !stop.load(Ordering::Relaxed) {
                        Client::connect(address)?.exchange(50_000, number)?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let some_more = |what: &str| {
            let before = done.load(Ordering::Relaxed);
            soon(what, || Ok(done.load(Ordering::Relaxed) > before + 50))
        };
        let restarted = (|| -> Result<Server> {
            some_more("both serve")?;
            let stopped = first.stop(Signal::TERM)?;
            ensure!(stopped.status.success(), "{stopped:?}");
            some_more("the other serves")?;
            let mut again = halfopen_tests::server::command(
                &super::host::BINARIES.halfopen,
                ["serve", "--listen", &listen],
            );
            again.args(&flags);
            let again = Server::start(again, 1)?;
            again.logged("ending=fin")?;
            some_more("both serve again")?;
            Ok(again)
        })();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no panic")?;
        }
        restarted.map(drop)
    })?;
    println!(
        "{} connections through haproxy over a restart, none lost",
        done.load(Ordering::Relaxed)
    );
    // What HAProxy's checks leave behind is no error of anybody's.
    second.logged("peer=127.0.0.1")?;
    Ok(())
}
