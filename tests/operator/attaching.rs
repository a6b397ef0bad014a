//! `halfopen watch --admin`: the same over the admin address, which may only be looked at unless the
//! server says otherwise.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::server::{Server, command, run};
use rustix::process::Signal;
use serde_json::Value;

use super::host::{BINARIES, is_served, served, with_admin};
use super::viewing::{Watch, address, watched};

fn echo(flags: &[&str]) -> Result<(Server, String)> {
    with_admin("echo", flags, &["--quiet"])
}

#[test]
fn a_person_attaches_over_the_admin_address_and_may_only_look() -> Result<()> {
    let (server, admin) = echo(&[])?;
    let mut before = served(&server)?;
    // The port alone, as the server's own flag has it.
    let port = admin.rsplit(':').next().context("no port")?;
    let mut watch = Watch::start(&["--admin", port])?;
    watch.is_taken(true)?;
    watch.shows(&address(&before)?)?;
    let mut after = served(&server)?;
    watch.shows(&address(&after)?)?;
    watch.shows("2 open, 0 ended")?;
    for key in ["k", "b"] {
        watch.press(key)?;
        watch.shows("this watcher may only look: the server needs `--admin-write`")?;
        watch.press("\u{1b}[B")?;
        watch.hides("may only look")?;
    }
    is_served(&mut before)?;
    is_served(&mut after)?;
    watch.press("q")?;
    ensure!(watch.ends()? == Some(0));
    watch.is_taken(false)
}

#[test]
fn with_a_flag_connections_are_reset_and_peers_banned_over_it() -> Result<()> {
    let (server, admin) = echo(&["--admin-write"])?;
    let mut first = served(&server)?;
    // The page's URL, as somebody copies it.
    let mut watch = Watch::start(&["--admin", &format!("http://{admin}/watch")])?;
    watch.shows(&address(&first)?)?;
    watch.press("k")?;
    watch.shows("Reset connection ")?;
    watch.press("y")?;
    ensure!(first.end()?.1 == End::Rst);
    watch.shows("is reset")?;
    // What has ended while the view is paused is still shown as open, and the server knows better.
    let mut second = served(&server)?;
    watch.shows(&address(&second)?)?;
    watch.press(" ")?;
    watch.shows("PAUSED")?;
    second.fin()?;
    ensure!(second.end()?.1 == End::Fin);
    watch.press("k")?;
    watch.shows("Reset connection ")?;
    watch.press("y")?;
    watch.shows("is open; `halfopen watch` shows")?;
    watch.press(" ")?;
    watch.hides("PAUSED")?;
    let mut third = served(&server)?;
    watch.shows(&address(&third)?)?;
    watch.press("b")?;
    watch.shows("Ban ")?;
    watch.press("\r")?;
    ensure!(third.end()?.1 == End::Rst);
    watch.shows("is banned for ")?;
    watch.press("q")?;
    ensure!(watch.ends()? == Some(0));
    Ok(())
}

#[test]
fn the_end_of_the_server_is_seen_over_the_admin_address() -> Result<()> {
    let (server, admin) = echo(&[])?;
    let mut watch = Watch::start(&["--admin", &admin])?;
    watch.shows("no connection yet")?;
    server.stop(Signal::TERM)?;
    watch.shows("the server has ended; press q to quit")?;
    watch.press("k")?;
    watch.shows("no connection is chosen")?;
    watch.press("q")?;
    ensure!(watch.ends()? == Some(0));
    watch.is_taken(false)
}

/// Prints a connection and the end of the server, and returns all lines.
fn printed(form: &str) -> Result<String> {
    let (server, admin) = echo(&[])?;
    watched(["--admin", &admin], form, server)
}

#[test]
fn lines_are_printed_over_the_admin_address_until_the_server_ends() -> Result<()> {
    let text = printed("--plain")?;
    for part in [
        "which serves echo",
        "-> 1 byte received",
        "<- 1 byte sent",
        "(fin, the peer ended first; 1 byte received, 1 byte sent)",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    let text = printed("--json")?;
    let lines = text.lines().map(serde_json::from_str);
    let lines = lines.collect::<Result<Vec<Value>, _>>()?;
    ensure!(lines[0]["event"] == "hello" && lines[0]["may_write"] == false);
    let last = lines.iter().rfind(|line| line["event"] == "closed");
    ensure!(last.is_some_and(|last| last["outcome"] == "fin"), "{text}");
    let numbers: Vec<_> = lines
        .iter()
        .filter_map(|line| line["seq"].as_u64())
        .collect();
    ensure!(numbers.is_sorted() && !numbers.is_empty(), "{numbers:?}");
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_noticed_while_nothing_happens() -> Result<()> {
    let (_server, admin) = echo(&[])?;
    for form in ["--plain", "--json"] {
        let mut watch = command(&BINARIES.halfopen, ["watch", form, "--admin", &admin]);
        let mut child = watch
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdout = child.stdout.take().context("it is not piped")?;
        ensure!(stdout.read(&mut [0; 1])? == 1);
        drop(stdout);
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    Ok(())
}

/// Answers the first client with `answer`, or keeps it waiting if there is none.
fn stranger(answer: Option<&'static str>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            request.extend(byte);
        }
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
        }
        // Until the client has gone.
        while stream.read(&mut [0; 1024])? > 0 {}
        Ok(())
    });
    Ok(address)
}

#[test]
fn what_is_no_admin_address_is_told_in_one_line() -> Result<()> {
    let (server, admin) = echo(&[])?;
    let service = server.address().to_string();
    let named = admin.replace("127.0.0.1", "127.1");
    let not_found = stranger(Some("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))?;
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nhi\n";
    let page = stranger(Some(page))?;
    let ssh = stranger(Some("SSH-2.0-x\r\n"))?;
    let silent = stranger(None)?;
    for (address, part) in [
        (
            "127.0.0.1:1",
            "does a server run with `--admin 127.0.0.1:1`?",
        ),
        ("localhost", "write ADDRESS:PORT"),
        ("https://127.0.0.1:1", "without TLS"),
        (
            &service,
            "does not speak HTTP; is it the address of `--admin`?",
        ),
        (&ssh, "does not speak HTTP; is it the address of `--admin`?"),
        (&not_found, "is no server of halfopen"),
        (&page, "is no server of halfopen"),
        (&silent, "does not answer"),
        (
            &named,
            "the page is not served under the name `127.1`; --admin-host 127.1 allows it",
        ),
    ] {
        let watch = command(&BINARIES.halfopen, ["watch", "--plain", "--admin", address]);
        let ended = run(watch)?;
        ensure!(
            !ended.status.success()
                && ended.stdout.is_empty()
                && ended.stderr.len() == 1
                && ended.stderr[0].contains(part),
            "{address}: {ended:?}"
        );
    }
    Ok(())
}

#[test]
fn a_server_with_a_name_is_watched_under_it() -> Result<()> {
    // As getaddrinfo(3) reads it, this is 127.0.0.1; a browser and the server take it for a name.
    let (server, admin) = echo(&["--admin-host", "127.1", "--admin-write"])?;
    let named = admin.replace("127.0.0.1", "127.1");
    let mut watch = Watch::start(&["--admin", &named])?;
    watch.shows("no connection yet")?;
    let mut client = Client::connect(server.address())?;
    is_served(&mut client)?;
    watch.shows(&address(&client)?)?;
    watch.press("k")?;
    watch.shows("Reset connection ")?;
    watch.press("y")?;
    ensure!(client.end()?.1 == End::Rst);
    watch.press("q")?;
    ensure!(watch.ends()? == Some(0));
    Ok(())
}
