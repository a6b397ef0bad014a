//! Stopping and reloading: no accepted connection is lost, and none is refused that the
//! limits allow.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use halfopen_tests::tls::Authority;
use rustix::process::Signal;

use super::host::{
    BINARIES, LONG_GRACE, connect_from, copy_of, echo, folder, is_refused, is_served, served,
};

fn start(component: &Path, flags: &[&str]) -> Result<Server> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(flags).arg(component).args(["--", "--quiet"]);
    Server::start(serve, 1)
}

/// Replaces a file atomically, as package managers do.
fn replace(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, content)?;
    Ok(fs::rename(new, file)?)
}

fn is_digest(address: SocketAddr) -> Result<bool> {
    let mut client = Client::connect(address)?;
    client.send(b"x")?;
    client.fin()?;
    let (answer, _) = client.end()?;
    Ok(answer.starts_with(b"1 bytes, SHA-256"))
}

#[test]
fn new_connections_go_to_the_new_version_and_old_ones_finish_on_the_old() -> Result<()> {
    let folder = folder()?;
    let component = copy_of("echo", &folder)?;
    let server = start(&component, &[])?;
    let mut old = served(&server)?;
    replace(&component, fs::read(guest_path("digest"))?)?;
    ensure!(
        !is_digest(server.address())?,
        "the component was reloaded without a signal"
    );
    server.signal(Signal::HUP)?;
    server.logged("reloaded; 1 connections go on")?;
    ensure!(is_digest(server.address())?);
    is_served(&mut old)?;
    old.exchange(1 << 20, 1)?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(())
}

#[test]
fn a_changed_file_is_reloaded_with_watch() -> Result<()> {
    let folder = folder()?;
    let component = copy_of("echo", &folder)?;
    let server = start(&component, &["--watch"])?;
    let mut old = served(&server)?;
    replace(&component, fs::read(guest_path("digest"))?)?;
    server.logged("reloaded; 1 connections go on")?;
    ensure!(is_digest(server.address())?);
    is_served(&mut old)
}

#[test]
fn a_broken_version_is_reported_and_changes_nothing() -> Result<()> {
    let folder = folder()?;
    let component = copy_of("echo", &folder)?;
    let server = start(&component, &[])?;
    let mut old = served(&server)?;
    let not_a_service = fs::read(guest_path("primitives"))?;
    for (broken, why) in [
        (&b"no component"[..], "not a WebAssembly component"),
        (&not_a_service, "another world"),
    ] {
        replace(&component, broken)?;
        server.signal(Signal::HUP)?;
        let line = server.logged_line(why)?;
        ensure!(
            line.contains("not reloaded, and nothing has changed"),
            "{line}"
        );
        is_served(&mut old)?;
        served(&server)?;
    }
    Ok(())
}

#[test]
fn a_configuration_is_read_again() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config = |more: &str| {
        format!("[services.echo]\nlisten = [\"127.0.0.1:0\"]\nargs = [\"--quiet\"]\n{more}")
    };
    fs::write(&file, config(""))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 1)?;
    let mut old = served(&server)?;
    let refused = || is_refused(connect_from([127, 0, 0, 9], server.address())?);
    ensure!(!refused()?);

    replace(&file, config("deny-peer = [\"127.0.0.9\"]\n"))?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    ensure!(refused()?);
    is_served(&mut old)?;

    // A mistake in the file is reported, and the last good version goes on.
    replace(&file, config("idle-timeout = \"soon\"\n"))?;
    server.signal(Signal::HUP)?;
    let line = server.logged_line("not reloaded")?;
    ensure!(line.contains("halfopen.toml:4: `idle-timeout`"), "{line}");
    ensure!(refused()?);
    served(&server).map(drop)
}

/// Opening a pipe waits for somebody to write to it, and reading one takes its content: a file
/// of a service has to be a regular one when it is read again.
#[test]
fn a_pipe_in_place_of_a_file_is_no_reload_and_holds_up_nothing() -> Result<()> {
    let folder = folder()?;
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let file = folder.path().join("halfopen.toml");
    let config = |more: &str| {
        format!("[services.echo]\nlisten = [\"127.0.0.1:0\"]\nargs = [\"--quiet\"]\n{more}")
    };
    // At the start a pipe is as good as a file, for instance that of `<(…)` in a shell.
    let mut serve = command("bash", ["-c"]);
    serve.arg(format!(
        "exec \"$0\" serve --config <(printf '%s' '{}')",
        config("")
    ));
    serve.arg(&BINARIES.halfopen);
    let server = Server::start(serve, 1)?;
    served(&server)?;
    server.signal(Signal::HUP)?;
    let line =
        server.logged_line("not reloaded, and nothing has changed: cannot read `/dev/fd/")?;
    ensure!(line.contains("it is not a regular file"), "{line}");
    served(&server)?;
    ensure!(server.stop(Signal::TERM)?.status.success());

    let certificate = |key: &Path| {
        let flags = authority.flags(&["a"]);
        config(&format!(
            "tls-cert = {:?}\ntls-key = {key:?}\n",
            Path::new(&flags[1])
        ))
    };
    let key = folder.path().join("key");
    fs::copy(&authority.flags(&["a"])[3], &key)?;
    fs::write(&file, certificate(&key))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 1)?;
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into())?;
    for replaced in [&key, &file] {
        fs::rename(replaced, folder.path().join("kept"))?;
        std::os::unix::fs::symlink(&pipe, replaced)?;
        server.signal(Signal::HUP)?;
        let why = format!("cannot read `{}` again", replaced.display());
        let line = server.logged_line(&why)?;
        ensure!(line.contains("not reloaded"), "{line}");
        fs::rename(folder.path().join("kept"), replaced)?;
    }
    server.signal(Signal::HUP)?;
    server.logged("reloaded; ")?;
    ensure!(server.stop(Signal::TERM)?.status.success());
    Ok(())
}

/// Settings of the process do not change at a reload, and the log says so.
#[test]
fn what_is_read_only_at_the_start_is_named_at_a_reload() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config = |process: &str| {
        format!("{process}[services.echo]\nlisten = [\"127.0.0.1:0\"]\nargs = [\"--quiet\"]\n")
    };
    fs::write(&file, config("admin = \"0\"\n"))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 1)?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded; ")?;
    ensure!(!server.errors().join("\n").contains("only at the start"));
    replace(&file, config("access-log = true\n"))?;
    server.signal(Signal::HUP)?;
    server.logged("`admin`, `access-log` changed, but ")?;
    Ok(())
}

/// Clients that connect, exchange and close, again and again.
struct Clients {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    fn on(address: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let done = Arc::<AtomicUsize>::default();
        let threads = (0..4)
            .map(|number| {
                let (stop, done) = (stop.clone(), done.clone());
                thread::spawn(move || -> Result<()> {
                    let mut seed = number;
                    while !stop.load(Ordering::Relaxed) {
                        seed += 4;
                        Client::connect(address)?
                            .exchange(20_000, seed)
                            .with_context(|| format!("after {seed} exchanges"))?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        Clients {
            stop,
            done,
            threads,
        }
    }

    fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic")?;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}

#[test]
fn a_reload_under_load_loses_no_byte_and_refuses_no_connection() -> Result<()> {
    for isolation in ["connection", "shared"] {
        let server = echo(&["--isolation", isolation])?;
        let clients = Clients::on(server.address());
        for _ in 0..5 {
            let before = clients.done.load(Ordering::Relaxed);
            server.signal(Signal::HUP)?;
            eventually("clients are served meanwhile", || {
                Ok(clients.done.load(Ordering::Relaxed) > before + 20)
            })?;
        }
        server.logged("reloaded;")?;
        let done = clients.end()?;
        println!("{isolation}: {done} connections over 5 reloads, none lost, none refused");
        let stopped = server.stop(Signal::TERM)?;
        ensure!(stopped.status.success(), "{stopped:?}");
    }
    Ok(())
}

/// Accepted connections finish. The kernel refuses new ones at once.
#[test]
fn to_stop_under_load_loses_no_byte() -> Result<()> {
    let server = echo(&LONG_GRACE)?;
    let address = server.address();
    let clients: Vec<_> = (0..16)
        .map(|seed| {
            let mut client = served(&server)?;
            Ok(thread::spawn(move || client.exchange(8 << 20, seed)))
        })
        .collect::<Result<_>>()?;
    server.signal(Signal::TERM)?;
    eventually("no connection is accepted", || {
        Ok(Client::connect(address).is_err())
    })?;
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    let log = stopped.stderr.join("\n");
    ensure!(log.contains("stopping; "), "{log}");
    ensure!(!log.contains("did not finish"), "{log}");
    Ok(())
}

#[test]
fn connections_that_do_not_finish_in_time_are_counted() -> Result<()> {
    let server = echo(&["--grace", "0.3"])?;
    let mut clients = [served(&server)?, served(&server)?];
    server.signal(Signal::TERM)?;
    for client in &mut clients {
        ensure!(client.end()? == (Vec::new(), End::Rst));
    }
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    let log = stopped.stderr.join("\n");
    ensure!(
        log.contains("2 of 2 connections did not finish within 0.3 s and were reset"),
        "{log}"
    );
    Ok(())
}

/// Connections of an older version have the grace time as well.
#[test]
fn old_versions_stop_as_well() -> Result<()> {
    let server = echo(&LONG_GRACE)?;
    let mut old = served(&server)?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    let mut new = served(&server)?;
    server.signal(Signal::TERM)?;
    server.logged("stopping; 2 connections")?;
    is_served(&mut old)?;
    is_served(&mut new)?;
    drop((old, new));
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(())
}
