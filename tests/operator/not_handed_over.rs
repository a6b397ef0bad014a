//! Connections that cannot be handed over, or not to this process: they finish where they are, or
//! are reset, and never end as if they were complete.

use std::fs;
use std::io::Write;
use std::thread;

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use halfopen_tests::tls::Authority;
use rustix::process::{Signal, test_kill_process};

use super::handed_over::{Upstream, passes, sockets, upgraded};
use super::host::{BINARIES, folder, is_served, serve, served};
use super::successor::Successor;

/// Upgrades, and checks that the connection goes on in the old process, which ends with it.
fn drains(
    mut server: Server,
    mut client: Client,
    mut echoes: impl FnMut(&mut Client) -> Result<()>,
) -> Result<()> {
    echoes(&mut client)?;
    let successor = upgraded(&server)?;
    echoes(&mut client)?;
    // A second upgrade goes through the same, and the old process has the connection still.
    successor.signal(Signal::USR2)?;
    let second = Successor::after(&server, 2)?;
    successor.ends()?;
    echoes(&mut client)?;
    ensure!(server.is_running()?, "the old process has ended");
    client.fin()?;
    ensure!(client.end()?.1 == End::Fin);
    ensure!(server.ends()?.success());
    second.stop()
}

#[test]
fn without_the_flag_everything_drains() -> Result<()> {
    let server = serve("pass", &[], &[])?;
    let client = served(&server)?;
    drains(server, client, is_served)
}

/// In callback style the service hears of every event, and shared instances go on.
#[test]
fn where_the_flag_could_have_no_effect_it_is_a_mistake() -> Result<()> {
    for (guest, flags, why) in [
        (
            "echo",
            &["--hand-over"][..],
            "this one is in callback style",
        ),
        (
            "pass",
            &["--hand-over", "--isolation", "shared"],
            "the connections of this one share instances",
        ),
    ] {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.args(flags).arg(guest_path(guest));
        let stopped = run(serve)?;
        ensure!(stopped.status.code() == Some(1), "{stopped:?}");
        let error = stopped.stderr.join("\n");
        ensure!(error.contains(why), "{error}");
        ensure!(error.contains("`--hand-over` needs a service"), "{error}");
    }
    Ok(())
}

/// The service reads, and the host has passed on what it may have in its memory.
#[test]
fn bytes_in_the_guest_drain() -> Result<()> {
    let mut server = serve("digest", &["--hand-over"], &[])?;
    let mut client = Client::connect(server.address())?;
    client.send(b"hel")?;
    let successor = upgraded(&server)?;
    client.send(b"lo")?;
    client.fin()?;
    let (answer, end) = client.end()?;
    let answer = String::from_utf8(answer)?;
    ensure!(answer.starts_with("5 bytes, SHA-256 2cf24dba"), "{answer}");
    ensure!(end == End::Fin);
    ensure!(server.ends()?.success());
    successor.stop()
}

/// With TLS the keys of the session are in the old process.
#[test]
fn a_connection_with_tls_drains() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("server", "a.example")?;
    let more = ["--hand-over"];
    let mut server = authority.serve(&BINARIES.halfopen, "pass", &["server"], &more)?;
    let mut open = authority.connect(server.address(), "a.example", None)?;
    let mut echoes = || -> Result<()> {
        open.0.write_all(b"x")?;
        ensure!(open.receive(1)? == b"x");
        Ok(())
    };
    echoes()?;
    let successor = upgraded(&server)?;
    echoes()?;
    ensure!(server.is_running()?, "the old process has ended");
    open.close_notify()?;
    open.rest()?;
    drop(open);
    ensure!(server.ends()?.success());
    successor.stop()
}

/// The next process does not take connections, by its configuration; the one after it does.
#[test]
fn a_process_takes_what_its_configuration_says() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let component = guest_path("pass");
    let write = |hand_over: &str| {
        let text = format!(
            "upgrade-timeout = {PATIENCE_SECONDS}\n[services.pass]\ncomponent = {component:?}\n\
             listen = [\"127.0.0.1:0\"]\n{hand_over}\n"
        );
        fs::write(&file, text)
    };
    write("hand-over = true")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let mut server = Server::start(serve, 1)?;
    let mut client = served(&server)?;
    write("")?;
    let first = upgraded(&server)?;
    is_served(&mut client)?;
    ensure!(server.is_running()?, "the old process has ended");
    write("hand-over = true")?;
    first.signal(Signal::USR2)?;
    let second = Successor::after(&server, 2)?;
    first.ends()?;
    // From the first process to the third.
    ensure!(server.ends()?.success());
    is_served(&mut client)?;
    second.stop()
}

/// The next process ends while a connection is on the way to it. Nobody takes that for FIN.
#[test]
fn a_connection_on_the_way_to_a_process_that_dies_is_reset() -> Result<()> {
    let mut server = serve("pass", &["--hand-over"], &[])?;
    let mut client = served(&server)?;
    // It stays until the client reads.
    client.fill(7, 256 << 20)?;
    let successor = upgraded(&server)?;
    successor.pause()?;
    let reading = thread::spawn(move || client.end());
    // It is on the way: the process that has sent it has no other connection.
    ensure!(server.ends()?.success());
    successor.signal(Signal::KILL)?;
    let (_, end) = reading.join().expect("it does not panic")?;
    ensure!(end == End::Rst);
    Ok(())
}

/// Nothing is lost with the next process: the connection goes on where it is.
#[test]
fn connections_stay_when_the_next_process_has_died() -> Result<()> {
    let upstream = Upstream::new()?;
    let mut server = upstream.proxy(&[])?;
    let (mut client, mut end) = upstream.through(&server)?;
    let sent = client.fill(7, 256 << 20)?;
    let successor = upgraded(&server)?;
    successor.signal(Signal::KILL)?;
    successor.ends()?;
    end.comes_back(7, sent)?;
    passes(&mut client, &mut end)?;
    ensure!(server.is_running()?, "the old process has ended");
    client.fin()?;
    end.fin()?;
    ensure!(end.end()? == (Vec::new(), End::Fin));
    ensure!(client.end()? == (Vec::new(), End::Fin));
    ensure!(server.ends()?.success());
    Ok(())
}

/// Whatever is handed over again and again, no descriptor stays behind.
#[test]
fn descriptors_do_not_stay_behind() -> Result<()> {
    let upstream = Upstream::new()?;
    let mut server = upstream.proxy(&[])?;
    let first = upgraded(&server)?;
    ensure!(server.ends()?.success());
    let process = |successor: &Successor| successor.process().as_raw_nonzero().get().unsigned_abs();
    let before = sockets(process(&first))?;
    let mut pairs = Vec::new();
    for _ in 0..20 {
        pairs.push(upstream.through(&server)?);
    }
    let mut newest = first;
    for upgrade in 2..=5 {
        newest.signal(Signal::USR2)?;
        let next = Successor::after(&server, upgrade)?;
        newest.ends()?;
        newest = next;
        for (client, end) in &mut pairs {
            passes(client, end)?;
        }
    }
    let open = sockets(process(&newest))?;
    ensure!(open == before + 40, "{open} sockets, and {before} before");
    drop(pairs);
    eventually("the sockets are closed", || {
        Ok(sockets(process(&newest))? == before)
    })?;
    ensure!(test_kill_process(newest.process()).is_ok());
    newest.stop()
}
