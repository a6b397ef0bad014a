//! Recordings as Wireshark reads them, by `tshark`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::recorded::agrees;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use halfopen_tests::tools::is_missing;
use halfopen_tests::wire::{self, Wire};
use rustix::process::Signal;
use tempfile::TempDir;

use super::host::BINARIES;

/// What Wireshark finds wrong with packets, and what a real capture without losses does not have.
const WRONG: &str = "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0 \
                     || tcp.analysis.retransmission || tcp.analysis.fast_retransmission \
                     || tcp.analysis.spurious_retransmission || tcp.analysis.out_of_order \
                     || tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment \
                     || tcp.analysis.duplicate_ack || tcp.analysis.window_full \
                     || tcp.analysis.zero_window_probe || tcp.analysis.keep_alive \
                     || tcp.analysis.reused_ports";

/// Packets that are more than an acknowledgment.
pub(super) const EVENTFUL: &str = "tcp.len > 0 || tcp.flags.syn == 1 || tcp.flags.fin == 1 \
                        || tcp.flags.reset == 1";

/// A server, and the file that it records.
pub(super) struct Recorded {
    pub(super) server: Server,
    pub(super) file: PathBuf,
    _folder: TempDir,
}

/// Starts `halfopen serve --record` with flags, on an address.
pub(super) fn recorded(
    guest: &str,
    listen: &str,
    flags: &[&str],
    arguments: &[&str],
) -> Result<Recorded> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("connections.pcapng");
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", listen]);
    serve
        .arg("--record")
        .arg(&file)
        .args(flags)
        .arg(guest_path(guest))
        .arg("--")
        .args(arguments);
    Ok(Recorded {
        server: Server::start(serve, 1)?,
        file,
        _folder: folder,
    })
}

impl Recorded {
    /// Waits until so many connections are recorded to their end, and returns the file.
    pub(super) fn closed(&self, connections: usize) -> Result<&Path> {
        eventually("the ends are recorded", || {
            let file = fs::read(&self.file)?;
            Ok(count(&file, b"\"event\":\"closed\"") >= connections)
        })?;
        Ok(&self.file)
    }
}

/// How often something is in a file.
pub(super) fn count(file: &[u8], what: &[u8]) -> usize {
    file.windows(what.len())
        .filter(|window| *window == what)
        .count()
}

/// Runs `tshark` on a file. Returns the lines that it prints.
pub(super) fn tshark(file: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.args([
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    let output = tshark.arg("-r").arg(file).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tshark: {said}");
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.lines().map(str::to_owned).collect())
}

/// The values of a field in the packets that a filter selects.
pub(super) fn values(file: &Path, filter: &str, field: &str) -> Result<Vec<String>> {
    tshark(file, &["-Y", filter, "-T", "fields", "-e", field])
}

/// Checks that Wireshark finds nothing wrong.
pub(super) fn is_sound(file: &Path) -> Result<()> {
    let wrong = tshark(file, &["-Y", WRONG])?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The eventful packets: from which side, its flags, and the length of its data.
pub(super) fn packets(file: &Path, server: &Server) -> Result<Vec<String>> {
    let fields = [
        "-T",
        "fields",
        "-e",
        "tcp.srcport",
        "-e",
        "tcp.flags.str",
        "-e",
        "tcp.len",
    ];
    let lines = tshark(file, &[&["-Y", EVENTFUL], &fields[..]].concat())?;
    let port = server.address().port().to_string();
    let short = |line: &String| {
        let fields: Vec<_> = line.split('\t').collect();
        let side = if fields[0] == port { "server" } else { "peer" };
        let flags: String = fields[1]
            .chars()
            .filter(char::is_ascii_alphabetic)
            .collect();
        format!("{side} {flags} {}", fields[2])
    };
    Ok(lines.iter().map(short).collect())
}

/// What both sides sent, by `tshark`'s own reassembly of the first connection.
pub(super) fn followed(file: &Path) -> Result<[Vec<u8>; 2]> {
    let lines = tshark(file, &["-q", "-z", "follow,tcp,raw,0"])?;
    let mut sides = [Vec::new(), Vec::new()];
    for line in lines {
        let hex = line.trim_start();
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        // The side that did not begin is indented.
        let side = &mut sides[usize::from(line.starts_with('\t'))];
        for pair in hex.as_bytes().chunks(2) {
            side.push(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
        }
    }
    Ok(sides)
}

pub(super) fn skipped() -> Result<bool> {
    is_missing("tshark", "recordings, as Wireshark reads them")
}

#[test]
fn wireshark_reads_a_connection_as_it_was() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let recorded = recorded("echo", listen, &["--record-payload"], &["--quiet"])?;
        let mut client = Client::connect(recorded.server.address())?;
        for text in [&b"hello"[..], b"world!"] {
            client.send(text)?;
            ensure!(client.receive(text.len())? == text);
        }
        client.fin()?;
        ensure!(client.end()?.1 == End::Fin);
        let file = recorded.closed(1)?;
        is_sound(file)?;
        let expected = [
            "peer S 0",
            "server AS 0",
            "peer AP 5",
            "server AP 5",
            "peer AP 6",
            "server AP 6",
            "peer AF 0",
            "server AF 0",
        ];
        assert_eq!(packets(file, &recorded.server)?, expected, "{listen}");
        assert_eq!(
            followed(file)?,
            [b"helloworld!".to_vec(), b"helloworld!".to_vec()]
        );
        // The last packet tells the outcome and the cause.
        let comments = values(file, "frame.comment", "frame.comment")?;
        let last = comments.last().context("no comment")?;
        assert!(
            last.contains("closed: fin; the peer ended first: "),
            "{last}"
        );
        // The clock is the wall's.
        let now = std::time::UNIX_EPOCH.elapsed()?.as_secs_f64();
        for time in values(file, "tcp", "frame.time_epoch")? {
            let age = now - time.parse::<f64>()?;
            ensure!((-1.0..600.0).contains(&age), "{time} is {age} s ago");
        }
        let mode = fs::metadata(file)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    Ok(())
}

#[test]
fn what_wireshark_would_find_wrong_is_found() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let recorded = recorded("echo", "127.0.0.1:0", &["--record-payload"], &["--quiet"])?;
    let mut client = Client::connect(recorded.server.address())?;
    client.send(b"howdy")?;
    client.receive(5)?;
    client.fin()?;
    client.end()?;
    let good = fs::read(recorded.closed(1)?)?;
    is_sound(&recorded.file)?;
    let place = good.windows(5).position(|bytes| bytes == b"howdy");
    let mut damaged = good;
    damaged[place.context("the payload is not there")?] ^= 1;
    let file = recorded.file.with_extension("damaged");
    fs::write(&file, damaged)?;
    ensure!(is_sound(&file).is_err(), "a wrong checksum is not found");
    Ok(())
}

#[test]
fn a_recording_that_differs_from_the_wire_is_found() -> Result<()> {
    if is_missing("tcpdump", "recordings that are not true")? {
        return Ok(());
    }
    let recorded = recorded("echo", "127.0.0.1:0", &["--record-payload"], &["--quiet"])?;
    let mut client = Client::connect(recorded.server.address())?;
    client.send(b"howdy")?;
    client.receive(5)?;
    client.fin()?;
    client.end()?;
    let port = client.address()?.port();
    let good = fs::read(recorded.closed(1)?)?;
    let file = recorded.file.with_extension("changed");
    let read = |bytes: &[u8]| -> Result<Wire> {
        fs::write(&file, bytes)?;
        let wires = wire::read(&file, recorded.server.address().port())?;
        wires
            .get(&port)
            .and_then(|wires| wires.first().cloned())
            .context("the connection is missing")
    };
    let true_one = read(&good)?;
    agrees(&true_one, &true_one)?;
    // A TCP header without options, and its flags: FIN and ACK, or PSH and ACK with data.
    for (flags, others) in [(0x11, 0x10), (0x11, 0x14), (0x18, 0x14)] {
        let mut changed = good.clone();
        for at in 0..changed.len() - 1 {
            if changed[at..at + 2] == [0x50, flags] {
                changed[at + 1] = others;
            }
        }
        let found = agrees(&read(&changed)?, &true_one);
        ensure!(
            found.is_err(),
            "flags {others:#x} for {flags:#x} are not found"
        );
    }
    Ok(())
}

#[test]
fn megabytes_in_both_directions_are_recorded_in_order() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let flags = ["--record-payload", "--record-size", "64"];
    let recorded = recorded("echo", "127.0.0.1:0", &flags, &["--quiet"])?;
    let mut client = Client::connect(recorded.server.address())?;
    // No `q`, after which the echo ends.
    let sent: Vec<u8> = (0..2_000_000_u32)
        .map(|at| (at.wrapping_mul(at) >> 7) as u8 & 0x3F)
        .collect();
    let mut writer = client.try_clone()?;
    let writing = {
        let sent = sent.clone();
        std::thread::spawn(move || {
            writer.send(&sent)?;
            writer.fin()
        })
    };
    let received = client.receive(sent.len())?;
    writing.join().expect("it does not panic")?;
    client.end()?;
    ensure!(received == sent);
    let file = recorded.closed(1)?;
    is_sound(file)?;
    let [from_peer, from_server] = followed(file)?;
    ensure!(from_peer == sent, "{} bytes of the peer", from_peer.len());
    ensure!(
        from_server == sent,
        "{} bytes of the server",
        from_server.len()
    );
    Ok(())
}

#[test]
fn without_payload_lengths_are_true_and_no_byte_is_there() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let recorded = recorded("echo", "127.0.0.1:0", &[], &["--quiet"])?;
    let mut client = Client::connect(recorded.server.address())?;
    client.send(b"a secret")?;
    client.receive(8)?;
    client.fin()?;
    client.end()?;
    let file = recorded.closed(1)?;
    is_sound(file)?;
    let data = values(file, "tcp.len > 0", "tcp.len")?;
    assert_eq!(data, ["8", "8"]);
    ensure!(
        count(&fs::read(file)?, b"secret") == 0,
        "a byte is recorded"
    );
    Ok(())
}

#[test]
fn a_reset_a_limit_and_a_trap_are_seen_with_their_cause() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let recorded = recorded("hostile", "127.0.0.1:0", &["--idle-timeout", "1"], &[])?;
    let server = &recorded.server;
    let reset = {
        let mut client = Client::connect(server.address())?;
        client.send(b"x")?;
        client.receive(1)?;
        let port = client.address()?.port();
        client.reset()?;
        port
    };
    let ended = |how: &[u8]| -> Result<u16> {
        let mut client = Client::connect(server.address())?;
        client.send(how)?;
        ensure!(client.end()?.1 == End::Rst);
        Ok(client.address()?.port())
    };
    let (trapped, idle) = (ended(b"t")?, ended(b"x")?);
    let file = recorded.closed(3)?;
    is_sound(file)?;
    for (port, from_server, outcome) in [
        (
            reset,
            false,
            "closed: reset-by-peer; the peer ended first: ",
        ),
        (trapped, true, "closed: trap; the service ended first: "),
        (idle, true, "closed: limit-idle; the service ended first: "),
    ] {
        let side = if from_server { "dst" } else { "src" };
        let filter = format!("tcp.flags.reset == 1 && tcp.{side}port == {port}");
        let resets = values(file, &filter, "frame.number")?;
        ensure!(resets.len() == 1, "{outcome}: RST in {resets:?}");
        let filter = format!("tcp.port == {port} && frame.comment");
        let comments = values(file, &filter, "frame.comment")?;
        let last = comments.last().context("no comment")?;
        ensure!(last.contains(outcome), "{last}");
    }
    Ok(())
}

#[test]
fn a_full_file_becomes_another_and_each_is_whole() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let flags = ["--record-payload", "--record-size", "1"];
    let recorded = recorded("echo", "127.0.0.1:0", &flags, &["--quiet"])?;
    let mut client = Client::connect(recorded.server.address())?;
    let chunk = vec![b'x'; 50_000];
    let earlier = recorded.file.with_extension("pcapng.1");
    let mut rounds = 0;
    eventually("there are two files", || {
        client.send(&chunk)?;
        client.receive(chunk.len())?;
        rounds += 1;
        Ok(rounds > 15 && earlier.exists())
    })?;
    client.fin()?;
    client.end()?;
    recorded.closed(1)?;
    let stopped = recorded.server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{:?}", stopped.stderr);
    for file in [&recorded.file, &earlier] {
        is_sound(file)?;
        let size = fs::metadata(file)?.len();
        // A file ends with the block that fills it, and what was written together with that.
        ensure!(size < (1 << 19) + (1 << 18), "{size} bytes");
        let comments = values(
            file,
            "frame.comment contains \"\\\"peer\\\"\"",
            "frame.number",
        )?;
        ensure!(!comments.is_empty(), "the connection is not introduced");
    }
    Ok(())
}
