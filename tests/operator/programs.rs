//! `halfopen run`: programs on `wasi:sockets`, whose sockets are their own.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::port::Port;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use halfopen_tests::tools::skipped;
use rustix::process::Signal;

use super::host::BINARIES;

/// A program that knows nothing of halfopen: an echo for one connection at a time that panics
/// at a `!`, with `connect` a client, or with `read` a reader of a file.
const PLAIN: &str = r#"
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn main() {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if arguments[0] == "read" {
            println!("read: {:?}", std::fs::read_to_string(&arguments[1]));
            return;
        }
        if arguments[0] == "connect" {
            let error = TcpStream::connect(&arguments[1]).map(drop).unwrap_err();
            eprintln!("cannot connect: {error:?}");
            std::process::exit(1);
        }
        let listener = match TcpListener::bind(&arguments[0]) {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("cannot listen: {error:?}");
                std::process::exit(1);
            }
        };
        println!("{}", listener.local_addr().unwrap());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                assert_ne!(buffer[0], b'!');
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        }
    }
"#;

/// The component of [`PLAIN`], which the first test compiles; `None` without the target.
static COMPILED: LazyLock<Result<Option<(tempfile::TempDir, PathBuf)>>> = LazyLock::new(|| {
    let target = ["--target", "wasm32-wasip2"];
    let libraries = Command::new("rustc")
        .args(target)
        .args(["--print", "target-libdir"])
        .output()?;
    let libraries = String::from_utf8(libraries.stdout)?;
    if !PathBuf::from(libraries.trim()).exists() {
        return Ok(None);
    }
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("plain.rs");
    let component = folder.path().join("plain.wasm");
    fs::write(&source, PLAIN)?;
    let compiled = Command::new("rustc")
        .args(target)
        .args(["--edition", "2024", "-O", "-o"])
        .arg(&component)
        .arg(&source)
        .output()?;
    ensure!(compiled.status.success(), "{compiled:?}");
    Ok(Some((folder, component)))
});

/// The programs to test: one on the primitives, the composed echo on WASI 0.3, and the plain
/// one on WASI 0.2, unless it cannot be compiled here.
fn programs(what: &str) -> Result<Vec<(PathBuf, Vec<&'static str>)>> {
    let mut programs = vec![
        (guest_path("primitives"), vec!["--listen"]),
        (guest_path("echo-standalone"), vec!["--listen"]),
    ];
    match &*COMPILED {
        Ok(Some((_, component))) => programs.push((component.clone(), Vec::new())),
        Ok(None) => skipped(what, "the target wasm32-wasip2")?,
        Err(error) => anyhow::bail!("{error:#}"),
    }
    Ok(programs)
}

/// Starts each of the programs on a free port of loopback, with these flags, and calls `test`.
fn each(what: &str, flags: &[&str], test: impl Fn(Server) -> Result<()>) -> Result<()> {
    for (component, arguments) in programs(what)? {
        let mut run = command(&BINARIES.halfopen, ["run", "--allow-listen", "127.0.0.1:0"]);
        run.args(flags).arg(&component).args(arguments);
        run.arg("127.0.0.1:0");
        let server = Server::start(run, 1)?;
        test(server).with_context(|| component.display().to_string())?;
    }
    Ok(())
}

/// Connects, and waits until the program serves the connection.
fn exchanging(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    exchange(&mut client)?;
    Ok(client)
}

fn exchange(client: &mut Client) -> Result<()> {
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x");
    Ok(())
}

#[test]
fn a_denial_always_names_the_flag_that_grants_it() -> Result<()> {
    let what = "a denial of a plain program names the flag";
    for (component, mut arguments) in programs(what)? {
        for address in ["127.0.0.1:45678", "0.0.0.0:0", "[::1]:0"] {
            arguments.push(address);
            let mut denied = command(&BINARIES.halfopen, ["run"]);
            denied.arg(&component).args(&arguments);
            arguments.pop();
            let denied = run(denied)?;
            ensure!(!denied.status.success(), "{denied:?}");
            let log = denied.stderr.join("\n");
            ensure!(
                log.contains(&format!("grant it with `--allow-listen {address}`")),
                "{log}"
            );
        }
        if !arguments.is_empty() {
            continue;
        }
        let mut denied = command(&BINARIES.halfopen, ["run"]);
        denied.arg(&component).args(["connect", "192.0.2.1:9"]);
        let log = run(denied)?.stderr.join("\n");
        ensure!(
            log.contains("grant it with `--allow-connect 192.0.2.1:9`"),
            "{log}"
        );
    }
    Ok(())
}

/// A program on WASI 0.2 is granted names and folders as everything else is.
#[test]
fn a_plain_program_gets_the_names_and_folders_that_are_granted() -> Result<()> {
    let what = "a plain program gets names and folders";
    let Some((component, _)) = programs(what)?
        .into_iter()
        .find(|(_, args)| args.is_empty())
    else {
        return Ok(());
    };
    let said = |flags: &[&str], arguments: &[&str]| -> Result<String> {
        let mut plain = command(&BINARIES.halfopen, ["run"]);
        plain.args(flags).arg(&component).args(arguments);
        let ended = run(plain)?;
        Ok([ended.stdout, ended.stderr].concat().join("\n"))
    };
    // Nothing listens there.
    let port = Port::reserve()?;
    let address = port.address()?;
    let by_name = format!("localhost:{}", address.port());
    let denied = said(&[], &["connect", &by_name])?;
    ensure!(denied.contains("cannot connect: "), "{denied}");
    ensure!(
        denied.contains("grant it with `--allow-lookup localhost`"),
        "{denied}"
    );
    let private = said(&["--allow-connect", &by_name], &["connect", &by_name])?;
    ensure!(private.contains("which is private"), "{private}");
    let (v4, v6) = (address.to_string(), format!("[::1]:{}", address.port()));
    let flags = [&by_name, &v4, &v6].map(|rule| ["--allow-connect", rule]);
    let flags = flags.concat();
    let allowed = said(&flags, &["connect", &by_name])?;
    ensure!(allowed.contains("ConnectionRefused"), "{allowed}");

    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("one"), "first")?;
    let dir = format!("{}::data:ro", folder.path().display());
    let read = said(&["--dir", &dir], &["read", "data/one"])?;
    ensure!(read == "read: Ok(\"first\")", "{read}");
    let denied = said(&[], &["read", "data/one"])?;
    ensure!(denied.contains("read: Err"), "{denied}");
    ensure!(denied.contains("`--dir FOLDER::NAME`"), "{denied}");
    Ok(())
}

#[test]
fn connections_finish_after_a_signal() -> Result<()> {
    let what = "a plain program finishes its exchanges";
    each(what, &["--grace", PATIENCE_SECONDS], |server| {
        let mut client = exchanging(&server)?;
        // The plain program serves one connection at a time, so that this one waits.
        let mut waiting = Client::connect(server.address())?;
        server.signal(Signal::TERM)?;
        eventually("connections are refused", || {
            Ok(TcpStream::connect(server.address()).is_err())
        })?;
        // Neither a FIN nor an RST comes, and the exchange goes on.
        client.silence(Duration::from_secs(1))?;
        exchange(&mut client)?;
        exchange(&mut client)?;
        client.fin()?;
        ensure!(client.end()?.1 == End::Fin);
        // The composed echo has accepted it, and serves it; else the kernel resets it.
        let _ = waiting.fin();
        waiting.end()?;
        let stopped = server.wait()?;
        ensure!(stopped.status.success(), "{stopped:?}");
        Ok(())
    })
}

#[test]
fn the_grace_time_ends_by_a_reset() -> Result<()> {
    let what = "the grace time of a plain program ends by a reset";
    each(what, &["--grace", "0.2"], |server| {
        let mut client = exchanging(&server)?;
        server.signal(Signal::TERM)?;
        ensure!(client.end()? == (Vec::new(), End::Rst));
        let stopped = server.wait()?;
        ensure!(stopped.status.success(), "{stopped:?}");
        Ok(())
    })
}

#[test]
fn a_second_signal_resets_at_once() -> Result<()> {
    let what = "a second signal resets the connections of a plain program";
    each(what, &["--grace", PATIENCE_SECONDS], |server| {
        let mut client = exchanging(&server)?;
        server.signal(Signal::TERM)?;
        eventually("connections are refused", || {
            Ok(TcpStream::connect(server.address()).is_err())
        })?;
        server.signal(Signal::TERM)?;
        ensure!(client.end()? == (Vec::new(), End::Rst));
        let stopped = server.wait()?;
        ensure!(!stopped.status.success(), "{stopped:?}");
        Ok(())
    })
}

#[test]
fn a_program_without_connections_ends_at_once() -> Result<()> {
    let what = "a plain program without connections ends at once";
    each(what, &["--grace", "3600"], |server| {
        let mut client = exchanging(&server)?;
        client.fin()?;
        ensure!(client.end()?.1 == End::Fin);
        let stopped = server.stop(Signal::TERM)?;
        ensure!(stopped.status.success(), "{stopped:?}");
        Ok(())
    })
}

#[test]
fn a_trap_resets_the_connections() -> Result<()> {
    let what = "a trap of a plain program resets its connections";
    let Some((component, _)) = programs(what)?
        .into_iter()
        .find(|(_, args)| args.is_empty())
    else {
        return Ok(());
    };
    let mut run = command(&BINARIES.halfopen, ["run", "--allow-listen", "127.0.0.1:0"]);
    run.arg(component).arg("127.0.0.1:0");
    let server = Server::start(run, 1)?;
    let mut client = exchanging(&server)?;
    client.send(b"!")?;
    ensure!(client.end()? == (Vec::new(), End::Rst));
    ensure!(!server.wait()?.status.success());
    Ok(())
}
