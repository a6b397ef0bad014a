//! The log: what peers and guests can make it say, and its formats.

use std::fs;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use rustix::process::Signal;

use super::host::{BINARIES, connect_from, folder, is_refused, is_served, serve, served};

/// Starts the service `hostile`, and sends this byte on many connections.
fn provoke(byte: &[u8], flags: &[&str], times: usize) -> Result<Server> {
    let server = serve("hostile", flags, &[])?;
    for _ in 0..times {
        let mut client = Client::connect(server.address())?;
        client.send(byte)?;
        client.end()?;
    }
    Ok(server)
}

/// What guests cause is logged at most 10 times at once and 10 times a minute. The times of
/// the test are unknown, but far below the number of minutes that would allow more.
#[test]
fn what_guests_cause_is_logged_only_so_often() -> Result<()> {
    for (byte, flags, line, kind) in [
        (
            &b"e"[..],
            &[][..],
            "the service failed: asked",
            "the service failed",
        ),
        (b"t", &[], "the service trapped: ", "the service trapped"),
    ] {
        let server = provoke(byte, flags, 300)?;
        let more = server.logged_line(&format!("more like this suppressed: {kind}"))?;
        ensure!(more.contains(r#"service="hostile""#), "{more}");
        let stopped = server.stop(Signal::TERM)?;
        let lines = stopped.stderr.iter().filter(|one| one.contains(line));
        let lines = lines.count();
        ensure!((10..100).contains(&lines), "{lines} lines with `{line}`");
        let suppressed: usize = stopped
            .stderr
            .iter()
            .filter_map(|one| {
                one.split_once(" more like this suppressed: ")?
                    .0
                    .rsplit(' ')
                    .next()
            })
            .map(|count| Ok(count.parse::<usize>()?))
            .sum::<Result<_>>()?;
        ensure!(lines + suppressed == 300, "{lines} + {suppressed}");
    }
    Ok(())
}

#[test]
fn refusals_are_logged_without_the_access_log() -> Result<()> {
    let flags = ["--max-connections-per-peer", "1"];
    let server = serve("echo", &flags, &["--quiet"])?;
    let first = served(&server)?;
    for _ in 0..100 {
        ensure!(is_refused(connect_from([127, 0, 0, 1], server.address())?)?);
    }
    let line = server.logged_line("refused: ")?;
    for part in [
        "WARN",
        "refused: the peer has as many connections as one peer may have",
        "service=\"echo\"",
        "peer=127.0.0.1:",
    ] {
        ensure!(line.contains(part), "`{part}` is missing in: {line}");
    }
    server.logged("more like this suppressed: the peer has as many connections")?;
    drop(first);
    // The access log has a line for each, and these are enough.
    let flags = ["--deny-peer", "127.0.0.9", "--access-log"];
    let server = serve("echo", &flags, &["--quiet"])?;
    ensure!(is_refused(connect_from([127, 0, 0, 9], server.address())?)?);
    server.logged("ending=refused-denied")?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(
        !stopped.stderr.join("\n").contains("refused: "),
        "{stopped:?}"
    );
    Ok(())
}

/// A guest's error must not look like another line, nor change what a terminal shows.
#[test]
fn text_of_a_guest_is_escaped() -> Result<()> {
    let argument = "a\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2K\u{202e}z";
    let server = serve("parrot", &[], &[argument])?;
    Client::until_end(server.address())?;
    let line = server.logged_line("unknown argument")?;
    let escaped = r"a\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2K\u{202e}z";
    ensure!(line.contains(escaped), "{line}");
    let stopped = server.stop(Signal::TERM)?;
    ensure!(
        !stopped
            .stderr
            .iter()
            .any(|line| line.starts_with("2026-01-01")),
        "{stopped:?}"
    );
    Ok(())
}

/// With JSON, everything on standard error is: also what is no event of the log, such as the
/// lines about a reload, and what services print there.
#[test]
fn with_json_every_line_is_json() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config = |more: &str| {
        format!(
            "log-format = \"json\"\naccess-log = true\nadmin = \"0\"\n\n[services.bad]\n\
             component = \"{}\"\nlisten = [\"127.0.0.1:0\"]\ngrace = 0.1\n{more}",
            guest_path("hostile").display()
        )
    };
    fs::write(&file, config(""))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 1)?;
    let open = served(&server)?;
    let mut bad = Client::connect(server.address())?;
    bad.send(b"t")?;
    bad.end()?;
    // A panic prints its message on standard error.
    server.logged("asked to trap")?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded; ")?;
    fs::write(&file, config("nonsense = 1\n"))?;
    server.signal(Signal::HUP)?;
    server.logged("not reloaded")?;
    server.signal(Signal::TERM)?;
    let stopped = server.wait()?;
    drop(open);
    for line in &stopped.stderr {
        let value: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        ensure!(value["timestamp"].is_string(), "no time: {line}");
    }
    for part in [
        "metrics on http://",
        "stopping; ",
        "did not finish",
        "\"ending\":\"trap\"",
        "\"stream\":\"stderr\"",
    ] {
        ensure!(
            stopped.stderr.iter().any(|line| line.contains(part)),
            "`{part}` is missing: {stopped:?}"
        );
    }
    Ok(())
}

/// An error at the start is the last line, and JSON as well.
#[test]
fn with_json_the_error_that_ends_the_process_is_json() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let flags = ["serve", "--log-format", "json", "--listen", &address];
    let failed = halfopen_tests::server::run(command(&BINARIES.halfopen, flags))?;
    ensure!(failed.status.code() == Some(1), "{failed:?}");
    let line = failed.stderr.last().context("nothing was logged")?;
    let line: serde_json::Value = serde_json::from_str(line).context("not JSON")?;
    ensure!(line["level"] == "ERROR", "{line}");
    Ok(())
}

#[test]
fn a_reload_says_where_it_listens_and_what_goes_on() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config =
        |listen: &str| format!("[services.echo]\nlisten = [{listen}]\nargs = [\"--quiet\"]\n");
    fs::write(&file, config("\"127.0.0.1:0\""))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 1)?;
    let mut first = served(&server)?;
    fs::write(&file, config("\"127.0.0.1:0\", \"127.0.0.2:0\""))?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded; 1 connections go on with earlier versions")?;
    let line = server.logged_line("now listening on 127.0.0.2:")?;
    let address = line.rsplit(' ').next().context("no address")?;
    let mut second = Client::connect(address.parse()?)?;
    is_served(&mut second)?;
    // One connection is of the first version, and one of the second.
    fs::write(&file, config("\"127.0.0.1:0\""))?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded; 2 connections go on with earlier versions")?;
    server.logged(&format!("no longer listening on {address}"))?;
    is_served(&mut first)?;
    is_served(&mut second)
}
