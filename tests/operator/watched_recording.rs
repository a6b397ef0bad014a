//! Recordings that a watcher writes: `halfopen watch --record`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::recorded::agrees;
use halfopen_tests::server::{Server, Stopped, command, run};
use halfopen_tests::tools::is_missing;
use halfopen_tests::wire;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::host::{BINARIES, echo, is_served, served};
use super::recording::{has, once};
use super::recordings::{EVENTFUL, count, followed, is_sound, packets, recorded, skipped, values};
use super::watching::with_control;

/// A watcher that records, and its file.
struct Recording {
    watching: Server,
    file: PathBuf,
    folder: TempDir,
}

/// Begins to record what happens on a server.
fn recording(control: &Path, flags: &[&str]) -> Result<Recording> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("watched.pcapng");
    let watching = begin(control, &file, flags)?;
    Ok(Recording {
        watching,
        file,
        folder,
    })
}

fn begin(control: &Path, file: &Path, flags: &[&str]) -> Result<Server> {
    let mut watch = command(&BINARIES.halfopen, ["watch", "--control"]);
    watch.arg(control).arg("--record").arg(file).args(flags);
    let watching = Server::start(watch, 0)?;
    watching.logged("recording in")?;
    Ok(watching)
}

/// Ends a watcher by Ctrl-C.
fn interrupt(watching: Server) -> Result<Stopped> {
    let stopped = watching.stop(Signal::INT)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(stopped)
}

/// The events of a recording, without its first line.
fn events(file: &Path) -> Result<Vec<Value>> {
    let mut watch = command(&BINARIES.halfopen, ["watch", "--json"]);
    watch.arg(file);
    let shown = run(watch)?;
    ensure!(shown.status.success(), "{shown:?}");
    let lines = shown.stdout.iter();
    let lines = lines.filter(|line| !line.contains("\"event\":\"hello\""));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Ends that differ: by FIN, by RST of the client, by a trap, and by a limit.
fn ends(server: &Server) -> Result<()> {
    let behaves = || -> Result<Client> {
        let mut client = Client::connect(server.address())?;
        client.send(b"x")?;
        client.receive(1)?;
        Ok(client)
    };
    let mut client = behaves()?;
    client.send(b"hello")?;
    ensure!(client.receive(5)? == b"hello");
    client.fin()?;
    ensure!(client.end()?.1 == End::Fin);
    behaves()?.reset()?;
    for (how, end) in [(&b"t"[..], End::Rst), (b"x", End::Rst)] {
        let mut client = Client::connect(server.address())?;
        client.send(how)?;
        ensure!(client.end()?.1 == end);
    }
    Ok(())
}

#[test]
fn it_is_what_the_server_records() -> Result<()> {
    if skipped()? || is_missing("tcpdump", "recordings of watchers")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let flags = ["--idle-timeout", "1", "--control"];
    let flags = [&flags[..], &[control.to_str().context("not UTF-8")?]].concat();
    let own = recorded("hostile", "127.0.0.1:0", &flags, &[])?;
    let watched = recording(&control, &[])?;
    ends(&own.server)?;
    own.closed(4)?;
    has(&watched.file, "\"event\":\"closed\"", 4)?;
    is_sound(&watched.file)?;
    for (filter, field) in [
        (EVENTFUL, "tcp.srcport"),
        (EVENTFUL, "tcp.flags"),
        (EVENTFUL, "tcp.len"),
        ("frame.comment", "frame.comment"),
        ("tcp", "frame.time_epoch"),
    ] {
        let found = values(&watched.file, filter, field)?;
        ensure!(found.len() > 10, "{field}: {found:?}");
        assert_eq!(found, values(&own.file, filter, field)?, "{field}");
    }
    let port = own.server.address().port();
    let (theirs, ours) = (
        wire::read(&own.file, port)?,
        wire::read(&watched.file, port)?,
    );
    ensure!(theirs.len() == 4 && theirs == ours, "{theirs:?}\n{ours:?}");
    for (client, wires) in &ours {
        for (wire, own) in wires.iter().zip(&theirs[client]) {
            agrees(wire, own)?;
        }
    }
    assert_eq!(events(&watched.file)?, events(&own.file)?);
    interrupt(watched.watching).map(drop)
}

#[test]
fn it_is_whole_after_ctrl_c() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let watched = recording(&control, &[])?;
    let _open = served(&server)?;
    has(&watched.file, "\"event\":\"accepted\"", 1)?;
    // What has just happened is written as well.
    once(&server)?;
    let stopped = interrupt(watched.watching)?;
    ensure!(
        !stopped.stderr.iter().any(|line| line.contains("ended")),
        "{stopped:?}"
    );
    ensure!(events(&watched.file)?.len() > 5);
    if skipped()? {
        return Ok(());
    }
    is_sound(&watched.file)
}

#[test]
fn it_ends_with_the_server() -> Result<()> {
    let (server, _folder, control) =
        with_control(|flags| echo(&[flags, &["--grace", "0"]].concat()))?;
    let watched = recording(&control, &[])?;
    let _open = served(&server)?;
    server.stop(Signal::TERM)?;
    let stopped = watched.watching.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    let said = stopped.stderr.last().context("nothing is said")?;
    ensure!(said == "halfopen: the server has ended", "{said}");
    let mut events = events(&watched.file)?.into_iter();
    let closed = events.find(|event| event["event"] == "closed");
    let closed = closed.context("the end of the connection is missing")?;
    ensure!(closed["outcome"] == "stopped", "{closed}");
    Ok(())
}

/// As `wireshark -k -i -` would be, once somebody closes its window.
#[test]
fn it_ends_when_nobody_reads_standard_output() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let mut watch = Command::new(&BINARIES.halfopen);
    watch.args(["watch", "--record", "-", "--control"]);
    watch.arg(&control).stdout(Stdio::piped());
    let mut watching = watch.stderr(Stdio::piped()).spawn()?;
    let mut stdout = watching.stdout.take().context("no standard output")?;
    let mut file = Vec::new();
    let mut buffer = [0; 65_536];
    while count(&file, b"\"event\":\"closed\"") == 0 {
        once(&server)?;
        let length = stdout.read(&mut buffer)?;
        ensure!(length > 0, "it has ended");
        file.extend(&buffer[..length]);
    }
    ensure!(file.starts_with(b"\x0A\x0D\x0D\x0A"), "it is no recording");
    // Nothing has to happen for it to be noticed.
    drop(stdout);
    let mut status = None;
    eventually("the watcher has ended", || {
        status = watching.try_wait()?;
        Ok(status.is_some())
    })?;
    let mut said = String::new();
    let mut stderr = watching.stderr.take().context("no standard error")?;
    stderr.read_to_string(&mut said)?;
    ensure!(status.is_some_and(|status| status.success()), "{said}");
    ensure!(
        said == "halfopen: recording in standard output; Ctrl-C ends it\n",
        "{said}"
    );
    Ok(())
}

#[test]
fn bytes_are_recorded_if_the_server_shows_them() -> Result<()> {
    let (_server, _folder, control) = with_control(echo)?;
    let mut watch = command(&BINARIES.halfopen, ["watch", "--record-payload"]);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("none");
    watch
        .arg("--control")
        .arg(&control)
        .arg("--record")
        .arg(&file);
    let refused = run(watch)?;
    ensure!(!refused.status.success() && !file.exists(), "{refused:?}");
    let [error] = &refused.stderr[..] else {
        anyhow::bail!("{refused:?}");
    };
    ensure!(error.contains("`--watch-payload`"), "{error}");
    let (server, _folder, control) =
        with_control(|flags| echo(&[flags, &["--watch-payload"]].concat()))?;
    let without = recording(&control, &[])?;
    let with = recording(&control, &["--record-payload"])?;
    let mut client = Client::connect(server.address())?;
    client.send(b"a secret")?;
    client.receive(8)?;
    client.fin()?;
    client.end()?;
    for (file, times) in [(&without.file, 0), (&with.file, 2)] {
        has(file, "\"event\":\"closed\"", 1)?;
        let found = count(&fs::read(file)?, b"a secret");
        ensure!(found == times, "{found} instead of {times}");
    }
    if skipped()? {
        return Ok(());
    }
    is_sound(&with.file)?;
    assert_eq!(
        followed(&with.file)?,
        [b"a secret".to_vec(), b"a secret".to_vec()]
    );
    Ok(())
}

/// What was remembered of a connection comes after it is found open.
#[test]
fn a_connection_that_is_open_already_is_told_from_where_it_is_known() -> Result<()> {
    if skipped()? {
        return Ok(());
    }
    let (server, _folder, control) = with_control(echo)?;
    let mut unknown = served(&server)?;
    let first = recording(&control, &[])?;
    let mut known = served(&server)?;
    has(&first.file, "\"event\":\"accepted\"", 1)?;
    let second = recording(&control, &[])?;
    for client in [&mut unknown, &mut known] {
        client.send(b"more")?;
        client.receive(4)?;
        client.fin()?;
        client.end()?;
    }
    for file in [&first.file, &second.file] {
        has(file, "\"event\":\"closed\"", 2)?;
        is_sound(file)?;
    }
    let whole = "tcp.flags.syn == 1 && tcp.flags.ack == 0";
    let begun = values(&second.file, whole, "tcp.srcport")?;
    assert_eq!(begun, [known.address()?.port().to_string()]);
    let port = unknown.address()?.port();
    let lengths = values(
        &second.file,
        &format!("tcp.port == {port} && tcp.len > 0"),
        "tcp.len",
    )?;
    assert_eq!(lengths, ["4", "4"]);
    let told = values(
        &second.file,
        &format!("tcp.port == {port} && frame.comment contains \"open before\""),
        "frame.comment",
    )?;
    ensure!(
        told.len() == 1 && told[0].contains("\"received\":1,\"sent\":1"),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn what_it_missed_is_told() -> Result<()> {
    // One thread serves, and fills one ring.
    let flags = ["--isolation", "shared", "--workers", "1"];
    let (server, _folder, control) = with_control(|control| echo(&[control, &flags].concat()))?;
    let watched = recording(&control, &[])?;
    let mut busy = served(&server)?;
    let gone = served(&server)?;
    has(&watched.file, "\"event\":\"accepted\"", 2)?;
    watched.watching.signal(Signal::STOP)?;
    // More than the rings and the socket hold.
    for _ in 0..20_000 {
        is_served(&mut busy)?;
    }
    // Nobody hears of this end.
    drop(gone);
    for _ in 0..20_000 {
        is_served(&mut busy)?;
    }
    watched.watching.signal(Signal::CONT)?;
    has(&watched.file, "\"event\":\"lost\"", 1)?;
    watched.watching.logged("the recording lacks")?;
    once(&server)?;
    has(&watched.file, "\"event\":\"closed\"", 1)?;
    busy.fin()?;
    busy.end()?;
    has(&watched.file, "\"event\":\"closed\"", 2)?;
    let last = served(&server)?.address()?.port();
    eventually("the last connection is recorded", || {
        let port = format!(":{last}\"");
        Ok(count(&fs::read(&watched.file)?, port.as_bytes()) > 0)
    })?;
    interrupt(watched.watching)?;
    let events = events(&watched.file)?;
    let lost = events.iter().filter(|event| event["event"] == "lost");
    let lost: u64 = lost.filter_map(|event| event["count"].as_u64()).sum();
    // From the first event to the last: what is recorded, and what is told to be missing.
    let numbers: Vec<_> = events
        .iter()
        .filter_map(|event| event["seq"].as_u64())
        .collect();
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    ensure!(
        last - first + 1 == numbers.len() as u64 + lost,
        "{first} to {last}: {} are recorded, and {lost} lost",
        numbers.len()
    );
    Ok(())
}

#[test]
fn a_full_file_becomes_another() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let watched = recording(&control, &["--record-size", "1"])?;
    let earlier = watched.folder.path().join("watched.pcapng.1");
    eventually("there are two files", || {
        for _ in 0..100 {
            once(&server)?;
        }
        Ok(earlier.exists())
    })?;
    interrupt(watched.watching)?;
    for file in [&watched.file, &earlier] {
        ensure!(fs::metadata(file)?.len() < (1 << 19) + (1 << 18));
        if !skipped()? {
            is_sound(file)?;
        }
    }
    ensure!(events(&earlier)?.len() > 100);
    Ok(())
}

#[test]
fn a_pipe_without_a_reader_holds_up_no_end() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let watching = begin(&control, &pipe, &[])?;
    once(&server)?;
    interrupt(watching)?;
    // With a reader, it is a recording from its beginning on.
    let watching = begin(&control, &pipe, &[])?;
    let mut reader = File::open(&pipe)?;
    once(&server)?;
    let mut start = [0; 4];
    reader.read_exact(&mut start)?;
    ensure!(start == *b"\x0A\x0D\x0D\x0A", "{start:?}");
    interrupt(watching).map(drop)
}

/// Saved lines become a recording, and a recording becomes lines.
#[test]
fn saved_lines_become_a_recording() -> Result<()> {
    let own = recorded("echo", "127.0.0.1:0", &["--record-payload"], &["--quiet"])?;
    for _ in 0..3 {
        once(&own.server)?;
    }
    own.closed(3)?;
    let folder = tempfile::tempdir()?;
    let (lines, file) = (folder.path().join("lines"), folder.path().join("file"));
    let mut watch = command(&BINARIES.halfopen, ["watch", "--json"]);
    watch.arg(&own.file);
    fs::write(&lines, run(watch)?.stdout.join("\n"))?;
    let mut watch = command(
        &BINARIES.halfopen,
        ["watch", "--record-payload", "--record"],
    );
    watch.arg(&file).arg(&lines);
    let done = run(watch)?;
    ensure!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert_eq!(events(&file)?, events(&own.file)?);
    assert_eq!(
        packets_if_possible(&file, &own.server)?,
        packets_if_possible(&own.file, &own.server)?
    );
    Ok(())
}

fn packets_if_possible(file: &Path, server: &Server) -> Result<Vec<String>> {
    match skipped()? {
        true => Ok(Vec::new()),
        false => packets(file, server),
    }
}

#[test]
fn flags_that_contradict_each_other_and_files_that_cannot_be_made_are_named() -> Result<()> {
    let (_server, _folder, control) = with_control(echo)?;
    let control = control.to_str().context("not UTF-8")?;
    for (flags, why) in [
        (&["--record-payload"][..], "--record <RECORDING>"),
        (&["--record-size", "9"], "--record <RECORDING>"),
        (&["--record", "x", "--json"], "--json"),
        (&["--record", "x", "--plain"], "--plain"),
        (&["--record", "x", "--filter", "id:1"], "--filter"),
        (
            &["--record", "/nowhere/x"],
            "`--record /nowhere/x`: No such",
        ),
        (&["--record", "/dev/null"], "neither a regular file nor"),
    ] {
        let watch = [&["watch", "--control", control], flags].concat();
        let stopped = run(command(&BINARIES.halfopen, watch))?;
        ensure!(!stopped.status.success(), "{flags:?}");
        let [error] = &stopped.stderr[..] else {
            anyhow::bail!("{flags:?}: {stopped:?}");
        };
        ensure!(error.contains(why), "{flags:?}: {error}");
    }
    Ok(())
}
