//! What an operator sees: the access log, metrics, health.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use rustix::process::Signal;

use super::host::{LONG_GRACE, get, metric, serve, served, with_admin};

#[test]
fn each_connection_has_its_line() -> Result<()> {
    let server = serve("hostile", &["--access-log"], &[])?;
    let line = |client: &Client| -> Result<String> {
        server.logged_line(&format!(
            "closed service=\"hostile\" peer={}",
            client.address()?
        ))
    };
    let has = |line: &str, parts: &[&str]| -> Result<()> {
        for part in parts {
            ensure!(line.contains(part), "`{part}` is missing in: {line}");
        }
        Ok(())
    };
    let mut well = served(&server)?;
    well.send(b"yz")?;
    ensure!(well.receive(2)? == b"yz");
    well.fin()?;
    ensure!(well.end()?.1 == End::Fin);
    has(
        &line(&well)?,
        &[
            "INFO",
            "received=3",
            "sent=3",
            "seconds=",
            "first_end=peer",
            "ending=fin",
        ],
    )?;
    let reset = served(&server)?;
    let peer = reset.try_clone()?;
    reset.reset_now()?;
    let line_of_reset = server.logged_line("ending=reset-by-peer")?;
    has(
        &line_of_reset,
        &["received=1", "sent=1", "error=\"connection-reset\""],
    )
    .context("a reset by the peer")?;
    drop(peer);
    // After an error, the SDK resets the connection before the host could.
    for (how, ending, why) in [
        (
            b"e",
            "reset-by-service",
            "the service failed: asked to fail",
        ),
        (b"t", "trap", "the service trapped"),
    ] {
        let mut bad = Client::connect(server.address())?;
        bad.send(how)?;
        ensure!(bad.end()?.1 == End::Rst);
        has(&line(&bad)?, &[&format!("ending={ending}")])?;
        has(
            &server.logged_line(why)?,
            &[&format!("peer={}", bad.address()?)],
        )?;
    }
    Ok(())
}

#[test]
fn the_log_can_be_read_by_machines() -> Result<()> {
    let server = serve(
        "echo",
        &["--access-log", "--log-format", "json"],
        &["--quiet"],
    )?;
    let mut client = served(&server)?;
    client.fin()?;
    client.end()?;
    let line = server.logged_line("\"closed\"")?;
    let line: serde_json::Value = serde_json::from_str(&line).context("the line is not JSON")?;
    ensure!(line["service"] == "echo", "{line}");
    ensure!(line["peer"] == client.address()?.to_string(), "{line}");
    ensure!(line["received"] == 1 && line["sent"] == 1, "{line}");
    ensure!(
        line["first_end"] == "peer" && line["ending"] == "fin",
        "{line}"
    );
    ensure!(
        line["seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0),
        "{line}"
    );
    Ok(())
}

#[test]
fn metrics_count_connections_and_bytes() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let phase = |phase: &str| {
        metric(
            &admin,
            &format!(r#"halfopen_connections{{service="echo",phase="{phase}"}}"#),
        )
    };
    let total = |name: &str| metric(&admin, &format!(r#"halfopen_{name}{{service="echo"}}"#));
    ensure!(phase("open")? == 0.0);
    let mut open = served(&server)?;
    let mut half = Client::connect(server.address())?;
    half.send(b"q")?;
    ensure!(half.receive(2)? == b"q");
    eventually("one is open and one half-open", || {
        Ok(phase("open")? == 1.0 && phase("half-open")? == 1.0)
    })?;
    ensure!(total("instances")? == 2.0);
    ensure!(total("accepted_total")? == 2.0);
    // The bytes of open connections are counted already.
    ensure!(total("received_bytes_total")? == 2.0);
    open.send(&[b'y'; 100])?;
    open.receive(100)?;
    drop((open, half));
    eventually("both have ended", || {
        let fin = r#"halfopen_closed_total{service="echo",ending="fin"}"#;
        Ok(metric(&admin, fin)? == 2.0 && phase("open")? == 0.0 && total("instances")? == 0.0)
    })?;
    ensure!(total("received_bytes_total")? == 102.0);
    ensure!(total("sent_bytes_total")? == 102.0);
    ensure!(total("connection_duration_seconds_count")? == 2.0);
    Ok(())
}

#[test]
fn readiness_ends_before_the_connections_do() -> Result<()> {
    let (server, admin) = with_admin("echo", &LONG_GRACE, &["--quiet"])?;
    let live = served(&server)?;
    ensure!(get(&admin, "/readyz")?.0.contains("200"));
    ensure!(get(&admin, "/nothing")?.0.contains("404"));
    server.signal(Signal::TERM)?;
    eventually("the server is not ready", || {
        Ok(get(&admin, "/readyz")?.0.contains("503"))
    })?;
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    drop(live);
    ensure!(server.wait()?.status.success());
    Ok(())
}

/// Clients that connect to the admin address and send nothing, or half a request, do not
/// keep `/healthz` from an answer: one of them has to go, and the others need not time out.
#[test]
fn slow_clients_do_not_deny_the_admin_address() -> Result<()> {
    let (_server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let address = admin.parse()?;
    let mut slow: Vec<Client> = (0..16)
        .map(|_| {
            let mut client = Client::connect(address)?;
            client.send(b"GET /healthz HTTP/1.1\r\n")?;
            Ok(client)
        })
        .collect::<Result<_>>()?;
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    let gone = slow
        .iter_mut()
        .filter_map(|client| client.silence(Duration::from_millis(1)).err())
        .count();
    ensure!(gone == 1, "{gone} of 16 slow clients are gone");
    Ok(())
}

/// Clients that connect to the admin address and send nothing hold up nobody.
#[test]
fn the_admin_address_is_bounded() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let address = admin.parse()?;
    let slow: Vec<Client> = (0..200)
        .map(|_| Client::connect(address))
        .collect::<Result<_>>()?;
    served(&server)?;
    drop(slow);
    eventually("the admin address answers", || {
        Ok(get(&admin, "/healthz")?.0.contains("200"))
    })
}
