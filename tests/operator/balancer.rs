//! Behind load balancers: the PROXY protocol, written by hand and sent by HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use command_fds::{CommandFdExt, FdMapping};
use halfopen_tests::client::Client;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::Server;
use halfopen_tests::tools::is_missing;
use rustix::process::Signal;

use super::host::{LONG_GRACE, connect_from, folder, is_refused, serve, with_admin};

const FROM_LOOPBACK: [&str; 2] = ["--proxy-from", "127.0.0.1"];

/// Connects and sends these bytes. Returns the answer of the service.
fn answer(server: &Server, sent: &[u8]) -> Result<String> {
    let mut client = Client::connect(server.address())?;
    client.send(sent)?;
    let (answer, _) = client.end()?;
    Ok(String::from_utf8(answer)?)
}

/// Returns a header of version 2, with these fields after the addresses.
fn version_2(fields: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 0, 80];
    let length = u16::try_from(addresses.len() + fields.len()).expect("the header is short");
    [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
        &length.to_be_bytes()[..],
        &addresses,
        fields,
    ]
    .concat()
}

/// Returns a field of version 2.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len())
        .expect("the field is short")
        .to_be_bytes();
    [&[kind], &length[..], value].concat()
}

#[test]
fn both_versions_name_the_peer_to_the_service() -> Result<()> {
    let server = serve("whoami", &FROM_LOOPBACK, &[])?;
    let answered = answer(&server, b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")?;
    ensure!(answered == "192.0.2.1:1000\n", "{answered}");
    let answered = answer(&server, b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n")?;
    ensure!(answered == "[2001:db8::1]:1000\n", "{answered}");
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
    let answered = answer(&server, &version_2(&tls))?;
    ensure!(
        answered
            == "192.0.2.1:1000 TLSv1.3 ends at the balancer, server a.example, protocol echo, name somebody\n",
        "{answered}"
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
fn headers_from_strangers_and_broken_headers_are_refused() -> Result<()> {
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
    // A header that comes byte by byte has no more time than one that never begins.
    let start = Instant::now();
    let mut slow = connect_from([127, 0, 0, 1], server.address())?;
    slow.write_all(b"PROXY TCP4 ")?;
    while slow.write_all(b"1").is_ok() {
        ensure!(start.elapsed() < PATIENCE, "the header has no time limit");
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(start.elapsed() >= Duration::from_millis(500));
    server.logged("ending=refused-proxy-header")
}

/// A running HAProxy. It is killed on drop.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    /// The path of its admin socket.
    admin: PathBuf,
}

impl Haproxy {
    /// Starts HAProxy in front of these servers.
    fn before(servers: &[&Server], folder: &tempfile::TempDir) -> Result<Self> {
        Self::checking(servers, folder, "", |_| "check-send-proxy".to_owned())
    }

    /// Starts HAProxy in front of these servers, with these lines of options. `check` says how
    /// it checks each.
    fn checking(
        servers: &[&Server],
        folder: &tempfile::TempDir,
        options: &str,
        check: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let admin = folder.path().join("haproxy.sock");
        let mut config = format!(
            "global\n  maxconn 2000\n  stats socket {1} level admin\n\
             defaults\n  mode tcp\n  timeout connect {0}s\n  timeout client {0}s\n  \
             timeout server {0}s\n  timeout client-fin {0}s\n  timeout tunnel {0}s\n  \
             timeout check {0}s\n  retries 5\n  option redispatch 1\n\
             listen in\n  bind fd@3\n  balance roundrobin\n{2}",
            PATIENCE.as_secs(),
            admin.display(),
            options
        );
        for (number, server) in servers.iter().enumerate() {
            config += &format!(
                "  server s{number} {} send-proxy-v2 check {} inter 2s fastinter 200ms downinter 200ms \
                 fall 2 rise 1\n",
                server.address(),
                check(number)
            );
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config)?;
        let mut command = Command::new("haproxy");
        command
            .args(["-q", "-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null());
        command.fd_mappings(vec![FdMapping {
            parent_fd: OwnedFd::from(listener),
            child_fd: 3,
        }])?;
        let child = command
            .spawn()
            .context("cannot start haproxy: `apt-get install haproxy`")?;
        let haproxy = Haproxy {
            child,
            address,
            admin,
        };
        eventually("haproxy forwards", || {
            let forwarded = || -> Result<Vec<u8>> {
                let mut client = Client::connect(address)?;
                client.send(b"x")?;
                client.receive(1)
            };
            Ok(forwarded().is_ok_and(|answer| answer == b"x"))
        })?;
        Ok(haproxy)
    }
}

impl Haproxy {
    /// Sends a command to the admin socket, and returns the answer.
    fn order(&self, command: &str) -> Result<String> {
        let mut admin = UnixStream::connect(&self.admin)?;
        admin.set_read_timeout(Some(PATIENCE))?;
        writeln!(admin, "{command}")?;
        let mut answer = String::new();
        admin.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Sends no more connections to a server, and waits until it has none.
    ///
    /// Operators do so before they stop a server: when a listener closes, the kernel resets
    /// connections that nobody has accepted yet (rule L7).
    fn drain(&self, server: &str) -> Result<()> {
        self.order(&format!("set server in/{server} state drain"))?;
        eventually("the server has no connections", || {
            let statistics = self.order("show stat")?;
            let line = statistics
                .lines()
                .find(|line| line.starts_with(&format!("in,{server},")))
                .context("haproxy does not know the server")?;
            // The fifth field is the number of current sessions.
            Ok(line.split(',').nth(4) == Some("0"))
        })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of two servers, one is stopped and started again while clients come and go.
#[test]
fn haproxy_checks_forwards_and_goes_around_a_restart() -> Result<()> {
    if is_missing("haproxy", "a real load balancer")? {
        return Ok(());
    }
    let folder = folder()?;
    let flags = [&FROM_LOOPBACK[..], &LONG_GRACE, &["--access-log"]].concat();
    let first = serve("echo", &flags, &[])?;
    let second = serve("echo", &flags, &["--quiet"])?;
    let haproxy = Haproxy::before(&[&first, &second], &folder)?;

    // The service sees the client as its peer, not HAProxy.
    eventually("the client's address reaches a server", || {
        let mut client = Client::connect(haproxy.address)?;
        client.exchange(1000, 1)?;
        let line = format!("new connection 127.0.0.1 {}", client.address()?.port());
        Ok(first.printed(1).contains(&line))
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
            eventually(what, || Ok(done.load(Ordering::Relaxed) > before + 50))
        };
        let restarted = (|| -> Result<Server> {
            some_more("both serve")?;
            haproxy.drain("s0")?;
            let stopped = first.stop(Signal::TERM)?;
            ensure!(stopped.status.success(), "{stopped:?}");
            some_more("the other serves")?;
            let mut again = halfopen_tests::server::command(
                &super::host::BINARIES.halfopen,
                ["serve", "--listen", &listen],
            );
            again.args(&flags);
            let again = Server::start(again, 1)?;
            haproxy.order("set server in/s0 state ready")?;
            again.logged("ending=fin")?;
            some_more("both serve again")?;
            Ok(again)
        })();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        restarted.map(drop)
    })?;
    println!(
        "{} connections through haproxy over a restart, none lost",
        done.load(Ordering::Relaxed)
    );
    // HAProxy's health checks count as connections of its own address.
    second.logged("peer=127.0.0.1")?;
    Ok(())
}

/// Of two servers, one is stopped with nothing but SIGTERM: its readiness fails first, HAProxy
/// notices, and no client is refused.
#[test]
fn haproxy_notices_a_server_that_drains_before_it_refuses_anybody() -> Result<()> {
    if is_missing("haproxy", "a real load balancer")? {
        return Ok(());
    }
    let folder = folder()?;
    // Only the second signal ends the delay, so that the test depends on no time.
    let flags = [&FROM_LOOPBACK[..], &LONG_GRACE, &["--drain-delay", "3600"]].concat();
    let (first, first_admin) = with_admin("echo", &flags, &["--quiet"])?;
    let (second, second_admin) = with_admin("echo", &flags, &["--quiet"])?;
    let admins = [first_admin, second_admin];
    let port = |number: usize| {
        admins[number]
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    // Without retries, HAProxy ends the client's connection if the server refuses its own.
    let options = "  option httpchk GET /readyz\n  retries 0\n  no option redispatch\n";
    let haproxy = Haproxy::checking(&[&first, &second], &folder, options, |number| {
        format!("port {}", port(number))
    })?;
    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..4_u64)
            .map(|number| {
                let (stop, done, address) = (&stop, &done, haproxy.address);
                scope.spawn(move || -> Result<()> {
                    while !stop.load(Ordering::Relaxed) {
                        Client::connect(address)?.exchange(20_000, number)?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let drained = (|| -> Result<()> {
            first.signal(Signal::TERM)?;
            first.logged("draining;")?;
            eventually("haproxy takes the server out", || {
                let statistics = haproxy.order("show stat")?;
                Ok(statistics
                    .lines()
                    .any(|line| line.starts_with("in,s0,") && line.contains(",DOWN,")))
            })?;
            let before = done.load(Ordering::Relaxed);
            let stopped = first.stop(Signal::TERM)?;
            ensure!(stopped.status.success(), "{stopped:?}");
            eventually("the other serves", || {
                Ok(done.load(Ordering::Relaxed) > before + 50)
            })
        })();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        drained
    })
}
