//! State in a file: what a crash leaves, who has it open, and what belongs to whom.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use rustix::process::Signal;

use super::host::{BINARIES, folder, make, serve};

/// A client of the service `ledger`, which obeys lines.
pub(super) struct Ledger(BufReader<TcpStream>);

impl Ledger {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Ledger(BufReader::new(stream)))
    }

    pub(super) fn ask(&mut self, line: &str) -> Result<String> {
        let mut stream = self.0.get_ref();
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        let answer = answer.strip_suffix('\n');
        Ok(answer.context("the connection ended")?.to_owned())
    }

    pub(super) fn expect(&mut self, line: &str, expected: &str) -> Result<()> {
        let answer = self.ask(line)?;
        ensure!(answer == expected, "{line}: {answer:?}, not {expected:?}");
        Ok(())
    }
}

pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of this test is text")
}

/// The last line of a command that fails with status 1.
pub(super) fn failure(flags: &[&str]) -> Result<String> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(flags).arg(guest_path("ledger"));
    let failed = run(serve)?;
    ensure!(failed.status.code() == Some(1), "{failed:?}");
    let errors: Vec<_> = failed
        .stderr
        .iter()
        .filter(|line| line.contains("error: "))
        .collect();
    ensure!(errors.len() == 1 && failed.stdout.is_empty(), "{failed:?}");
    Ok(errors[0].clone())
}

/// Clients count up until the process is killed. What the service has answered is there
/// afterwards, and at most one more for each client.
#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_kill() -> Result<()> {
    const CLIENTS: usize = 6;
    let folder = folder()?;
    let state = folder.path().join("state");
    let flags = ["--state", text(&state)?];
    let mut before = [0; CLIENTS];
    for round in 0..4 {
        let server = serve("ledger", &flags, &[])?;
        let address = server.address();
        for (client, &before) in before.iter().enumerate() {
            let answer = Ledger::connect(address)?.ask(&format!("get k{client}"))?;
            let now: usize = if answer == "-" { 0 } else { answer.parse()? };
            ensure!(
                now == before || now == before + 1,
                "{now} after {before} in round {round}"
            );
        }
        let done = AtomicUsize::new(0);
        let counts = thread::scope(|scope| -> Result<Vec<usize>> {
            let count = |client: usize| {
                let done = &done;
                move || -> Result<usize> {
                    let mut ledger = Ledger::connect(address)?;
                    let mut count: usize = ledger.ask(&format!("add k{client} 0"))?.parse()?;
                    // Until the kill.
                    while let Ok(answer) = ledger.ask(&format!("add k{client} 1")) {
                        count += 1;
                        ensure!(answer == count.to_string(), "{answer} instead of {count}");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(count)
                }
            };
            let threads: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(count(client)))
                .collect();
            eventually("the clients count", || {
                Ok(done.load(Ordering::Relaxed) > 100)
            })?;
            server.signal(Signal::KILL)?;
            let join = |thread: thread::ScopedJoinHandle<'_, Result<usize>>| {
                thread.join().map_err(|_| anyhow!("a client panicked"))?
            };
            threads.into_iter().map(join).collect()
        })?;
        before.copy_from_slice(&counts);
    }
    Ok(())
}

/// With `every-second` too, a server that is stopped loses nothing.
#[test]
fn a_stop_loses_nothing_that_waits_for_the_disk() -> Result<()> {
    let folder = folder()?;
    let state = folder.path().join("state");
    let flags = ["--state", text(&state)?, "--state-sync", "every-second"];
    for count in 1..=3 {
        let server = serve("ledger", &flags, &[])?;
        Ledger::connect(server.address())?.expect("add n 1", &count.to_string())?;
        ensure!(server.stop(Signal::TERM)?.status.success());
    }
    // After a second, a kill loses nothing either: the file changes when it is synced.
    let server = serve("ledger", &flags, &[])?;
    Ledger::connect(server.address())?.expect("add n 1", "4")?;
    let copy = folder.path().join("copy");
    eventually("the change is on the disk", || {
        // A copy of an open file is what a crash would leave.
        fs::copy(&state, &copy)?;
        let copied = serve("ledger", &["--state", text(&copy)?], &[]);
        match copied {
            Ok(copied) => Ok(Ledger::connect(copied.address())?.ask("get n")? == "4"),
            // The file was copied while it was written.
            Err(_) => Ok(false),
        }
    })
}

/// A composed service asks for state as before, and `halfopen run` grants it.
#[test]
fn a_composed_service_has_state() -> Result<()> {
    for guest in ["ledger", "passbook"] {
        let folder = folder()?;
        let composed = folder.path().join("composed.wasm");
        make("compose", &guest_path(guest), &composed)?;
        let state = folder.path().join("state");
        for count in ["1", "2"] {
            let mut run = command(&BINARIES.halfopen, ["run", "--allow-listen", "127.0.0.1:0"]);
            run.args(["--state", text(&state)?]).arg(&composed);
            run.args(["--listen", "127.0.0.1:0"]);
            let server = Server::start(run, 1)?;
            Ledger::connect(server.address())?.expect("add n 1", count)?;
            ensure!(server.stop(Signal::TERM)?.status.success());
        }
        let mut run = command(&BINARIES.halfopen, ["run", "--allow-listen", "127.0.0.1:0"]);
        run.arg(&composed).args(["--listen", "127.0.0.1:0"]);
        let server = Server::start(run, 1)?;
        let denied = "error: access denied: the host grants no state";
        Ledger::connect(server.address())?.expect("get n", denied)?;
        server.logged("grant it with `--state FILE`")?;
    }
    Ok(())
}

/// A disk that is full makes changes fail, and nothing else. Once it has room again, the file is
/// used again.
#[test]
fn a_full_disk_is_an_error_value_until_it_has_room() -> Result<()> {
    let folder = folder()?;
    // A file system of 3 MiB, in a mount namespace of the server's own.
    let namespace = |script: &str| {
        let mut unshare = command("unshare", ["--map-root-user", "--mount", "sh", "-ec"]);
        let script = format!("mount -t tmpfs -o size=3m none \"$0\"; {script}");
        unshare.arg(script).arg(folder.path());
        unshare
    };
    if !namespace("")
        .output()
        .is_ok_and(|made| made.status.success())
    {
        let line = "!!! SKIPPED: a full disk: `unshare` may make no file system here";
        writeln!(std::io::stderr(), "{line}")?;
        return Ok(());
    }
    let mut serve = namespace("head -c 1000000 /dev/zero >\"$0/filler\"; exec \"$@\"");
    serve
        .arg(&BINARIES.halfopen)
        .args(["serve", "--listen", "127.0.0.1:0", "--state"]);
    serve
        .arg(folder.path().join("state"))
        .arg(guest_path("ledger"));
    let server = Server::start(serve, 1)?;
    let mut ledger = Ledger::connect(server.address())?;
    ledger.expect("set before v", "ok")?;
    let failed = "error: the store has failed";
    let mut filled = 0;
    eventually("the disk is full", || {
        filled += 1;
        Ok(ledger.ask(&format!("large k{filled} 500000"))? == failed)
    })?;
    server.logged("No space left on device")?;
    let mut other = Ledger::connect(server.address())?;
    other.expect("open other", "error: no such store")?;
    let root = format!("/proc/{}/root", server.id());
    let within = Path::new(&root).join(folder.path().strip_prefix("/")?);
    fs::remove_file(within.join("filler"))?;
    eventually("there is room again", || {
        Ok(other.ask("set after v")? == "ok")
    })?;
    for number in 1..filled {
        ledger.expect(&format!("exists k{number}"), "yes")?;
    }
    ledger.expect("get before", "v")
}

/// A file that was closed needs no repair.
#[test]
fn a_stop_closes_the_file_and_a_kill_is_repaired() -> Result<()> {
    let folder = folder()?;
    let state = folder.path().join("state");
    let repaired = |end: Signal| -> Result<bool> {
        let flags = ["serve", "--listen", "127.0.0.1:0", "--state", text(&state)?];
        let mut serve = command(&BINARIES.halfopen, flags);
        serve.arg(guest_path("ledger")).env("HALFOPEN_LOG", "info");
        let server = Server::start(serve, 1)?;
        Ledger::connect(server.address())?.expect("fill k 100", "ok")?;
        let stopped = server.stop(end)?;
        Ok(stopped
            .stderr
            .iter()
            .any(|line| line.contains("is repaired")))
    };
    ensure!(!repaired(Signal::TERM)?, "a new file was repaired");
    ensure!(!repaired(Signal::INT)?, "the stop did not close it");
    ensure!(!repaired(Signal::KILL)?, "the stop did not close it");
    ensure!(repaired(Signal::TERM)?, "the kill was not noticed");
    Ok(())
}

#[test]
fn a_file_that_another_process_has_open_is_refused() -> Result<()> {
    let folder = folder()?;
    let state = folder.path().join("state");
    let server = serve("ledger", &["--state", text(&state)?], &[])?;
    let mode = fs::metadata(&state)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "others may read it: {mode:o}");
    let error = failure(&["--state", text(&state)?])?;
    for part in ["another process has it open", "`--state`"] {
        ensure!(error.contains(part), "{error}");
    }
    Ledger::connect(server.address())?.expect("add n 1", "1")?;
    drop(server);
    let server = serve("ledger", &["--state", text(&state)?], &[])?;
    Ledger::connect(server.address())?.expect("add n 1", "2")
}

#[test]
fn what_is_no_state_is_refused_and_left_as_it_is() -> Result<()> {
    let folder = folder()?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), "some text")?;
    fs::write(
        path("damaged"),
        b"redb\x1A\x0A\xA9\x0D\x0A and nothing else".repeat(500),
    )?;
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), 0o600.into())?;
    for (name, part) in [
        (
            "text",
            "it is a file of another kind; name another file with `--state`",
        ),
        ("damaged", "is no state of this program"),
        ("pipe", "it is no regular file"),
        (".", "cannot open the state"),
        ("none/state", "No such file or directory"),
    ] {
        // Reading a pipe would wait for somebody who writes.
        let before = (name != "pipe")
            .then(|| fs::read(path(name)).ok())
            .flatten();
        let error = failure(&["--state", text(&path(name))?])?;
        ensure!(
            error.contains(part) && error.lines().count() == 1,
            "{name}: {error}"
        );
        if let Some(before) = before {
            ensure!(fs::read(path(name))? == before, "{name} was changed");
        }
    }
    Ok(())
}

/// Services of one process can share a file. Each has a bucket by its name, unless they are told
/// to share one.
#[test]
fn each_service_has_its_own_bucket_of_a_file() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let service = |name: &str, more: &str| -> Result<String> {
        let component = guest_path("ledger");
        Ok(format!(
            "[services.{name}]\ncomponent = {:?}\nlisten = [\"127.0.0.1:0\"]\nstate = \"kept\"\n{more}",
            text(&component)?
        ))
    };
    let start = |config: &str| -> Result<Server> {
        fs::write(&file, config)?;
        let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
        serve.arg(&file);
        Server::start(serve, 2)
    };
    let server = start(&[service("one", "")?, service("two", "")?].concat())?;
    let [one, two] = server.addresses[..] else {
        anyhow::bail!("{:?}", server.addresses);
    };
    Ledger::connect(one)?.expect("add n 1", "1")?;
    Ledger::connect(two)?.expect("keys", "")?;
    Ledger::connect(two)?.expect("add n 5", "5")?;
    // The file is relative to the configuration, and a reload goes on with it.
    ensure!(folder.path().join("kept").exists());
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    Ledger::connect(one)?.expect("add n 1", "2")?;
    ensure!(server.stop(Signal::TERM)?.status.success());

    let shared = "state-bucket = \"one\"\n";
    let server = start(&[service("one", "")?, service("two", shared)?].concat())?;
    Ledger::connect(server.addresses[1])?.expect("add n 1", "3")?;
    Ledger::connect(server.addresses[0])?.expect("add n 1", "4")
}

/// A reload to another file, and to a lower limit.
#[test]
fn a_reload_moves_to_another_store() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let component = guest_path("ledger");
    let config = |more: &str| -> Result<()> {
        let component = text(&component)?;
        let text =
            format!("[services.a]\ncomponent = {component:?}\nlisten = [\"127.0.0.1:0\"]\n{more}");
        Ok(fs::write(&file, text)?)
    };
    config("state = \"first\"\n")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 1)?;
    let address = server.address();
    let mut old = Ledger::connect(address)?;
    old.expect("add n 1", "1")?;
    let reload = |reloads: usize| -> Result<()> {
        server.signal(Signal::HUP)?;
        eventually("it is reloaded", || {
            let lines = server.errors();
            Ok(lines
                .iter()
                .filter(|line| line.contains("reloaded;"))
                .count()
                == reloads)
        })
    };
    config("state = \"second\"\nstate-max-keys = 1\n")?;
    reload(1)?;
    Ledger::connect(address)?.expect("keys", "")?;
    Ledger::connect(address)?.expect("add m 1", "1")?;
    // The old version goes on with its own.
    old.expect("add n 1", "2")?;
    drop(old);
    config("state = \"first\"\nstate-max-keys = 1\n")?;
    reload(2)?;
    let mut back = Ledger::connect(address)?;
    back.expect("get n", "2")?;
    back.expect("set m 1", "error: the bucket is full: it may have 1 keys")?;
    // A store that cannot be opened changes nothing.
    config("state = \"none/third\"\n")?;
    server.signal(Signal::HUP)?;
    let line = server.logged_line("not reloaded")?;
    ensure!(
        line.contains("line 4 ") && line.contains("`state`: cannot open"),
        "{line}"
    );
    back.expect("add n 1", "3")
}

#[test]
fn what_a_component_asks_for_is_shown() -> Result<()> {
    let ledger = guest_path("ledger");
    let inspect = |flags: &[&str]| -> Result<String> {
        let mut inspect = command(&BINARIES.halfopen, ["inspect"]);
        inspect.args(flags).arg(&ledger);
        Ok(run(inspect)?.stdout.join("\n"))
    };
    ensure!(
        inspect(&[])?.contains("`--state` grants one"),
        "{}",
        inspect(&[])?
    );
    let granted = inspect(&["--state", "redis://me:secret@example.org"])?;
    ensure!(
        granted.contains("state in redis://example.org:6379"),
        "{granted}"
    );
    ensure!(!granted.contains("secret"), "{granted}");

    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let check = |guest: &str, more: &str| -> Result<String> {
        let component = guest_path(guest);
        let component = text(&component)?;
        fs::write(
            &file,
            format!("[services.a]\ncomponent = {component:?}\n{more}"),
        )?;
        let mut check = command(&BINARIES.halfopen, ["check"]);
        check.arg(&file);
        let checked = run(check)?;
        Ok([checked.stdout, checked.stderr].concat().join("\n"))
    };
    for (guest, more, part) in [
        (
            "ledger",
            "",
            "asks for state (`wasi:keyvalue`), which it is denied: add `state",
        ),
        (
            "ledger",
            "state = \"kept\"\n",
            "can be served, isolation connection, state in ",
        ),
        (
            "echo",
            "state = \"kept\"\n",
            ":3: warning: `a` has `state`, and does not ask for it",
        ),
        (
            "ledger",
            "state = \"http://x\"\n",
            ":3: not an address of a Redis server",
        ),
        (
            "ledger",
            "state = \"kept\"\nstate-password-file = \"x\"\n",
            ":4: a password is for a Redis server",
        ),
        (
            "ledger",
            "state-bucket = \"b\"\n",
            ":3: there is no state: add `--state FILE`",
        ),
    ] {
        let checked = check(guest, more)?;
        ensure!(checked.contains(part), "{more}: {checked}");
    }
    // It looks, and touches nothing.
    ensure!(!folder.path().join("kept").exists());
    Ok(())
}
