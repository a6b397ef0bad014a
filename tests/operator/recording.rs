//! Recordings that cannot be written, and what is left out of them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use super::host::{BINARIES, is_served, served};
use super::recordings::{count, recorded};

/// Starts `halfopen serve --record FILE`.
fn recording(file: &Path) -> Result<Server> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.arg("--record").arg(file);
    serve.arg(guest_path("echo")).args(["--", "--quiet"]);
    Server::start(serve, 1)
}

/// Makes a connection from its beginning to its end.
pub(super) fn once(server: &Server) -> Result<()> {
    let mut client = served(server)?;
    client.fin()?;
    client.end()?;
    Ok(())
}

pub(super) fn has(file: &Path, what: &str, times: usize) -> Result<()> {
    eventually(&format!("the recording has {what}"), || {
        Ok(count(&fs::read(file)?, what.as_bytes()) >= times)
    })
}

#[test]
fn a_file_that_cannot_be_made_is_named() -> Result<()> {
    for (path, why) in [
        ("/nowhere/file", "No such file or directory"),
        ("/", "neither a regular file nor a named pipe"),
        ("/dev/null", "neither a regular file nor a named pipe"),
    ] {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.args(["--record", path]);
        let stopped = run(serve)?;
        ensure!(!stopped.status.success());
        let [error] = &stopped.stderr[..] else {
            anyhow::bail!("{:?}", stopped.stderr);
        };
        ensure!(
            error.contains(&format!("`--record {path}`")) && error.contains(why),
            "{error}"
        );
    }
    Ok(())
}

/// Others could read what peers send.
#[test]
fn a_pipe_that_others_may_read_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    mknodat(CWD, &pipe, FileType::Fifo, mode, 0)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.arg("--record").arg(&pipe);
    let stopped = run(serve)?;
    ensure!(!stopped.status.success());
    let [error] = &stopped.stderr[..] else {
        anyhow::bail!("{:?}", stopped.stderr);
    };
    ensure!(error.contains("mkfifo -m 600"), "{error}");
    Ok(())
}

#[test]
fn flags_about_a_recording_need_one() -> Result<()> {
    for flags in [&["--record-payload"][..], &["--record-size", "9"]] {
        let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.args(flags);
        let stopped = run(serve)?;
        ensure!(!stopped.status.success());
        let error = stopped.stderr.concat();
        ensure!(error.contains("add `--record FILE`"), "{error}");
    }
    Ok(())
}

#[test]
fn a_killed_server_leaves_what_has_happened_before() -> Result<()> {
    let recorded = recorded("echo", "127.0.0.1:0", &[], &["--quiet"])?;
    let client = served(&recorded.server)?;
    has(&recorded.file, "\"event\":\"accepted\"", 1)?;
    recorded.server.stop(Signal::KILL)?;
    drop(client);
    let watched = Command::new(&BINARIES.halfopen)
        .args(["watch", "--json"])
        .arg(&recorded.file)
        .output()?;
    let lines = String::from_utf8(watched.stdout)?;
    ensure!(
        watched.status.success() && lines.contains("\"event\":\"accepted\""),
        "{lines}"
    );
    Ok(())
}

#[test]
fn the_end_of_the_server_is_recorded() -> Result<()> {
    let recorded = recorded("echo", "127.0.0.1:0", &["--grace", "0"], &["--quiet"])?;
    let _client = served(&recorded.server)?;
    recorded.server.stop(Signal::TERM)?;
    let file = fs::read(&recorded.file)?;
    ensure!(count(&file, b"closed: stopped") == 1, "the end is missing");
    Ok(())
}

#[test]
fn a_recording_before_is_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, earlier) = (folder.path().join("r"), folder.path().join("r.1"));
    for _ in 0..2 {
        let server = recording(&file)?;
        once(&server)?;
        has(&file, "\"event\":\"closed\"", 1)?;
        server.stop(Signal::TERM)?;
    }
    ensure!(count(&fs::read(&earlier)?, b"\"event\":\"closed\"") == 1);
    Ok(())
}

#[test]
fn a_service_is_left_out() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let config = folder.path().join("halfopen.toml");
    let component = guest_path("echo");
    let service = |name: &str, more: &str| {
        format!(
            "[services.{name}]\ncomponent = {component:?}\nlisten = [\"127.0.0.1:0\"]\n\
             args = [\"--quiet\"]\n{more}\n"
        )
    };
    let head = "record = \"r\"\nrecord-payload = true\n";
    let secret = service("secret", "no-record = true");
    fs::write(&config, format!("{head}{secret}{}", service("open", "")))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&config);
    let server = Server::start(serve, 2)?;
    for (address, text) in server.addresses.iter().zip([b"guarded", b"visible"]) {
        let mut client = Client::connect(*address)?;
        client.send(text)?;
        client.receive(text.len())?;
        client.fin()?;
        client.end()?;
    }
    has(&file, "\"event\":\"closed\"", 1)?;
    server.stop(Signal::TERM)?;
    let recorded = fs::read(&file)?;
    ensure!(count(&recorded, b"visible") == 2 && count(&recorded, b"guarded") == 0);
    // Its name is only among those that are served.
    ensure!(count(&recorded, b"\"service\":\"secret\"") == 0);
    Ok(())
}

#[test]
fn a_pipe_waits_for_each_reader_and_holds_up_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let server = recording(&pipe)?;
    // Nobody reads yet. More happens than waits for a reader, and is served all the same.
    let mut busy = served(&server)?;
    for _ in 0..20_000 {
        is_served(&mut busy)?;
    }
    for _ in 0..2 {
        eventually("the server waits for a reader", || {
            let open = fs::read_dir(format!("/proc/{}/fd", server.id()))?;
            let mut open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            Ok(!open.any(|open| open == pipe))
        })?;
        let mut reader = File::open(&pipe)?;
        let mut file = Vec::new();
        let mut buffer = [0; 65_536];
        // The pipe is only written to while something happens.
        while count(&file, b"\"event\":\"closed\"") == 0 {
            once(&server)?;
            let length = reader.read(&mut buffer)?;
            file.extend(&buffer[..length]);
        }
        ensure!(
            file.starts_with(b"\x0A\x0D\x0D\x0A"),
            "it begins in the midst"
        );
    }
    server.logged("the recording lacks")?;
    is_served(&mut busy)?;
    server.stop(Signal::TERM)?;
    Ok(())
}

#[test]
fn a_full_disk_is_said_once_and_holds_up_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    // Files of this process have at most 64 blocks, in place of a disk without room. Without the
    // signal, write(2) fails with EFBIG.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
    let mut serve = command("sh", ["-c", limited, "sh"]);
    serve
        .arg(&BINARIES.halfopen)
        .args(["serve", "--listen", "127.0.0.1:0", "--no-cache", "--record"])
        .arg(&file)
        .arg(guest_path("echo"))
        .args(["--", "--quiet"]);
    let server = Server::start(serve, 1)?;
    let mut client = served(&server)?;
    eventually("writing has failed", || {
        for _ in 0..100 {
            is_served(&mut client)?;
        }
        let said = server.errors();
        Ok(said
            .iter()
            .any(|line| line.contains("cannot write the recording")))
    })?;
    for _ in 0..100 {
        once(&server)?;
    }
    is_served(&mut client)?;
    let stopped = server.stop(Signal::TERM)?;
    let said = stopped.stderr.iter();
    let said = said.filter(|line| line.contains("cannot write the recording"));
    ensure!(said.count() == 1, "{:?}", stopped.stderr);
    // What is there is whole.
    let watched = Command::new(&BINARIES.halfopen)
        .args(["watch", "--json"])
        .arg(&file)
        .output()?;
    ensure!(
        watched.status.success(),
        "{}",
        String::from_utf8_lossy(&watched.stderr)
    );
    Ok(())
}

#[test]
fn what_is_recorded_is_what_is_watched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let control = control.to_str().context("a path is text")?;
    let recorded = recorded("echo", "127.0.0.1:0", &["--control", control], &["--quiet"])?;
    let mut watch = command(
        &BINARIES.halfopen,
        ["watch", "--json", "--control", control],
    );
    let watching = Server::start(watch, 0)?;
    watching.printed(1);
    for _ in 0..3 {
        once(&recorded.server)?;
    }
    recorded.closed(3)?;
    eventually("all is watched", || {
        let lines = watching.printed(0);
        Ok(lines
            .iter()
            .filter(|line| line.contains("\"closed\""))
            .count()
            == 3)
    })?;
    watch = command(&BINARIES.halfopen, ["watch", "--json"]);
    watch.arg(&recorded.file);
    let replayed = run(watch)?.stdout;
    // The first line says what the watcher may do.
    let events = |lines: Vec<String>| -> Result<Vec<serde_json::Value>> {
        let lines = lines.iter().filter(|line| !line.contains("\"hello\""));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    assert_eq!(events(replayed)?, events(watching.printed(0))?);
    Ok(())
}

#[test]
fn what_is_no_recording_is_named() -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(b"\x0A\x0D\x0D\x0A, but nothing more of that kind")?;
    let mut watch = command(&BINARIES.halfopen, ["watch", "--json"]);
    watch.arg(file.path());
    let stopped = run(watch)?;
    ensure!(
        !stopped.status.success() && stopped.stderr.len() == 1,
        "{:?}",
        stopped.stderr
    );
    Ok(())
}
