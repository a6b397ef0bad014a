//! Runs the binary as a person does: its messages and its exit statuses.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest wait for anything that the binary does: compiling a component on a machine
/// with other work takes a minute. A test that passes never waits that long.
const PATIENCE: Duration = Duration::from_secs(180);

/// A grace time, in seconds, that no test reaches.
const LONG: &str = "3600";

fn halfopen<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halfopen"));
    command.args(arguments).env("RUST_BACKTRACE", "0");
    command
}

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist")
        .join(name);
    path.to_str().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks that the command fails, with one line on standard error that contains `parts`.
fn fails(mut command: Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert_eq!(text(&output.stdout), "", "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is missing in: {stderr}");
    }
}

#[test]
fn a_component_that_cannot_be_served_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = file("text", b"hello");
    let module = file("module", b"\0asm\x01\0\0\0");
    let damaged = file("damaged", b"\0asm\x0d\0\x01\0damaged");
    let serve = |path: &str| halfopen(["serve", "--listen", "127.0.0.1:0", path]);

    fails(serve("/no/such/file"), &["`/no/such/file`", "No such file"]);
    fails(serve(&text), &["not a WebAssembly component"]);
    fails(
        serve(&module),
        &["core WebAssembly module", "wasm32-wasip2"],
    );
    fails(serve(&damaged), &["not a valid component"]);
    fails(
        serve(&shipped("echo-standalone.wasm")),
        &[
            "`serve` takes a service",
            "`halfopen:tcp/events@0.1.0` or `halfopen:tcp/handler@0.1.0`",
            "exports `wasi:cli/run@0.3.0`",
        ],
    );
    fails(
        halfopen(["run", &shipped("echo.wasm")]),
        &[
            "`run` takes a program",
            "halfopen serve",
            "exports `halfopen:tcp/events@0.1.0`",
        ],
    );
}

#[test]
fn a_missing_import_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let component = |name: &str, import: &str| {
        let wat = format!(
            r#"(component
                (import "{import}" (instance (export "f" (func))))
                (component $run
                    (core module $m (func (export "f") (result i32) i32.const 0))
                    (core instance $i (instantiate $m))
                    (func (export "run") (result (result)) (canon lift (core func $i "f"))))
                (instance $r (instantiate $run))
                (export "wasi:cli/run@0.2.0" (instance $r)))"#
        );
        let path = folder.path().join(name);
        std::fs::write(&path, wat::parse_str(wat).unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    fails(
        halfopen(["run", &component("a", "acme:rockets/launch@1.0.0")]),
        &["missing import", "`acme:rockets/launch@1.0.0`"],
    );
    fails(
        halfopen(["run", &component("b", "wasi:sockets/tcp@0.9.0")]),
        &[
            "wrong WASI version",
            "`wasi:sockets/tcp@0.9.0`",
            "0.3.0 and 0.2.x",
        ],
    );
}

#[test]
fn an_address_that_cannot_be_used_is_refused_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let serve = |address: &str| halfopen(["serve", "--listen", address]);
    fails(
        serve(&taken),
        &[&taken, "address already in use", "another port"],
    );
    fails(serve("192.0.2.1:7"), &["address not available"]);
    fails(
        serve("127.0.0.1:65536"),
        &["`65536` is not a port", "0 (any free one) to 65535"],
    );
    fails(
        serve("example.org:80"),
        &["`example.org` is not an IP address", "write a port"],
    );
    fails(
        halfopen(["run", "--allow-listen", "everywhere", "x"]),
        &["`everywhere` is not an address rule", "127.0.0.1:1234"],
    );
}

#[test]
fn a_denied_address_is_logged_with_the_flag_that_grants_it() {
    for name in ["echo-standalone.wasm", "primitives.wasm"] {
        let mut run = halfopen(["run", "--allow-listen", "127.0.0.1:1"]);
        run.args([&shipped(name), "--listen", "127.0.0.1:45678"]);
        let output = run.output().unwrap();
        assert!(!output.status.success());
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains("--allow-listen 127.0.0.1:45678"),
            "{stderr}"
        );
        assert!(
            stderr.contains("error: cannot listen on 127.0.0.1:45678: access denied"),
            "{stderr}"
        );
    }
}

#[test]
fn native_code_is_loaded_only_if_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join("echo.cwasm");
    let compiled = compiled.to_str().unwrap();
    let output = halfopen(["compile", &shipped("echo.wasm"), "-o", compiled])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    fails(
        halfopen(["serve", "--listen", "127.0.0.1:0", compiled]),
        &["precompiled native code", "--allow-precompiled"],
    );
    let server = Server::start(halfopen([
        "serve",
        "--allow-precompiled",
        "--listen",
        "127.0.0.1:0",
        compiled,
    ]));
    assert_eq!(server.ask(b"hi"), b"hi");
}

#[test]
fn a_composed_service_runs_as_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let composed = folder.path().join("composed.wasm");
    let composed = composed.to_str().unwrap();
    let output = halfopen(["compose", &shipped("echo.wasm"), "-o", composed])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let server = Server::start(halfopen([
        "run",
        "--allow-listen",
        "127.0.0.1:0",
        composed,
        "--listen",
        "127.0.0.1:0",
    ]));
    assert_eq!(server.ask(b"hi"), b"hi");
    fails(
        halfopen(["compose", composed, "-o", "/dev/null"]),
        &["needs no composing"],
    );
}

#[test]
fn inspect_shows_the_kind_and_the_grants_of_a_component() {
    let inspect = |name: &str, more: &[&str]| -> String {
        let output = halfopen(["inspect", &shipped(name)])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success());
        text(&output.stdout)
    };
    for (name, style, world, export, import) in [
        ("echo", "callback style", "callbacks", "events", "sockets"),
        ("digest", "await style", "service", "handler", "connections"),
    ] {
        let report = inspect(&format!("{name}.wasm"), &[]);
        for part in [
            &format!("{name}.wasm: service in {style}, "),
            &format!("\n  halfopen:tcp/{world}@0.1.0\n"),
            &format!("\n  halfopen:tcp/{export}@0.1.0\n"),
            &format!("\n  halfopen:tcp/{import}@0.1.0 "),
            "its own connections",
            "halfopen serve",
            "halfopen compose",
            " bytes",
        ] {
            assert!(report.contains(part), "{part:?} is not in\n{report}");
        }
        assert!(!report.contains("MISSING"), "{report}");
    }
    let standalone = inspect("echo-standalone.wasm", &["--allow-listen", "127.0.0.1:80"]);
    for part in [
        "wasi:cli/run@0.3.0",
        "listen 127.0.0.1:80, connect nowhere",
        "wasmtime run",
    ] {
        assert!(standalone.contains(part), "{standalone}");
    }
}

#[test]
fn a_signal_stops_accepting_and_lets_connections_finish() {
    for isolation in ["connection", "shared"] {
        let mut command = halfopen(["serve", "--listen", "127.0.0.1:0"]);
        command.args(["--grace", LONG, "--isolation", isolation]);
        let server = Server::start(command);
        let mut live = server.connect();
        live.write_all(b"a").unwrap();
        assert_eq!(receive(&mut live, 1), b"a");
        server.signal(Signal::TERM);
        server.stops_accepting();
        live.write_all(b"b").unwrap();
        assert_eq!(
            receive(&mut live, 1),
            b"b",
            "the connection is still served"
        );
        drop(live);
        assert!(server.wait().success());
    }
}

#[test]
fn the_grace_time_is_a_limit() {
    let server = Server::start(halfopen([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--grace",
        "0.2",
    ]));
    let mut live = server.connect();
    live.write_all(b"a").unwrap();
    receive(&mut live, 1);
    server.signal(Signal::INT);
    let error = live.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(server.wait().success());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let server = Server::start(halfopen([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--grace",
        LONG,
    ]));
    let mut live = server.connect();
    live.write_all(b"a").unwrap();
    receive(&mut live, 1);
    server.signal(Signal::TERM);
    server.stops_accepting();
    server.signal(Signal::TERM);
    assert!(!server.wait().success());
}

#[test]
fn a_program_lets_connections_finish() {
    let server = Server::start(halfopen([
        "run",
        "--grace",
        LONG,
        "--allow-listen",
        "127.0.0.1:0",
        &shipped("primitives.wasm"),
        "--listen",
        "127.0.0.1:0",
    ]));
    let mut live = server.connect();
    live.write_all(b"a").unwrap();
    receive(&mut live, 1);
    server.signal(Signal::TERM);
    server.stops_accepting();
    live.write_all(b"b").unwrap();
    assert_eq!(receive(&mut live, 1), b"b");
    drop(live);
    assert!(server.wait().success());
}

/// A running server, which is killed on drop.
struct Server {
    child: Child,
    address: SocketAddr,
    // Keeps the pipe open, so that the server can print.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Server {
            child,
            address: line.trim().parse().unwrap(),
            _stdout: stdout,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `bytes` and FIN, and returns everything that comes back.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until connections are refused.
    fn stops_accepting(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_ok() {
            assert!(Instant::now() < deadline, "the server still accepts");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the process ends.
    fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn receive(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}
