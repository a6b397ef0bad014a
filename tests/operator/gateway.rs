//! `guest/examples/gateway`, as devices, watchers and its operator meet it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use halfopen_tests::patience::PATIENCE;
use halfopen_tests::port::Port;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use rustix::process::Signal;
use tempfile::TempDir;

use super::host::{BINARIES, folder};

/// What a gateway has on the disk: its devices, and its readings.
struct Place(TempDir);

impl Place {
    /// With a device `boiler` and a watcher `@ops`.
    fn new() -> Result<Self> {
        let place = Place(folder()?);
        fs::create_dir(place.devices())?;
        fs::write(place.devices().join("boiler"), "s3cret\n")?;
        fs::write(place.devices().join("@ops"), "0ps")?;
        fs::write(place.0.path().join("outside"), "s3cret\n")?;
        Ok(place)
    }

    fn devices(&self) -> std::path::PathBuf {
        self.0.path().join("devices")
    }

    /// Starts a gateway.
    fn serve(&self, listen: &str, flags: &[&str], arguments: &[&str]) -> Result<Server> {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--topics", "local"]);
        serve.args(["--listen", listen]).args(flags);
        let devices = self.devices();
        serve
            .arg("--dir")
            .arg(format!("{}::devices:ro", devices.display()));
        serve.arg("--state").arg(self.0.path().join("state"));
        serve.arg(guest_path("gateway")).arg("--").args(arguments);
        Server::start(serve, 1)
    }

    fn start(&self) -> Result<Server> {
        self.serve("127.0.0.1:0", &[], &[])
    }
}

/// A device that sends lines.
struct Device(BufReader<TcpStream>);

impl Device {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Device(BufReader::new(stream)))
    }

    fn log_in(address: SocketAddr, hello: &str) -> Result<Self> {
        let mut device = Device::connect(address)?;
        device.asks(hello, "ok")?;
        Ok(device)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.get_mut().write_all(bytes)?)
    }

    fn asks(&mut self, line: &str, answer: &str) -> Result<()> {
        self.send(format!("{line}\n").as_bytes())?;
        self.hears(answer)
    }

    fn hears(&mut self, expected: &str) -> Result<()> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        ensure!(
            line == format!("{expected}\n"),
            "{line:?}, not `{expected}`"
        );
        Ok(())
    }

    /// Receives the gateway's FIN, and nothing before it.
    fn ends(&mut self) -> Result<()> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        ensure!(rest.is_empty(), "{}", rest.escape_ascii());
        Ok(())
    }
}

const BOILER: &str = "hello boiler s3cret";

#[test]
fn a_reading_is_acknowledged_stored_and_told() -> Result<()> {
    let place = Place::new()?;
    let server = place.start()?;
    let mut watcher = Device::log_in(server.address(), "hello @ops 0ps")?;
    watcher.asks("watch", "ok")?;
    let mut device = Device::log_in(server.address(), BOILER)?;
    device.asks("last", "last 0")?;
    device.asks("41 temperature=61.5,pressure=1.9", "ack 41")?;
    watcher.hears("boiler 41 temperature=61.5,pressure=1.9")?;
    device.asks("last", "last 41 temperature=61.5,pressure=1.9")?;
    // What has been stored is acknowledged again, and neither stored nor told again.
    device.asks("41 temperature=0", "ack 41")?;
    device.asks("40 temperature=0", "ack 40")?;
    device.asks("42 temperature=-3e1", "ack 42")?;
    watcher.hears("boiler 42 temperature=-3e1")?;
    let mut again = Device::log_in(server.address(), BOILER)?;
    again.asks("last", "last 42 temperature=-3e1")
}

#[test]
fn who_is_not_known_is_refused() -> Result<()> {
    let place = Place::new()?;
    let server = place.start()?;
    let unknown = "error: unknown device or wrong token";
    for (line, answer) in [
        ("hello boiler wrong", unknown),
        ("hello boiler s3cre", unknown),
        ("hello nobody s3cret", unknown),
        ("hello ../outside s3cret", "error: not understood"),
        ("hello boiler", "error: not understood"),
        ("1 temperature=20", "error: log in first"),
        ("last", "error: log in first"),
        ("watch", "error: log in first"),
        ("", "error: not understood"),
        ("\u{1b}[2J", "error: not understood"),
    ] {
        let mut device = Device::connect(server.address())?;
        device.asks(line, answer).with_context(|| line.to_owned())?;
        device.ends()?;
    }
    for (hello, line) in [
        (BOILER, BOILER),
        (BOILER, "watch"),
        ("hello @ops 0ps", "1 temperature=20"),
    ] {
        let mut device = Device::log_in(server.address(), hello)?;
        device.asks(line, "error: not for you")?;
        device.ends()?;
    }
    // A device comes and goes with its file.
    fs::write(place.devices().join("new"), "t0ken")?;
    Device::log_in(server.address(), "hello new t0ken")?;
    fs::remove_file(place.devices().join("new"))?;
    Device::connect(server.address())?.asks("hello new t0ken", unknown)
}

#[test]
fn messages_have_a_length_or_are_lines() -> Result<()> {
    let place = Place::new()?;
    let server = place.start()?;
    let frame = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let mut device = Device::connect(server.address())?;
    let messages = [BOILER, "7 temperature=20", "last"].map(frame).concat();
    // In as many pieces as there are bytes.
    for byte in messages {
        device.send(&[byte])?;
    }
    device.0.get_ref().shutdown(Shutdown::Write)?;
    let mut answers = Vec::new();
    device.0.read_to_end(&mut answers)?;
    let expected = ["ok", "ack 7", "last 7 temperature=20"].map(frame).concat();
    ensure!(answers == expected, "{}", answers.escape_ascii());
    // What is too long ends its connection, and no other.
    let mut other = Device::log_in(server.address(), BOILER)?;
    let mut long = Device::connect(server.address())?;
    long.send(&[2, 1])?;
    let mut answer = Vec::new();
    long.0.read_to_end(&mut answer)?;
    ensure!(
        answer == frame("error: the message is too long"),
        "{}",
        answer.escape_ascii()
    );
    let mut long = Device::connect(server.address())?;
    long.asks(&"x".repeat(513), "error: the message is too long")?;
    long.ends()?;
    other.asks("8 temperature=21", "ack 8")
}

/// A device may send everything, and FIN, before it reads.
#[test]
fn every_reading_before_fin_is_acknowledged() -> Result<()> {
    let place = Place::new()?;
    let server = place.start()?;
    let mut device = Device::connect(server.address())?;
    let readings: String = (1..=50)
        .map(|number| format!("{number} n={number}\n"))
        .collect();
    device.send(format!("{BOILER}\n{readings}").as_bytes())?;
    device.0.get_ref().shutdown(Shutdown::Write)?;
    device.hears("ok")?;
    for number in 1..=50 {
        device.hears(&format!("ack {number}"))?;
    }
    device.ends()
}

#[test]
fn a_silent_device_is_reset() -> Result<()> {
    let place = Place::new()?;
    let server = place.serve("127.0.0.1:0", &[], &["--idle", "1"])?;
    let begin = Instant::now();
    let mut device = Device::log_in(server.address(), BOILER)?;
    let mut byte = [0];
    let read = device.0.read(&mut byte);
    let error = read.err().context("the connection has ended by FIN")?;
    ensure!(
        error.kind() == std::io::ErrorKind::ConnectionReset,
        "{error}"
    );
    ensure!(
        begin.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    Ok(())
}

#[test]
fn the_readings_are_there_after_a_reload_and_a_kill() -> Result<()> {
    let place = Place::new()?;
    let server = place.start()?;
    let mut device = Device::log_in(server.address(), BOILER)?;
    device.asks("1 n=1", "ack 1")?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded; 1 connections go on")?;
    // The old connection and a new one have the same store.
    device.asks("2 n=2", "ack 2")?;
    Device::log_in(server.address(), BOILER)?.asks("last", "last 2 n=2")?;
    server.stop(Signal::KILL)?;
    let server = place.start()?;
    Device::log_in(server.address(), BOILER)?.asks("last", "last 2 n=2")
}

/// Without the grants nothing is acknowledged that is not stored.
#[test]
fn without_state_nothing_is_acknowledged() -> Result<()> {
    let place = Place::new()?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    let devices = place.devices();
    serve
        .arg("--dir")
        .arg(format!("{}::devices:ro", devices.display()));
    serve.arg(guest_path("gateway"));
    let server = Server::start(serve, 1)?;
    let mut device = Device::connect(server.address())?;
    device.asks(BOILER, "error: not stored; try again later")?;
    device.ends()?;
    server.logged("--state FILE")?;
    // Without watchers the rest goes on.
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve
        .arg("--dir")
        .arg(format!("{}::devices:ro", devices.display()));
    serve.arg("--state").arg(place.0.path().join("state"));
    let server = Server::start(
        {
            serve.arg(guest_path("gateway"));
            serve
        },
        1,
    )?;
    Device::log_in(server.address(), BOILER)?.asks("1 n=1", "ack 1")
}

/// Half of five hundred devices break off their connections again and again, and the gateway is
/// reloaded and killed meanwhile. Nothing that it has acknowledged is lost.
#[test]
fn nothing_that_was_acknowledged_to_five_hundred_devices_is_lost() -> Result<()> {
    const DEVICES: &str = "500";
    let place = Place::new()?;
    let bench = BINARIES.halfopen.with_file_name("halfopen-bench");
    let devices = |address: SocketAddr| {
        let mut devices = Command::new(&bench);
        devices.args(["devices", &address.to_string(), "--devices", DEVICES]);
        devices
    };
    let limits = ["--max-connections", "2000"];
    let port = Port::reserve()?;
    let address = port.address()?;
    let mut server = place.serve(&address.to_string(), &limits, &[])?;
    let written = devices(address)
        .arg("--write-tokens")
        .arg(place.devices())
        .status()
        .with_context(|| format!("cannot start {}", bench.display()))?;
    ensure!(written.success(), "{written}");
    let mut running = devices(address).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(running.stdout.take().context("it has an output")?).lines();
    let mut said = Vec::new();
    let mut until = |said: &mut Vec<String>, wanted: &str| -> Result<()> {
        for line in lines.by_ref() {
            said.push(line?);
            if said.last().is_some_and(|line| line.starts_with(wanted)) {
                return Ok(());
            }
        }
        bail!("it has ended without `{wanted}`: {said:?}")
    };
    until(&mut said, "20%")?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    for part in ["40%", "70%"] {
        until(&mut said, part)?;
        server.stop(Signal::KILL)?;
        server = place.serve(&address.to_string(), &limits, &[])?;
    }
    until(&mut said, "nothing acknowledged is lost")?;
    let ended = running.wait()?;
    ensure!(ended.success(), "{said:?}");
    Ok(())
}
