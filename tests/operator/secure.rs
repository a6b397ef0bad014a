//! TLS: the choice of certificates, the identity of peers, and half-close within a session.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::eventually;
use halfopen_tests::server::{command, run};
use halfopen_tests::tls::Authority;

use super::host::BINARIES;

#[test]
fn the_requested_name_chooses_the_certificate_and_the_service_sees_it() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    authority.sign("b", "b.example")?;
    let server = authority.serve(
        &BINARIES.halfopen,
        "whoami",
        &["a", "b"],
        &["--tls-alpn", "echo"],
    )?;
    for name in ["a.example", "b.example"] {
        let mut client = authority.connect(server.address(), name, None)?;
        let peer = client.0.sock.local_addr()?;
        let answer = client.rest()?;
        let expected = format!("{peer} TLSv1.3 ends at the host, server {name}, protocol echo\n");
        ensure!(answer == expected, "{answer}");
    }
    // A client that requests another name gets the first certificate.
    let error = authority.connect(server.address(), "c.example", None).err();
    let error = error
        .context("there is no certificate for c.example")?
        .to_string();
    ensure!(error.contains("a.example"), "{error}");
    Ok(())
}

#[test]
fn clients_need_certificates_of_the_authority() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("server", "a.example")?;
    authority.sign("client", "somebody")?;
    let stranger = Authority::new()?;
    stranger.sign("client", "nobody")?;
    fs::copy(stranger.path("client.pem"), authority.path("stranger.pem"))?;
    fs::copy(stranger.path("client.key"), authority.path("stranger.key"))?;
    let ca = authority.path("ca.pem").display().to_string();
    let server = authority.serve(
        &BINARIES.halfopen,
        "whoami",
        &["server"],
        &["--tls-client-ca", &ca, "--access-log"],
    )?;
    let mut client = authority.connect(server.address(), "a.example", Some("client"))?;
    let answer = client.rest()?;
    ensure!(
        answer.ends_with(", name somebody, certificates 1\n"),
        "{answer}"
    );
    for own in [None, Some("stranger")] {
        // In TLS 1.3 the client's handshake is over before the server has checked its
        // certificate; the alert comes with the first read.
        let refused = authority
            .connect(server.address(), "a.example", own)
            .and_then(|mut client| client.rest());
        ensure!(refused.is_err(), "{own:?}: {refused:?}");
    }
    server.logged("ending=refused-tls")
}

#[test]
fn close_notify_ends_one_direction() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    // The client's direction ends first; the answer comes on the other one.
    let server = authority.serve(&BINARIES.halfopen, "digest", &["a"], &[])?;
    let mut client = authority.connect(server.address(), "a.example", None)?;
    client.0.write_all(b"one two")?;
    client.close_notify()?;
    let answer = client.rest()?;
    ensure!(answer.starts_with("7 bytes, SHA-256 "), "{answer}");

    // The server's direction ends first; data that the client sends then still arrives.
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &[])?;
    let mut client = authority.connect(server.address(), "a.example", None)?;
    client.0.write_all(b"q")?;
    ensure!(client.rest()? == "q");
    client.0.write_all(b"more")?;
    client.0.flush()?;
    client.close_notify()?;
    let printed = server.printed(5);
    ensure!(
        printed.get(1..).unwrap_or_default()
            == [
                "data: <Buffer 71>",
                "closing.",
                "data: <Buffer 6d 6f 72 65>",
                "EOF."
            ],
        "{printed:?}"
    );
    Ok(())
}

/// FIN without `close_notify` is an error: anyone on the network path could have sent it.
#[test]
fn a_fin_alone_is_a_truncation() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let server = authority.serve(&BINARIES.halfopen, "digest", &["a"], &["--access-log"])?;
    let mut client = authority.connect(server.address(), "a.example", None)?;
    client.0.write_all(b"one two")?;
    client.0.flush()?;
    client.0.sock.shutdown(std::net::Shutdown::Write)?;
    server.logged("truncated: the peer sent FIN without TLS close_notify")?;
    let answer = client.rest();
    ensure!(answer.is_err(), "the service answered: {answer:?}");
    server.logged("ending=error")?;
    // The other way round, a service that fails leaves no clean end.
    let server = authority.serve(&BINARIES.halfopen, "hostile", &["a"], &[])?;
    let mut client = authority.connect(server.address(), "a.example", None)?;
    client.0.write_all(b"e")?;
    let answer = client.rest();
    ensure!(answer.is_err(), "a clean end: {answer:?}");
    Ok(())
}

#[test]
fn much_data_goes_either_way_on_many_connections() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    for isolation in ["connection", "shared"] {
        let more = ["--isolation", isolation];
        let server = authority.serve(&BINARIES.halfopen, "pass", &["a"], &more)?;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8_u8)
                .map(|number| {
                    let (authority, server) = (&authority, &server);
                    scope.spawn(move || -> Result<()> {
                        let mut client = authority.connect(server.address(), "a.example", None)?;
                        let chunk = vec![number; 100_000];
                        for _ in 0..40 {
                            client.0.write_all(&chunk)?;
                            ensure!(client.receive(chunk.len())? == chunk);
                        }
                        client.close_notify()?;
                        ensure!(client.rest()?.is_empty());
                        Ok(())
                    })
                })
                .collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().expect("a client does not panic"))
        })?;
    }
    Ok(())
}

#[test]
fn a_new_certificate_is_served_without_a_restart() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "old.example")?;
    let server = authority.serve(&BINARIES.halfopen, "whoami", &["a"], &["--watch"])?;
    authority.connect(server.address(), "old.example", None)?;
    authority.sign("a", "new.example")?;
    server.logged("reloaded;")?;
    eventually("the new certificate is served", || {
        Ok(authority
            .connect(server.address(), "new.example", None)
            .is_ok())
    })
}

/// Neither silence nor rubbish takes up a connection for long.
#[test]
fn a_handshake_has_to_come_in_time() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    const LIMIT: u64 = 3;
    let more = [
        "--tls-timeout",
        &LIMIT.to_string(),
        "--max-connections",
        "4",
        "--access-log",
    ];
    let server = authority.serve(&BINARIES.halfopen, "whoami", &["a"], &more)?;
    // Silence, and a handshake that never ends.
    for first in [&b""[..], b"\x16\x03\x01\x40\x00\x01"] {
        let start = Instant::now();
        let mut slow = Client::connect(server.address())?;
        slow.send(first)?;
        slow.end()?;
        let took = start.elapsed();
        ensure!(took >= Duration::from_secs(LIMIT), "ended after {took:?}");
        let line = server.logged_line(&format!("peer={}", slow.address()?))?;
        ensure!(line.contains("ending=refused-tls"), "{line}");
    }
    // Rubbish is answered by an alert.
    let mut rubbish = Client::connect(server.address())?;
    rubbish.send(b"GET / HTTP/1.1\r\n\r\n")?;
    let (alert, _) = rubbish.end()?;
    ensure!(alert.first() == Some(&21), "{alert:?}");
    for _ in 0..8 {
        authority
            .connect(server.address(), "a.example", None)?
            .rest()?;
    }
    Ok(())
}

#[test]
fn mistakes_in_the_files_are_reported() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    authority.sign("b", "b.example")?;
    let fails = |cert: &Path, key: &Path, why: &str| -> Result<()> {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key);
        let stopped = run(serve)?;
        ensure!(
            !stopped.status.success() && stopped.stdout.is_empty(),
            "{stopped:?}"
        );
        ensure!(stopped.stderr.len() == 1, "{stopped:?}");
        ensure!(stopped.stderr[0].contains(why), "{stopped:?}");
        Ok(())
    };
    let (cert, key) = (authority.path("a.pem"), authority.path("a.key"));
    fails(&cert, Path::new("/no/such/key"), "/no/such/key")?;
    fails(&key, &key, "no certificate in it")?;
    fails(&cert, &cert, "a.pem")?;
    fails(&cert, &authority.path("b.key"), "b.key")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--tls-cert"]);
    serve.arg(&cert);
    let stopped = run(serve)?;
    ensure!(
        stopped.stderr.join("\n").contains("needs its `--tls-key`"),
        "{stopped:?}"
    );
    Ok(())
}

/// A limit ends a TLS connection by RST, never by an end that looks complete.
#[test]
fn a_limit_leaves_no_clean_end() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &["--idle-timeout", "3"])?;
    let mut client = authority.connect(server.address(), "a.example", None)?;
    let error = client.0.read(&mut [0]).err().context("the end is clean")?;
    ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    Ok(())
}
