//! TLS that services begin, as an operator sets it up and as tools use it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use halfopen_tests::tls::Authority;
use halfopen_tests::tools::is_missing;

use super::host::{BINARIES, folder};

/// The `openssl` command asks for TLS as a client of PostgreSQL does, and checks the certificate.
#[test]
fn openssl_finds_the_certificate_behind_starttls() -> Result<()> {
    if is_missing("openssl", "STARTTLS with openssl")? {
        return Ok(());
    }
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    // The server that the guard is before; it hears nothing before TLS.
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let address = upstream.local_addr()?.to_string();
    for (tls, name, verified) in [
        (&["--tls"][..], "a.example", true),
        (&["--tls"], "b.example", false),
        (&[], "a.example", false),
    ] {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.args(authority.flags(&["a"])).arg("--starttls");
        serve
            .args(["--allow-connect", &address])
            .arg(guest_path("guard"));
        serve.args(["--", "postgres", &address]).args(tls);
        let server = Server::start(serve, 1)?;
        let mut client = Command::new("openssl");
        client.args([
            "s_client",
            "-starttls",
            "postgres",
            "-verify_return_error",
            "-CAfile",
        ]);
        client.arg(authority.path("ca.pem"));
        client.args([
            "-verify_hostname",
            name,
            "-servername",
            "a.example",
            "-connect",
        ]);
        client
            .arg(server.address().to_string())
            .stdin(Stdio::null());
        let output = client.output()?;
        ensure!(output.status.success() == verified, "{name}: {output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        if verified {
            ensure!(told.contains("Verification: OK"), "{told}");
            ensure!(told.contains("CN = a.example"), "{told}");
        }
    }
    Ok(())
}

/// What a server sends in the clear behind its answer is never taken for data of the session
/// (CVE-2021-23222).
#[test]
fn a_server_that_says_more_in_the_clear_is_refused() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let address = upstream.local_addr()?.to_string();
    let ca = authority.path("ca.pem").display().to_string();
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(["--tls-ca", &ca, "--allow-connect", &address]);
    serve.arg(guest_path("guard"));
    serve.args(["--", "postgres", &address, "--server-name", "a.example"]);
    let server = Server::start(serve, 1)?;
    for (answer, why) in [
        (&b"SEVIL"[..], "data in the clear came behind the request"),
        (b"N", "it has no TLS"),
    ] {
        let mut client = Client::connect(server.address())?;
        let (mut stream, _) = upstream.accept()?;
        stream.read_exact(&mut [0; 8])?;
        stream.write_all(answer)?;
        server.logged(why)?;
        ensure!(client.end()? == (Vec::new(), End::Rst), "{why}");
    }
    Ok(())
}

#[test]
fn the_commands_say_what_is_missing() -> Result<()> {
    let authority = Authority::new()?;
    let guard = guest_path("guard");
    let fails = |flags: &[&str], why: &str| -> Result<()> {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.args(flags).arg(&guard);
        let stopped = run(serve)?;
        let told = stopped.stderr.join("\n");
        ensure!(!stopped.status.success() && told.contains(why), "{told}");
        Ok(())
    };
    fails(&["--starttls"], "without a certificate there is no TLS")?;
    authority.sign("a", "a.example")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--starttls"]);
    serve.args(authority.flags(&["a"])).arg(guest_path("echo"));
    let told = run(serve)?.stderr.join("\n");
    ensure!(told.contains("this one begins none"), "{told}");
    fails(&["--tls-ca", "/no/such/ca.pem"], "/no/such/ca.pem")?;
    std::fs::write(authority.path("empty.pem"), "")?;
    let empty = authority.path("empty.pem").display().to_string();
    fails(&["--tls-ca", &empty], "no certificate in it")?;

    let ca = authority.path("ca.pem");
    let mut inspect = command(&BINARIES.halfopen, ["inspect", "--tls-ca"]);
    inspect.arg(&ca).arg(&guard);
    let told = run(inspect)?.stdout.join("\n");
    ensure!(told.contains("as a server with `--starttls`"), "{told}");
    ensure!(told.contains(&ca.display().to_string()), "{told}");

    let folder = folder()?;
    let mut compose = command(&BINARIES.halfopen, ["compose"]);
    compose
        .arg(&guard)
        .arg("-o")
        .arg(folder.path().join("composed.wasm"));
    let told = run(compose)?.stderr.join("\n");
    ensure!(told.contains("plain WASI hosts have no TLS"), "{told}");
    Ok(())
}
