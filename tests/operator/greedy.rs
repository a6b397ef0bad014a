//! Services that take more than their connections need: what they may have is bounded, and what
//! outlasts a connection ends.
//!
//! The guest `greedy` does what the first line of a connection says.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::memory;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::Server;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use super::host::{connect_from, grew_within, is_refused, is_served, metric, serve, with_admin};

const CONNECT: [&str; 2] = ["--allow-connect", "127.0.0.1:*"];

/// Connects, and says what to do.
fn ask(server: &Server, command: &str) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(format!("{command}\n").as_bytes())?;
    Ok(client)
}

/// Receives one line, without its end.
fn line(client: &mut Client) -> Result<String> {
    let mut line = Vec::new();
    loop {
        match client.receive(1)?[..] {
            [b'\n'] => return Ok(String::from_utf8(line)?),
            [byte] => line.push(byte),
            _ => anyhow::bail!("the connection ended within a line: {line:?}"),
        }
    }
}

/// Checks that the echo of `greedy` serves a new connection.
fn echoes(server: &Server) -> Result<()> {
    let mut client = ask(server, "hello")?;
    ensure!(line(&mut client)? == "hello");
    client.fin()?;
    ensure!(client.end()? == (Vec::new(), End::Fin));
    Ok(())
}

/// Connects, and returns how the server ends the connection. The reset may come before
/// connect(2) returns, and Linux reports it once.
fn end_of_connecting(address: SocketAddr) -> Result<End> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    match socket.connect(&address.into()) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(End::Rst),
        connected => connected?,
    }
    Ok(Client::from(TcpStream::from(socket)).end()?.1)
}

fn instances(admin: &str) -> Result<f64> {
    metric(admin, r#"halfopen_instances{service="greedy"}"#)
}

/// A listener that nobody accepts from, and whose backlog is full: the kernel drops further
/// SYNs, as an upstream does that is dead. Returns what has to stay open, and the address.
fn dead_upstream() -> Result<(Vec<Socket>, SocketAddr)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(0)?;
    let address = listener.local_addr()?.as_socket().context("no address")?;
    let mut open = vec![listener];
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let connected = client.connect_timeout(&address.into(), Duration::from_secs(2));
        open.push(client);
        if connected.is_err() {
            return Ok((open, address));
        }
        ensure!(open.len() < 100, "the backlog is never full");
    }
}

#[test]
fn an_instance_ends_some_time_after_its_connection() -> Result<()> {
    let (server, admin) = with_admin("greedy", &["--background-timeout", "2"], &[])?;
    let start = Instant::now();
    let mut left = ask(&server, "leave")?;
    ensure!(
        left.end()? == (Vec::new(), End::Fin),
        "it does not drop the connection"
    );
    drop(left);
    eventually("the instance has ended", || Ok(instances(&admin)? == 0.0))?;
    ensure!(start.elapsed() >= Duration::from_secs(2), "too soon");
    let line = "an instance still ran 2 s after its connection, and was ended";
    let line = server.logged_line(line)?;
    ensure!(line.contains(r#"service="greedy""#), "{line}");
    echoes(&server)
}

/// The peer has gone, and the upstream of the service neither answers nor closes.
#[test]
fn a_service_that_waits_for_a_dead_upstream_ends_after_its_connection() -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let flags = [&CONNECT[..], &["--background-timeout", "1"]].concat();
    let (server, admin) = with_admin("greedy", &flags, &[])?;
    let mut client = ask(
        &server,
        &format!("orphan {}", upstream.local_addr()?.port()),
    )?;
    ensure!(line(&mut client)? == "connected");
    let (upstream, _) = upstream.accept()?;
    drop(client);
    let mut upstream = Client::from(upstream);
    // RST: the upstream cannot take the end for that of a request.
    ensure!(upstream.end()? == (Vec::new(), End::Rst));
    eventually("the instance has ended", || Ok(instances(&admin)? == 0.0))
}

#[test]
fn instances_that_outlast_their_connections_count() -> Result<()> {
    let flags = ["--max-instances", "2", "--background-timeout", "5"];
    let (server, admin) = with_admin("greedy", &flags, &[])?;
    for _ in 0..2 {
        ask(&server, "leave")?.end()?;
    }
    ensure!(instances(&admin)? == 2.0, "{}", instances(&admin)?);
    // The instance that has outlasted its connection for longest makes room.
    echoes(&server)?;
    ensure!(instances(&admin)? <= 2.0);

    let flags = [
        &flags[..2],
        &["--background-timeout", "600", "--at-limit", "refuse"],
    ]
    .concat();
    let (server, admin) = with_admin("greedy", &flags, &[])?;
    for _ in 0..2 {
        ask(&server, "leave")?.end()?;
    }
    // Until then their instances have not outlasted them.
    eventually("both connections have closed", || {
        let closed = r#"halfopen_closed_total{service="greedy",ending="fin"}"#;
        Ok(metric(&admin, closed)? == 2.0)
    })?;
    // Also where connections are refused otherwise, and long before the time is over.
    let mut open = ask(&server, "hello")?;
    ensure!(line(&mut open)? == "hello");
    ensure!(instances(&admin)? <= 2.0);

    // Instances whose connections are open make no room.
    let (server, admin) = with_admin("greedy", &flags, &[])?;
    let _open = [
        Client::connect(server.address())?,
        Client::connect(server.address())?,
    ];
    eventually("both have an instance", || Ok(instances(&admin)? == 2.0))?;
    ensure!(is_refused(connect_from([127, 0, 0, 1], server.address())?)?);
    Ok(())
}

/// A connection that waits for an instance is reset at the end of the server, and the server
/// ends in time.
#[test]
fn a_server_stops_while_instances_outlast_their_connections() -> Result<()> {
    let flags = [
        "--max-instances",
        "1",
        "--background-timeout",
        "0",
        "--grace",
        "1",
    ];
    let server = serve("greedy", &flags, &[])?;
    ask(&server, "leave")?.end()?;
    let mut waiting = Client::connect(server.address())?;
    waiting.silence(Duration::from_millis(300))?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    ensure!(waiting.end()? == (Vec::new(), End::Rst));
    Ok(())
}

#[test]
fn a_shared_instance_ends_with_too_many_calls_that_outlast_their_connections() -> Result<()> {
    let flags = [
        "--isolation",
        "shared",
        "--max-instances",
        "3",
        "--background-timeout",
        "1",
    ];
    let (server, admin) = with_admin("greedy", &flags, &[])?;
    let mut other = Client::connect(server.address())?;
    for _ in 0..2 {
        ask(&server, "leave")?.end()?;
    }
    // Two of them are allowed.
    thread::sleep(Duration::from_secs(3));
    other.silence(Duration::from_millis(300))?;
    ask(&server, "leave")?.end()?;
    ensure!(other.end()? == (Vec::new(), End::Rst));
    server.logged("3 of its calls go on long after their connections; --max-instances")?;
    let traps = r#"halfopen_traps_total{service="greedy"}"#;
    eventually("the end is counted", || Ok(metric(&admin, traps)? == 1.0))?;
    echoes(&server)
}

/// After a reload, the old version ends although one of its calls would go on for ever.
#[test]
fn a_shared_instance_ends_when_only_calls_without_connections_are_left() -> Result<()> {
    let flags = [
        "--isolation",
        "shared",
        "--background-timeout",
        "1",
        "--grace",
        "60",
    ];
    let server = serve("greedy", &flags, &[])?;
    ask(&server, "leave")?.end()?;
    let start = Instant::now();
    let stopped = server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    ensure!(
        start.elapsed() < Duration::from_secs(60),
        "it took the whole grace time"
    );
    Ok(())
}

#[test]
fn a_connection_whose_instance_cannot_start_is_reset() -> Result<()> {
    for isolation in ["connection", "shared"] {
        // Less than the memory with which the component starts.
        let server = serve(
            "greedy",
            &["--max-memory", "1", "--isolation", isolation],
            &[],
        )?;
        for _ in 0..3 {
            // The client sends nothing: unread data would make any close a reset.
            let ended = end_of_connecting(server.address())?;
            ensure!(ended == End::Rst, "{isolation}: {ended:?}");
        }
        server.logged("the service trapped")?;
    }
    Ok(())
}

#[test]
fn an_instance_opens_only_so_many_sockets() -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let port = upstream.local_addr()?.port();
    let accepting = upstream.try_clone()?;
    thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((stream, _)) = accepting.accept() {
            open.push(stream);
        }
    });
    let flags = [
        "--allow-listen",
        "127.0.0.1:*",
        "--max-sockets",
        "5",
        "--max-sockets-total",
        "8",
    ];
    let server = serve("greedy", &[&CONNECT[..], &flags].concat(), &[])?;
    // The first connection opens what is opened once.
    echoes(&server)?;
    let before = server.descriptors()?;
    let mut first = ask(&server, &format!("connect {port}"))?;
    let answer = line(&mut first)?;
    ensure!(
        answer.starts_with("5: ") && answer.contains("an instance may have 5"),
        "{answer}"
    );
    let mut second = ask(&server, "listen")?;
    let answer = line(&mut second)?;
    ensure!(
        answer.starts_with("3: ") && answer.contains("all instances together may have 8"),
        "{answer}"
    );
    ensure!(
        server.descriptors()? <= before + 8 + 2,
        "{before}: {}",
        server.descriptors()?
    );
    // The places are free again when the sockets are closed.
    for mut client in [first, second] {
        client.fin()?;
        client.end()?;
    }
    server.closes_to(before)?;
    let answer = line(&mut ask(&server, "listen")?)?;
    ensure!(answer.starts_with("5: "), "{answer}");
    Ok(())
}

#[test]
fn connecting_takes_only_so_long() -> Result<()> {
    let (_open, address) = dead_upstream()?;
    let flags = [&CONNECT[..], &["--connect-timeout", "2"]].concat();
    let server = serve("greedy", &flags, &[])?;
    let start = Instant::now();
    let answer = line(&mut ask(&server, &format!("connect {}", address.port()))?)?;
    ensure!(start.elapsed() >= Duration::from_secs(2), "too soon");
    // The kernel gives up as well, after about two minutes.
    ensure!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    ensure!(
        answer.starts_with("0: ") && answer.contains("time"),
        "{answer}"
    );
    Ok(())
}

#[test]
fn the_limits_on_time_hold_for_connections_of_the_service() -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let flags = [&CONNECT[..], &["--idle-timeout", "3"]].concat();
    let server = serve("greedy", &flags, &[])?;
    let start = Instant::now();
    let mut client = ask(
        &server,
        &format!("upstream {}", upstream.local_addr()?.port()),
    )?;
    ensure!(line(&mut client)? == "connected");
    let mut upstream = Client::from(upstream.accept()?.0);
    while server.printed(0).is_empty() {
        // The service's own connection is not idle.
        is_served(&mut client)?;
        ensure!(start.elapsed() < PATIENCE, "the limit does not strike");
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(start.elapsed() >= Duration::from_secs(3), "too soon");
    ensure!(upstream.end()? == (Vec::new(), End::Rst));
    let printed = server.printed(1);
    ensure!(printed[0].starts_with("upstream: time"), "{printed:?}");
    Ok(())
}

/// `--max-memory` bounds what the host allocates for handles as well.
#[test]
fn handles_count_as_memory() -> Result<()> {
    const MEBIBYTES: usize = 4;
    let flags = ["--max-memory", &MEBIBYTES.to_string()];
    let server = serve("greedy", &flags, &[])?;
    echoes(&server)?;
    let before = memory::at_rest(&server)?;
    let (peak, ended) = memory::peak(&server, || {
        let mut greedy = ask(&server, "streams 40000")?;
        greedy.end()
    })?;
    ensure!(ended == (Vec::new(), End::Rst), "{ended:?}");
    grew_within(before, peak, MEBIBYTES * 1024)?;
    // A reasonable number of them is allowed.
    let mut modest = ask(&server, "streams 500")?;
    ensure!(line(&mut modest)? == "made");
    Ok(())
}

/// The number of times that the threads of a process have gone to sleep (proc_pid_status(5)).
fn sleeps(server: &Server) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", server.id()))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .context("no voluntary_ctxt_switches")?;
        sum += count.trim().parse::<u64>()?;
    }
    Ok(sum)
}

#[test]
fn an_idle_server_sleeps() -> Result<()> {
    const SECONDS: u64 = 5;
    for isolation in ["connection", "shared"] {
        let server = serve("echo", &["--isolation", isolation], &["--quiet"])?;
        let mut idle = Client::connect(server.address())?;
        is_served(&mut idle)?;
        thread::sleep(Duration::from_secs(1));
        let before = sleeps(&server)?;
        thread::sleep(Duration::from_secs(SECONDS));
        let slept = sleeps(&server)? - before;
        // Limits on time are checked every second; the epoch would add a hundred.
        println!("{isolation}: slept {slept} times in {SECONDS} s");
        ensure!(
            slept <= 10 * SECONDS,
            "{isolation}: slept {slept} times in {SECONDS} s"
        );
        is_served(&mut idle)?;
    }
    Ok(())
}

#[test]
fn a_call_that_holds_up_the_others_is_named() -> Result<()> {
    let server = serve("greedy", &["--isolation", "shared"], &[])?;
    let mut busy = ask(&server, "compute 3000")?;
    let said = server.logged_line("computed without waiting for 1 s")?;
    ensure!(
        said.contains(&format!("peer={}", busy.address()?)),
        "{said}"
    );
    ensure!(said.contains("WARN"), "{said}");
    ensure!(line(&mut busy)? == "computed");
    echoes(&server)
}
