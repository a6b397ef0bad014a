//! State, `wasi:keyvalue`, in both styles and on each way to run a service natively.
//!
//! The services `tests/guests/ledger` and `passbook` obey the same lines, in callback and in await
//! style. `tests/operator/state.rs` and `redis.rs` have more of this for operators.

mod stalling;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use halfopen_tests::patience::{PATIENCE, PATIENCE_SECONDS, eventually};
use halfopen_tests::runner::{Binaries, Instances, Runner};
use halfopen_tests::server::Server;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Case, Run};
use stalling::Stalling;

pub(crate) const CASES: &[Case] = &[
    case("state-opening", &["B1"], opening),
    case("state-denied", &["B1"], denied),
    case("state-is-shared", &["B2"], shared),
    case("state-outlives", &["B3"], outlives),
    case("state-numbers", &["B4"], numbers),
    case("state-swaps", &["B4"], swaps),
    case("state-many-add", &["B2", "B4"], many_add),
    case("state-batches", &["B5"], batches),
    case("state-keys", &["B6"], keys),
    case("state-limits", &["B7"], limits),
    case("state-waits", &["B8"], waits),
    case("state-fails", &["B7", "B8"], fails),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::is_serve,
        elsewhere: "no flag for it",
        run,
    }
}

/// The service in both styles.
const GUESTS: [&str; 2] = ["ledger", "passbook"];

fn start(runner: Runner, binaries: &Binaries, guest: &str, flags: &[&str]) -> Result<Server> {
    let command = runner.service_with(binaries, guest, &["127.0.0.1:0"], flags, &[]);
    Server::start(command, 1)
}

/// Calls `test` with a server of each style, which has state in a new file.
fn each(
    runner: Runner,
    binaries: &Binaries,
    flags: &[&str],
    test: impl Fn(SocketAddr) -> Result<()>,
) -> Result<()> {
    for guest in GUESTS {
        let folder = TempDir::new()?;
        let state = folder.path().join("state");
        let flags = [&["--state", file(&state)?], flags].concat();
        let server = start(runner, binaries, guest, &flags)?;
        test(server.address()).with_context(|| format!("{guest}: {:?}", server.errors()))?;
    }
    Ok(())
}

fn file(path: &Path) -> Result<&str> {
    path.to_str().context("a path of this test is text")
}

/// A client of the service.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let mut stream = self.0.get_ref();
        Ok(stream.write_all(format!("{line}\n").as_bytes())?)
    }

    fn receive(&mut self) -> Result<String> {
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        let answer = answer.strip_suffix('\n');
        Ok(answer.context("the connection ended")?.to_owned())
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.send(line)?;
        self.receive().context(line.to_owned())
    }

    /// Checks the answers to lines.
    fn expect(&mut self, lines: &[(&str, &str)]) -> Result<()> {
        for (line, expected) in lines {
            let answer = self.ask(line)?;
            ensure!(answer == *expected, "{line}: {answer:?}, not {expected:?}");
        }
        Ok(())
    }
}

/// A service has one bucket, under two names.
fn opening(runner: Runner, binaries: &Binaries) -> Result<()> {
    each(runner, binaries, &[], |address| {
        Client::connect(address)?.expect(&[
            ("open default", "ok"),
            ("open ", "ok"),
            ("open other", "error: no such store"),
            ("get k", "-"),
            ("set k v", "ok"),
            ("get k", "v"),
            ("exists k", "yes"),
            ("delete k", "ok"),
            ("delete k", "ok"),
            ("exists k", "no"),
        ])
    })
}

/// Without a grant everything is an error value, and the log says so once.
fn denied(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let server = start(runner, binaries, guest, &[])?;
        let mut client = Client::connect(server.address())?;
        let denied = "error: access denied: the host grants no state";
        client.expect(&[
            ("open default", denied),
            ("open other", denied),
            ("set k v", denied),
        ])?;
        let line = server.logged_line("denied: state (`wasi:keyvalue`)")?;
        ensure!(line.contains("grant it with `--state FILE`"), "{line}");
        let stopped = server.stop(Signal::TERM)?;
        let logged = stopped.stderr.iter().filter(|line| line.contains("denied"));
        ensure!(logged.count() == 1, "{stopped:?}");
    }
    Ok(())
}

/// What one connection writes, all others read, whichever instance serves them.
fn shared(runner: Runner, binaries: &Binaries) -> Result<()> {
    each(runner, binaries, &[], |address| {
        let mut clients = (0..4)
            .map(|_| Client::connect(address))
            .collect::<Result<Vec<_>>>()?;
        for writer in 0..4 {
            clients[writer].expect(&[(&format!("set k {writer}"), "ok")])?;
            for client in &mut clients {
                client.expect(&[("get k", &writer.to_string())])?;
            }
        }
        Ok(())
    })
}

/// State outlives a trap, a reload, a stop and a kill.
fn outlives(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let folder = TempDir::new()?;
        let state = folder.path().join("state");
        let flags = ["--state", file(&state)?];
        let mut number = 0;
        let mut add = |address| {
            number += 1;
            Client::connect(address)?.expect(&[("add n 1", &number.to_string())])
        };
        for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
            let server = start(runner, binaries, guest, &flags)?;
            add(server.address())?;
            ensure!(Client::connect(server.address())?.ask("trap").is_err());
            add(server.address())?;
            server.signal(Signal::HUP)?;
            server.logged("reloaded;")?;
            add(server.address())?;
            server.stop(signal)?;
        }
    }
    Ok(())
}

/// A number is decimal text of 64 bits, and what is not stays as it is.
fn numbers(runner: Runner, binaries: &Binaries) -> Result<()> {
    let no_number = "error: the value is no whole number";
    let no_room = "error: the number would not fit into 64 bits";
    each(runner, binaries, &[], |address| {
        Client::connect(address)?.expect(&[
            ("add n 9223372036854775807", "9223372036854775807"),
            ("add n 1", no_room),
            ("get n", "9223372036854775807"),
            ("add n -9223372036854775807", "0"),
            ("add n -9223372036854775808", "-9223372036854775808"),
            ("add n -1", no_room),
            ("set text 01", "ok"),
            ("add text 1", no_number),
            ("get text", "01"),
            ("set text 41", "ok"),
            ("add text 1", "42"),
        ])
    })
}

/// A swap takes place if the value is the one that was seen, and tells the new one otherwise.
fn swaps(runner: Runner, binaries: &Binaries) -> Result<()> {
    each(runner, binaries, &[], |address| {
        Client::connect(address)?.expect(&[
            ("swap k old new", "no"),
            ("get k", "-"),
            ("swap k - first", "yes"),
            ("swap k - second", "no"),
            ("swap k other second", "no"),
            ("swap k first second", "yes"),
            ("get k", "second"),
            ("race k +more", "2 calls"),
            ("get k", "between+more"),
        ])
    })
}

/// Clients that add at the same time lose nothing.
fn many_add(runner: Runner, binaries: &Binaries) -> Result<()> {
    const CLIENTS: usize = 8;
    const TIMES: usize = 25;
    each(runner, binaries, &[], |address| {
        let add = move || -> Result<()> {
            let mut client = Client::connect(address)?;
            for _ in 0..TIMES {
                client.ask("add n 1")?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(add)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        let sum = (CLIENTS * TIMES).to_string();
        Client::connect(address)?.expect(&[("get n", &sum)])
    })
}

/// A batch takes place as a whole.
fn batches(runner: Runner, binaries: &Binaries) -> Result<()> {
    each(runner, binaries, &["--state-max-keys", "3"], |address| {
        let full = "error: the bucket is full: it may have 3 keys";
        Client::connect(address)?.expect(&[
            ("set-many a=1 b=2 a=3", "ok"),
            ("many b none a b", "2 - 3 2"),
            ("set-many a=4 c=5 d=6", full),
            ("many a b c d", "3 2 - -"),
            ("set-many a=4 c=5", "ok"),
            ("delete-many a none b", "ok"),
            ("many a b c", "- - 5"),
            ("keys", "c"),
            (
                "fill k 10001",
                "error: the batch has 10001 keys, and may have 10000",
            ),
        ])
    })
}

/// All keys come, in order, however many pages they take.
fn keys(runner: Runner, binaries: &Binaries) -> Result<()> {
    each(runner, binaries, &[], |address| {
        Client::connect(address)?.expect(&[
            ("keys", ""),
            ("set-many b=1 a=1 é=1 aa=1 Z=1", "ok"),
            ("keys", "Z a aa b é"),
            ("fill k 1000", "ok"),
            ("fill j 1500", "ok"),
            ("keys", "2505 keys, in order: true"),
        ])
    })
}

/// What is too long, too large or too much is an error value, and changes nothing.
fn limits(runner: Runner, binaries: &Binaries) -> Result<()> {
    let flags = ["--state-max-size", "1", "--state-max-value", "512"];
    each(runner, binaries, &flags, |address| {
        let full = "error: the bucket is full: it may have 1048576 bytes";
        let mut client = Client::connect(address)?;
        client.expect(&[
            ("long 1024", "ok"),
            (
                "long 1025",
                "error: the key has 1025 bytes, and may have 1024",
            ),
            ("large a 524288", "ok"),
            (
                "large b 524289",
                "error: the value has 524289 bytes, and may have 524288",
            ),
            ("large b 524288", full),
            ("exists b", "no"),
            ("large b 400000", "ok"),
            ("large b 524288", full),
            ("large b 100000", "ok"),
            ("delete a", "ok"),
            ("large b 524288", "ok"),
        ])?;
        // Another connection is served all the while.
        let mut other = Client::connect(address)?;
        client.expect(&[("large a 524288", full)])?;
        other.expect(&[("exists b", "yes")])?;
        eventually("a deletion makes room", || {
            other.expect(&[("delete b", "ok")])?;
            Ok(client.ask("large a 524288")? == "ok")
        })
    })
}

/// An instance that waits for the store holds up no other one.
fn waits(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let redis = Stalling::start()?;
        let flags = [
            "--state",
            &redis.address,
            "--state-timeout",
            PATIENCE_SECONDS,
        ];
        let server = start(runner, binaries, guest, &flags)?;
        let mut waiting = Client::connect(server.address())?;
        waiting.send("get k")?;
        eventually("the store is asked", || Ok(redis.asked() == 1))?;
        let mut other = Client::connect(server.address())?;
        let elsewhere = ("open other", "error: no such store");
        if runner.properties().instances == Instances::Shared(1) {
            other.send(elsewhere.0)?;
            redis.release();
            ensure!(waiting.receive()? == "-");
            ensure!(other.receive()? == elsewhere.1);
        } else {
            other.expect(&[elsewhere])?;
            redis.release();
            ensure!(waiting.receive()? == "-");
        }
    }
    Ok(())
}

/// A store that does not answer is an error value, and is used again once it does.
fn fails(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let redis = Stalling::start()?;
        let flags = ["--state", &redis.address, "--state-timeout", "1"];
        let server = start(runner, binaries, guest, &flags)?;
        let mut client = Client::connect(server.address())?;
        client.expect(&[("get k", "error: the store has failed")])?;
        server.logged("no answer within 1 s")?;
        redis.release();
        eventually(
            "the store is used again",
            || Ok(client.ask("get k")? == "-"),
        )?;
    }
    Ok(())
}
