//! How the process ends: when, and with which status.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::server::{Server, command};
use rustix::net::{Shutdown, shutdown};
use rustix::process::Signal;

use super::activation::activated;
use super::host::{BINARIES, folder, is_served};

/// A server that cannot accept any more is a failure, which systemd restarts. Connections
/// that are open finish first.
#[test]
fn a_server_that_loses_all_its_listeners_fails() -> Result<()> {
    let sockets = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let named = [("echo", &sockets[0]), ("echo", &sockets[1])];
    let server = Server::start(activated(&named, &["--grace", "120"])?, 2)?;
    let mut open = Client::connect(server.address())?;
    is_served(&mut open)?;
    // accept(2) on the sockets, which are the server's as well, fails with EINVAL from now on.
    shutdown(&sockets[0], Shutdown::Both)?;
    server.logged("a listener has failed, and accepts no more")?;
    let mut other = Client::connect(server.addresses[1])?;
    is_served(&mut other)?;
    shutdown(&sockets[1], Shutdown::Both)?;
    server.logged("every listener has failed")?;
    is_served(&mut open)?;
    drop((open, other));
    let stopped = server.wait()?;
    ensure!(stopped.status.code() == Some(1), "{stopped:?}");
    Ok(())
}

/// The services have the same time, and not one after the other.
#[test]
fn the_grace_times_of_services_do_not_add_up() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let mut config = String::new();
    for number in 0..12 {
        writeln!(
            config,
            "[services.echo{number}]\nlisten = [\"127.0.0.1:0\"]\ngrace = 3\nargs = [\"--quiet\"]"
        )?;
    }
    fs::write(&file, config)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 12)?;
    let mut open = Vec::new();
    for &address in &server.addresses {
        let mut client = Client::connect(address)?;
        is_served(&mut client)?;
        open.push(client);
    }
    let start = Instant::now();
    let stopped = server.stop(Signal::TERM)?;
    let took = start.elapsed();
    ensure!(stopped.status.success(), "{stopped:?}");
    let log = stopped.stderr.join("\n");
    ensure!(log.contains("12 of 12 connections did not finish"), "{log}");
    // One after the other would take 36 s.
    ensure!(took < Duration::from_secs(30), "{took:?}");
    Ok(())
}
