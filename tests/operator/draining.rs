//! The time between the request to stop and the stop, in which load balancers notice.

use std::net::TcpStream;

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::eventually;
use rustix::process::Signal;

use super::activation::{Manager, activated, listener};
use super::host::{connect_from, folder, get, is_refused, is_served, served, with_admin};

/// Longer than any test takes: only a signal ends it.
const LONG: [&str; 2] = ["--drain-delay", "3600"];

#[test]
fn readiness_fails_at_once_and_accepting_goes_on_until_the_second_signal() -> Result<()> {
    let flags = [&LONG[..], &["--grace", "3600"]].concat();
    let (server, admin) = with_admin("echo", &flags, &[])?;
    let mut before = served(&server)?;
    ensure!(get(&admin, "/readyz")?.0.contains("200"));
    server.signal(Signal::TERM)?;
    server.logged("draining; connections are accepted for another 3600 s")?;
    ensure!(get(&admin, "/readyz")?.0.contains("503"));
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    let mut during = served(&server)?;
    server.signal(Signal::HUP)?;
    server.logged("not reloaded: the server is about to stop")?;
    server.signal(Signal::TERM)?;
    server.logged("stopping; 2 connections have 3600 s to finish")?;
    eventually("connections are refused", || {
        Ok(TcpStream::connect(server.address()).is_err())
    })?;
    is_served(&mut before)?;
    is_served(&mut during)?;
    // The third signal ends the process.
    let stopped = server.stop(Signal::TERM)?;
    ensure!(stopped.status.code() == Some(1), "{stopped:?}");
    Ok(())
}

#[test]
fn the_delay_ends_by_itself_and_the_grace_begins_after_it() -> Result<()> {
    let flags = ["--drain-delay", "0.2", "--grace", "3600"];
    let (server, _) = with_admin("echo", &flags, &[])?;
    let mut open = served(&server)?;
    server.signal(Signal::TERM)?;
    server.logged("draining; connections are accepted for another 0.2 s")?;
    server.logged("stopping; 1 connections have 3600 s to finish")?;
    is_served(&mut open)?;
    drop(open);
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(())
}

/// The manager hears of the stop at its beginning, and is asked for more time in both phases:
/// the sum may be longer than its `TimeoutStopSec=`.
#[test]
fn systemd_learns_of_the_stop_and_extends_its_time() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("notify");
    let manager = Manager::new(&path)?;
    let flags = [&LONG[..], &["--grace", "3600"]].concat();
    let mut command = activated(&[("echo", &listener()?)], &flags)?;
    command.env("NOTIFY_SOCKET", &path);
    let server = halfopen_tests::server::Server::start(command, 1)?;
    let open = served(&server)?;
    server.signal(Signal::TERM)?;
    manager.receives("STOPPING=1")?;
    manager.receives("EXTEND_TIMEOUT_USEC=20000000")?;
    server.signal(Signal::TERM)?;
    server.logged("stopping; 1 connections")?;
    manager.receives("EXTEND_TIMEOUT_USEC=20000000")?;
    drop(open);
    ensure!(server.wait()?.status.success());
    Ok(())
}

/// A balancer's own connections are reset meanwhile; those that it forwards are served.
#[test]
fn health_checks_of_the_proxy_protocol_fail_while_clients_are_served() -> Result<()> {
    let flags = [&LONG[..], &["--proxy-from", "127.0.0.1", "--access-log"]].concat();
    let (server, _) = with_admin("echo", &flags, &[])?;
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let mut check = Client::connect(server.address())?;
    check.send(LOCAL)?;
    is_served(&mut check)?;
    server.signal(Signal::TERM)?;
    server.logged("draining;")?;
    let mut check = connect_from([127, 0, 0, 1], server.address())?;
    std::io::Write::write_all(&mut check, LOCAL)?;
    ensure!(is_refused(check)?, "the health check succeeds");
    server.logged("ending=refused-stopped")?;
    let mut client = Client::connect(server.address())?;
    client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")?;
    is_served(&mut client)?;
    Ok(())
}

/// A mistake in the flag is one line that names it.
#[test]
fn a_delay_is_a_number_of_seconds() -> Result<()> {
    let command = halfopen_tests::server::command(
        &super::host::BINARIES.halfopen,
        ["serve", "--drain-delay", "-1"],
    );
    let stopped = halfopen_tests::server::run(command)?;
    ensure!(!stopped.status.success());
    let error = stopped.stderr.join("\n");
    ensure!(
        error.contains("--drain-delay") && error.contains("a time is not negative"),
        "{error}"
    );
    Ok(())
}
