//! What a service is granted, and what it is denied: folders, names, and running without
//! connections.
//!
//! The services `tests/guests/asker`, in callback style, and `inquirer`, in await style, ask for
//! what a client names. `host/tests/grants.rs` has more of this for native alone, with a resolver
//! of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::port::Port;
use halfopen_tests::runner::{Binaries, Instances, Runner};
use halfopen_tests::server::Server;

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    granted_case("arguments-and-variables", &["A1"], arguments),
    granted_case("addresses", &["A2"], addresses),
    granted_case("folders", &["F1"], folders),
    granted_case("folders-read-only", &["F2"], read_only),
    granted_case("folders-and-what-is-outside", &["F1"], outside),
    granted_case("names-are-denied", &["N1"], names_denied),
    granted_case("names", &["N2", "N3"], names),
    granted_case("connecting-to-names", &["N4"], connecting),
    kept_case("kept-running", &["D1"], kept),
    Case {
        runners: |runner| keeps(runner) && runner.is_serve(),
        elsewhere: "a trap ends the program, or the host keeps no instance running",
        ..kept_case("kept-running-after-traps", &["D2"], kept_after_traps)
    },
    native_case("waiting-in-await-style", &["D3"], waiting),
    granted_case("idle-timeout-in-await-style", &["K14"], idle_timeout),
];

/// Composed services have what the `halfopen` command grants to a program.
const fn granted_case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: |runner| runner.is_command() && runner.is_halfopen(),
        elsewhere: "the host grants by flags of its own, or nothing",
        run,
    }
}

const fn kept_case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: keeps,
        elsewhere: "the host keeps no instance running without connections, or has one for each",
        run,
    }
}

const fn native_case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::is_command,
        elsewhere: "the embedding example prints nothing of this, and Node has no clock here",
        run,
    }
}

/// Whether a runner keeps an instance running without connections.
fn keeps(runner: Runner) -> bool {
    let instances = runner.properties().instances;
    runner.is_command() && matches!(instances, Instances::Shared(_))
}

/// The services, one for each style.
const GUESTS: [&str; 2] = ["asker", "inquirer"];

/// Starts each of the services with these flags, and calls `test`.
fn each(
    runner: Runner,
    binaries: &Binaries,
    flags: &[&str],
    test: impl Fn(&Server) -> Result<()>,
) -> Result<()> {
    for guest in GUESTS {
        let command = runner.service_with(binaries, guest, &["127.0.0.1:0"], flags, &[]);
        let server = Server::start(command, 1)?;
        test(&server).with_context(|| format!("{guest}: {:#?}", server.errors()))?;
    }
    Ok(())
}

/// A client of one of the services.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server.address(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client(BufReader::new(stream)))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Sends a line, and returns the answer. Where connecting begins, that is its outcome.
    fn ask(&mut self, text: &str) -> Result<String> {
        self.0.get_ref().write_all(format!("{text}\n").as_bytes())?;
        let answer = self.line()?;
        match answer.as_str() {
            "begun" => self.line(),
            _ => Ok(answer),
        }
    }

    fn number(&mut self, text: &str) -> Result<u32> {
        let answer = self.ask(text)?;
        let number = answer.strip_prefix(text).map(str::trim);
        number.and_then(|n| n.parse().ok()).context(answer)
    }
}

fn ask(server: &Server, text: &str, expected: &str) -> Result<()> {
    let answer = Client::connect(server)?.ask(text)?;
    ensure!(answer == expected, "{text}: {answer:?}, not {expected:?}");
    Ok(())
}

/// A component has its arguments and variables, and none of the process.
fn arguments(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let flags = ["--env", "GIVEN=a b", "--env", "EMPTY="];
        let listen = ["127.0.0.1:0"];
        let arguments = ["one", "--two", "three four"];
        let command = runner.service_with(binaries, guest, &listen, &flags, &arguments);
        let server = Server::start(command, 1)?;
        ask(&server, "arguments", "arguments one,--two,three four")?;
        ask(&server, "variable GIVEN", "variable Some(\"a b\")")?;
        ask(&server, "variable EMPTY", "variable Some(\"\")")?;
        ensure!(std::env::var_os("PATH").is_some());
        ask(&server, "variable PATH", "variable None")?;
    }
    each(runner, binaries, &[], |server| {
        ask(server, "arguments", "arguments")
    })
}

/// A component connects to the addresses that are granted, and to no others.
fn addresses(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (_listener, address) = upstream()?;
    let (_other, denied) = upstream()?;
    let connect = format!("address {address}");
    each(runner, binaries, &[], |server| {
        ask(server, &connect, "error EACCES")
    })?;
    // The whole internet, and nothing inside.
    let flags = ["--allow-connect", "0.0.0.0/0:*"];
    each(runner, binaries, &flags, |server| {
        ask(server, &connect, "error EACCES")
    })?;
    let flags = ["--allow-connect", &address.to_string()];
    each(runner, binaries, &flags, |server| {
        ask(server, &connect, &format!("connected {address}"))?;
        ask(server, &format!("address {denied}"), "error EACCES")?;
        let elsewhere = format!("address 127.0.0.2:{}", address.port());
        ask(server, &elsewhere, "error EACCES")
    })
}

/// A granted folder can be read and written; without a grant there is none.
fn folders(runner: Runner, binaries: &Binaries) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("one"), "first")?;
    each(runner, binaries, &[], |server| {
        ask(server, "read data/one", "error NotFound")?;
        ask(server, "list data", "error NotFound")
    })?;
    let flag = format!("{}::data", folder.path().display());
    each(runner, binaries, &["--dir", &flag], |server| {
        ask(server, "read data/one", "data first")?;
        ask(server, "read data/none", "error NotFound")?;
        ask(server, "write data/two second", "written")?;
        ask(server, "list /data", "names one,two")?;
        ensure!(fs::read(folder.path().join("two"))? == b"second");
        ask(server, "read data", "error IsADirectory")?;
        ask(server, "read other/one", "error NotFound")
    })
}

/// What is granted for reading alone does not change.
fn read_only(runner: Runner, binaries: &Binaries) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("one"), "first")?;
    let flag = format!("{}::data:ro", folder.path().display());
    each(runner, binaries, &["--dir", &flag], |server| {
        ask(server, "read data/one", "data first")?;
        for path in ["data/one", "data/two"] {
            let answer = Client::connect(server)?.ask(&format!("write {path} x"))?;
            let denied = ["error PermissionDenied", "error ReadOnlyFilesystem"];
            ensure!(denied.contains(&answer.as_str()), "{path}: {answer}");
        }
        ask(server, "list data", "names one")?;
        ensure!(fs::read(folder.path().join("one"))? == b"first");
        Ok(())
    })
}

/// Neither `..` nor a symbolic link leads out of a folder.
fn outside(runner: Runner, binaries: &Binaries) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let granted = folder.path().join("granted");
    fs::create_dir_all(granted.join("inner"))?;
    fs::write(folder.path().join("secret"), "secret")?;
    fs::write(granted.join("plain"), "plain")?;
    symlink(folder.path().join("secret"), granted.join("absolute"))?;
    symlink("../secret", granted.join("relative"))?;
    symlink("..", granted.join("up"))?;
    symlink("../plain", granted.join("inner/within"))?;
    let flag = format!("{}::data", granted.display());
    each(runner, binaries, &["--dir", &flag], |server| {
        for path in [
            "data/../secret",
            "data/inner/../../secret",
            "data/absolute",
            "data/relative",
            "data/up/secret",
        ] {
            ask(server, &format!("read {path}"), "error PermissionDenied")?;
            ask(server, &format!("write {path} x"), "error PermissionDenied")?;
        }
        ask(server, "list data/up", "error PermissionDenied")?;
        ask(server, "read data/inner/../plain", "data plain")?;
        ask(server, "read data/inner/within", "data plain")?;
        ensure!(fs::read(folder.path().join("secret"))? == b"secret");
        Ok(())
    })
}

/// A listener on loopback, and its port.
fn upstream() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A name that is not granted is neither looked up nor connected to.
fn names_denied(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (_listener, address) = upstream()?;
    let connect = format!("connect localhost {}", address.port());
    // What is granted for an address is not granted for its names.
    let flags = ["--allow-connect", &address.to_string()];
    each(runner, binaries, &flags, |server| {
        ask(server, &connect, "error EACCES")?;
        let denied = server.logged_line("localhost")?;
        let flag = match denied.contains("look up") {
            true => "--allow-lookup localhost".to_owned(),
            false => format!("--allow-connect localhost:{}", address.port()),
        };
        ensure!(denied.contains(&flag), "{denied}");
        ask(server, "connect a..b 80", "error EINVAL")?;
        // An address needs no lookup.
        let connect = format!("connect 127.0.0.1 {}", address.port());
        ask(server, &connect, &format!("connected {address}"))
    })?;
    each(
        runner,
        binaries,
        &["--allow-lookup", "*.example"],
        |server| ask(server, &connect, "error EACCES"),
    )
}

/// A name opens what it has, and never a private address.
fn names(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (_listener, address) = upstream()?;
    let (_other, closed) = upstream()?;
    let port = address.port();
    let connect = format!("connect localhost {port}");
    let by_name = format!("localhost:{port}");
    each(runner, binaries, &["--allow-connect", &by_name], |server| {
        ask(server, &connect, "error EACCES")?;
        let denied = server.logged_line("which is private")?;
        ensure!(denied.contains(&format!(":{port}`")), "{denied}");
        ask(server, &format!("address {address}"), "error EACCES")
    })?;
    let by_address = address.to_string();
    let flags = ["--allow-connect", &by_name, "--allow-connect", &by_address];
    each(runner, binaries, &flags, |server| {
        let mut client = Client::connect(server)?;
        let answer = client.ask(&connect)?;
        ensure!(answer == format!("connected {address}"), "{answer}");
        let answer = client.ask(&format!("address {closed}"))?;
        ensure!(answer == "error EACCES", "{answer}");
        let answer = client.ask(&format!("connect localhost {}", closed.port()))?;
        ensure!(answer == "error EACCES", "{answer}");
        let answer = client.ask(&format!("connect other.localhost {port}"))?;
        ensure!(answer == "error EACCES", "{answer}");
        Ok(())
    })
}

/// The outcome of connecting to a name is that of connecting to what it has.
fn connecting(runner: Runner, binaries: &Binaries) -> Result<()> {
    let reserved = Port::reserve()?;
    let address = reserved.address()?;
    let port = address.port();
    let flags = [
        "--allow-connect",
        "localhost:*",
        "--allow-connect",
        "127.0.0.0/8:*",
        "--allow-connect",
        "[::1]:*",
    ];
    each(runner, binaries, &flags, |server| {
        let connect = format!("connect localhost {port}");
        ask(server, &connect, "error ECONNREFUSED")?;
        ask(server, "connect localhost 0", "error EINVAL")?;
        let listener = TcpListener::bind(address)?;
        ask(server, &connect, &format!("connected {address}"))?;
        drop(listener.accept()?);
        Ok(())
    })
}

/// An instance that is kept running begins without connections, once; and only if granted.
fn kept(runner: Runner, binaries: &Binaries) -> Result<()> {
    each(runner, binaries, &["--keep-running"], |server| {
        eventually("the service works", || {
            Ok(Client::connect(server)?.number("ticks")? > 2)
        })?;
        // It stays while nobody is connected.
        let mut client = Client::connect(server)?;
        let before = client.number("ticks")?;
        ensure!(client.number("starts")? == 1);
        eventually("the service goes on", || {
            Ok(client.number("ticks")? > before)
        })
    })?;
    each(runner, binaries, &[], |server| {
        if runner.is_serve() {
            server.logged("grant it with `--keep-running`")?;
        }
        let mut client = Client::connect(server)?;
        ensure!(client.number("starts")? == 0);
        thread::sleep(Duration::from_millis(50));
        ensure!(client.number("ticks")? == 0);
        Ok(())
    })
}

/// After a trap an instance begins again by itself, later and later, and others go on meanwhile.
fn kept_after_traps(runner: Runner, binaries: &Binaries) -> Result<()> {
    for trap in ["TRAP=start", "TRAP=tick"] {
        let begin = Instant::now();
        let flags = ["--keep-running", "--env", trap];
        each(runner, binaries, &flags, |server| {
            let traps = || {
                let lines = server.errors();
                let trapped = lines
                    .iter()
                    .filter(|line| line.contains("the service trapped"));
                trapped.count()
            };
            eventually("the service begins again", || Ok(traps() >= 4))
        })?;
        // After three traps of one worker, 100, 200 and 400 ms have passed; with two workers,
        // after four traps of both at least the first of these.
        ensure!(begin.elapsed() >= Duration::from_millis(100));
    }
    Ok(())
}

/// A wait is late, never early, and limits the time of a read.
fn waiting(runner: Runner, binaries: &Binaries) -> Result<()> {
    let command = runner.service_with(binaries, "inquirer", &["127.0.0.1:0"], &[], &[]);
    let server = Server::start(command, 1)?;
    let begin = Instant::now();
    ask(&server, "sleep 60", "slept")?;
    ensure!(begin.elapsed() >= Duration::from_millis(60));
    let begin = Instant::now();
    ask(&server, "idle", "error TimedOut")?;
    ensure!(begin.elapsed() >= Duration::from_millis(50));
    Ok(())
}

/// A connection whose events the SDK serves times out once until data moves.
fn idle_timeout(runner: Runner, binaries: &Binaries) -> Result<()> {
    let flags = ["--env", "SERVE=1"];
    let command = runner.service_with(binaries, "inquirer", &["127.0.0.1:0"], &flags, &[]);
    let server = Server::start(command, 1)?;
    let begin = Instant::now();
    let mut client = Client::connect(&server)?;
    // The line about it moves data, and begins the time anew.
    for times in 1..=2 {
        let line = client.line()?;
        ensure!(line == "idle", "{line}");
        ensure!(begin.elapsed() >= Duration::from_millis(50 * times));
    }
    let begin = Instant::now();
    let mut answer = client.ask("data")?;
    while answer == "idle" {
        answer = client.line()?; // was on its way
    }
    ensure!(answer == "data", "{answer}");
    ensure!(client.line()? == "idle");
    ensure!(begin.elapsed() >= Duration::from_millis(100));
    Ok(())
}
