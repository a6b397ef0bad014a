//! State on a Redis server: the same as in a file, also when the server stops, stalls, wants a
//! password or speaks TLS.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use halfopen_tests::patience::eventually;
use halfopen_tests::port::Port;
use halfopen_tests::server::Server;
use halfopen_tests::tools::is_missing;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::host::{folder, serve};
use super::state::{Ledger, failure, text};
use halfopen_tests::tls::Authority;

/// Where a server writes its log, in its folder.
const LOG: &str = "log";

/// A Redis server, which ends on drop, and its files.
pub(super) struct Redis {
    folder: TempDir,
    flags: Vec<String>,
    child: Child,
    /// What `redis-cli` needs to reach it.
    client: Vec<String>,
    /// Its port, if it has one.
    port: Option<Port>,
}

/// Whether the tests are skipped, because there is no Redis here.
pub(super) fn skipped(what: &str) -> Result<bool> {
    Ok(is_missing("redis-server", what)? || is_missing("redis-cli", what)?)
}

impl Redis {
    /// Starts a server on a socket of its folder.
    pub(super) fn start(flags: &[&str]) -> Result<Self> {
        let folder = folder()?;
        let socket = folder.path().join("socket");
        let at = ["--port", "0", "--unixsocket", text(&socket)?];
        let client = vec!["-s".to_owned(), text(&socket)?.to_owned()];
        Redis::start_in(folder, &[&at, flags].concat(), client)
    }

    fn start_in(folder: TempDir, flags: &[&str], client: Vec<String>) -> Result<Self> {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = launch(&folder, &flags)?;
        let mut redis = Redis {
            folder,
            flags,
            child,
            client,
            port: None,
        };
        redis.is_up()?;
        Ok(redis)
    }

    fn is_up(&mut self) -> Result<()> {
        eventually("the Redis server is up", || {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.path(LOG)).unwrap_or_default();
                bail!("redis-server has ended with {status}: {log}");
            }
            // A server with a password answers as well.
            let answer = self.ask(&["PING"])?;
            Ok(answer.contains("PONG") || answer.contains("NOAUTH"))
        })
    }

    /// Ends the server, and starts it again with what it has kept.
    fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    fn start_again(&mut self) -> Result<()> {
        self.child = launch(&self.folder, &self.flags)?;
        self.is_up()
    }

    fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?).context("no id")?;
        Ok(kill_process(id, signal)?)
    }

    fn ask(&self, command: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli")
            .args(&self.client)
            .args(command)
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    fn address(&self) -> String {
        format!(
            "redis+unix://{}",
            self.folder.path().join("socket").display()
        )
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn launch(folder: &TempDir, flags: &[String]) -> Result<Child> {
    let mut redis = Command::new("redis-server");
    redis
        .args([
            "--dir",
            text(folder.path())?,
            "--save",
            "",
            "--appendonly",
            "yes",
            "--logfile",
            LOG,
        ])
        .args(["--appendfsync", "always"])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    redis.spawn().context("cannot start redis-server")
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(redis: &Redis, flags: &[&str]) -> Result<Server> {
    serve(
        "ledger",
        &[&["--state", &redis.address()], flags].concat(),
        &[],
    )
}

/// The same answers as from a file (`tests/conformance/state.rs`).
#[test]
fn a_redis_server_keeps_state_as_a_file_does() -> Result<()> {
    if skipped("state on a Redis server")? {
        return Ok(());
    }
    let redis = Redis::start(&[])?;
    let limits = [
        "--state-max-size",
        "1",
        "--state-max-keys",
        "2000",
        "--state-max-value",
        "512",
    ];
    let server = start(&redis, &limits)?;
    let mut client = Ledger::connect(server.address())?;
    let full = "error: the bucket is full: it may have 1048576 bytes";
    for (line, expected) in [
        ("open other", "error: no such store"),
        ("get k", "-"),
        ("set k v", "ok"),
        ("get k", "v"),
        ("exists k", "yes"),
        ("delete-many k none", "ok"),
        ("exists k", "no"),
        ("add n 9223372036854775807", "9223372036854775807"),
        ("add n 1", "error: the number would not fit into 64 bits"),
        ("add n -9223372036854775807", "0"),
        ("add n -1", "-1"),
        ("set text 01", "ok"),
        ("add text 1", "error: the value is no whole number"),
        ("get text", "01"),
        ("swap k old new", "no"),
        ("swap k - first", "yes"),
        ("swap k - second", "no"),
        ("swap k first second", "yes"),
        ("race k +more", "2 calls"),
        ("get k", "between+more"),
        ("set-many a=1 b=2 a=3", "ok"),
        ("many b none a", "2 - 3"),
        ("keys", "a b k n text"),
        ("fill k 1500", "ok"),
        ("keys", "1505 keys, in order: true"),
        (
            "fill l 500",
            "error: the bucket is full: it may have 2000 keys",
        ),
        ("exists l00000", "no"),
        ("large a 524288", "ok"),
        (
            "large b 524289",
            "error: the value has 524289 bytes, and may have 524288",
        ),
        ("large b 524288", full),
        ("get b", "2"),
        ("set n 999999999999999999", "ok"),
        ("delete a", "ok"),
        ("large b 524288", "ok"),
    ] {
        client.expect(line, expected)?;
    }
    // What the bucket holds is counted exactly.
    let counted: usize = redis.ask(&["GET", "{halfopen:ledger}:bytes"])?.parse()?;
    let mut held = 0;
    let pairs = redis.ask(&["HLEN", "{halfopen:ledger}:values"])?;
    ensure!(pairs == "1504", "{pairs}");
    for part in ["HKEYS", "HVALS"] {
        let lines = redis.ask(&[part, "{halfopen:ledger}:values"])?;
        held += lines.lines().map(str::len).sum::<usize>();
    }
    ensure!(counted == held, "{counted} are counted, {held} are held");
    Ok(())
}

#[test]
fn a_restart_of_the_redis_server_is_an_error_value_and_no_more() -> Result<()> {
    if skipped("state on a Redis server")? {
        return Ok(());
    }
    let mut redis = Redis::start(&[])?;
    let server = start(&redis, &[])?;
    let mut client = Ledger::connect(server.address())?;
    client.expect("add n 1", "1")?;
    redis.stop()?;
    client.expect("get n", "error: the store has failed")?;
    server.logged("the state has failed: redis+unix://")?;
    // The connection is served all the while.
    client.expect("open other", "error: no such store")?;
    redis.start_again()?;
    eventually(
        "the store is used again",
        || Ok(client.ask("get n")? == "1"),
    )?;
    redis.restart()?;
    eventually("the store is used again", || {
        Ok(client.ask("add n 1")? == "2")
    })?;

    // One that stalls.
    drop(server);
    let server = start(&redis, &["--state-timeout", "1"])?;
    let mut client = Ledger::connect(server.address())?;
    redis.signal(Signal::STOP)?;
    client.expect("get n", "error: the store has failed")?;
    server.logged("no answer within 1 s")?;
    redis.signal(Signal::CONT)?;
    eventually(
        "the store is used again",
        || Ok(client.ask("get n")? == "2"),
    )
}

#[test]
fn a_wrong_password_is_one_line_and_none_is_in_the_log() -> Result<()> {
    if skipped("state on a Redis server")? {
        return Ok(());
    }
    let redis = Redis::start(&["--requirepass", "confidential"])?;
    let (right, wrong) = (redis.path("right"), redis.path("wrong"));
    fs::write(&right, "confidential\n")?;
    fs::write(&wrong, "mistaken\n")?;
    let address = redis.address();
    let at = ["--state", &address];
    let with = |file: &PathBuf| -> Result<Vec<String>> {
        let flags = [at[0], at[1], "--state-password-file", text(file)?];
        Ok(flags.map(str::to_owned).to_vec())
    };
    for flags in [at.map(str::to_owned).to_vec(), with(&wrong)?] {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let error = failure(&flags)?;
        ensure!(error.contains("`--state-password-file`"), "{error}");
        ensure!(!error.contains("mistaken"), "{error}");
    }
    let error = failure(&[at[0], at[1], "--state-password-file", "/none"])?;
    ensure!(error.contains("cannot read `/none`"), "{error}");
    let right = with(&right)?;
    let flags: Vec<_> = right.iter().map(String::as_str).collect();
    let server = serve("ledger", &flags, &[])?;
    Ledger::connect(server.address())?.expect("add n 1", "1")?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(
        !format!("{stopped:?}").contains("confidential"),
        "{stopped:?}"
    );
    Ok(())
}

#[test]
fn a_redis_server_that_is_not_there_is_one_line() -> Result<()> {
    let error = failure(&["--state", "redis://:secret@127.0.0.1:1"])?;
    ensure!(
        error.contains("cannot use the state on redis://127.0.0.1:1: "),
        "{error}"
    );
    ensure!(
        error.contains("is the server running") && !error.contains("secret"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_redis_server_with_tls_shows_a_certificate() -> Result<()> {
    if skipped("state on a Redis server")? {
        return Ok(());
    }
    let authority = Authority::new()?;
    authority.sign("redis", "localhost")?;
    let redis = with_tls(&authority)?;
    let port = redis.client.last().context("no port")?.clone();
    let state = format!("rediss://localhost:{port}");
    let ca = authority.path("ca.pem");
    let server = serve(
        "ledger",
        &["--state", &state, "--state-ca", text(&ca)?],
        &[],
    )?;
    Ledger::connect(server.address())?.expect("add n 1", "1")?;
    // Nobody of the system's authorities has signed it, and it has another name.
    let error = failure(&["--state", &state])?;
    ensure!(
        error.contains("cannot use the state on rediss://localhost"),
        "{error}"
    );
    let other = format!("rediss://127.0.0.1:{port}");
    let error = failure(&["--state", &other, "--state-ca", text(&ca)?])?;
    ensure!(error.contains("certificate"), "{error}");
    Ok(())
}

/// Starts a server with TLS, on a port that is free.
fn with_tls(authority: &Authority) -> Result<Redis> {
    let reserved = Port::reserve()?;
    let port = reserved.address()?.port().to_string();
    let (ca, certificate, key) = (
        authority.path("ca.pem"),
        authority.path("redis.pem"),
        authority.path("redis.key"),
    );
    let flags = [
        // The port is reserved on this address only. Listening on all of them fails with EADDRINUSE
        // if a connection of any other address is in TIME-WAIT with this port.
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--tls-port",
        &port,
        "--tls-ca-cert-file",
        text(&ca)?,
        "--tls-cert-file",
        text(&certificate)?,
        "--tls-key-file",
        text(&key)?,
        "--tls-auth-clients",
        "no",
    ];
    let client = [
        "--tls",
        "--cacert",
        text(&ca)?,
        "-h",
        "localhost",
        "-p",
        &port,
    ];
    let client = client.map(str::to_owned).to_vec();
    let mut redis = Redis::start_in(folder()?, &flags, client)?;
    redis.port = Some(reserved);
    Ok(redis)
}
