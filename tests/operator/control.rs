//! Orders over the control socket: `halfopen ctl`.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::server::{Server, command, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::host::{BINARIES, echo, folder, is_served, served};
use super::successor::install;

fn ctl(control: &Path, order: &[&str]) -> Result<Output> {
    let mut command = Command::new(&BINARIES.halfopen);
    command.args(["ctl", "--control"]).arg(control).args(order);
    Ok(command.output()?)
}

/// Gives an order that must succeed, and returns what it prints.
pub(super) fn order(control: &Path, order: &[&str]) -> Result<String> {
    let output = ctl(control, order)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{order:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Gives an order that must fail, and returns the error.
fn refusal(control: &Path, order: &[&str]) -> Result<String> {
    let output = ctl(control, order)?;
    ensure!(!output.status.success(), "{order:?} succeeds: {output:?}");
    let error = String::from_utf8(output.stderr)?;
    ensure!(error.lines().count() == 1, "{error}");
    Ok(error)
}

fn with_control(flags: &[&str]) -> Result<(Server, tempfile::TempDir, PathBuf)> {
    let folder = folder()?;
    let path = folder.path().join("control");
    let text = path.to_str().context("not UTF-8")?.to_owned();
    let server = echo(&[&["--control", &text], flags].concat())?;
    Ok((server, folder, path))
}

#[test]
fn the_status_is_for_people_and_for_machines() -> Result<()> {
    let (server, _folder, control) = with_control(&[])?;
    let mode = fs::metadata(&control)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let _open = served(&server)?;
    let text = order(&control, &["status"])?;
    let expected = format!("  echo: 1 connections, on {}", server.address());
    ensure!(text.lines().any(|line| line == expected), "{text}");
    let json: Value = serde_json::from_str(&order(&control, &["status", "--json"])?)?;
    ensure!(json["process"] == server.id(), "{json}");
    ensure!(
        json["state"] == "accepts" && json["services"][0]["connections"] == 1,
        "{json}"
    );
    // The socket goes with the server.
    ensure!(server.stop(Signal::TERM).is_ok());
    ensure!(!control.exists());
    let error = refusal(&control, &["status"])?;
    ensure!(
        error.contains("does a server run with `--control"),
        "{error}"
    );
    Ok(())
}

#[test]
fn each_order_to_drain_begins_the_next_phase() -> Result<()> {
    let (server, _folder, control) = with_control(&["--drain-delay", "3600", "--grace", "3600"])?;
    let mut open = served(&server)?;
    ensure!(order(&control, &["drain"])? == "draining\n");
    server.logged("draining; connections are accepted for another 3600 s")?;
    is_served(&mut served(&server)?)?;
    ensure!(order(&control, &["status"])?.contains(", drains\n"));
    let error = refusal(&control, &["upgrade"])?;
    ensure!(
        error.contains("not upgraded: the server is about to stop"),
        "{error}"
    );
    order(&control, &["drain"])?;
    server.logged("stopping; ")?;
    eventually("connections are refused", || {
        Ok(TcpStream::connect(server.address()).is_err())
    })?;
    is_served(&mut open)?;
    ensure!(order(&control, &["status"])?.contains(", stops\n"));
    order(&control, &["drain"])?;
    let stopped = server.wait()?;
    ensure!(stopped.status.code() == Some(1), "{stopped:?}");
    Ok(())
}

/// The order waits until the new process accepts, and the socket goes along.
#[test]
fn an_upgrade_is_ordered_and_its_failure_reported() -> Result<()> {
    let (mut server, folder, control) = with_control(&[])?;
    let error = refusal(&control, &["upgrade", "/bin/false"])?;
    ensure!(
        error.contains("not upgraded, and nothing has changed"),
        "{error}"
    );
    let missing = folder.path().join("missing");
    let error = refusal(
        &control,
        &["upgrade", missing.to_str().context("not UTF-8")?],
    )?;
    ensure!(error.contains("cannot start "), "{error}");
    let open = served(&server)?;
    let answer = order(&control, &["upgrade"])?;
    ensure!(answer.ends_with(" accepts\n"), "{answer}");
    let status: Value = serde_json::from_str(&order(&control, &["status", "--json"])?)?;
    let first = &status["generations"][0];
    ensure!(
        first["process"] == server.id() && first["state"] == "draining",
        "{status}"
    );
    ensure!(status["process"] != server.id(), "{status}");
    let successor = i32::try_from(status["process"].as_i64().context("no process")?)?;
    drop(open);
    ensure!(server.ends()?.success());
    eventually("no process drains", || {
        Ok(!order(&control, &["status"])?.contains("draining"))
    })?;
    // The next one follows another binary, given by its path.
    let copy = folder.path().join("copy");
    install(&BINARIES.halfopen, &copy)?;
    order(&control, &["upgrade", copy.to_str().context("not UTF-8")?])?;
    is_served(&mut served(&server)?)?;
    let successor = Pid::from_raw(successor).context("no process")?;
    eventually("the one before ends", || {
        Ok(kill_process(successor, Signal::HUP).is_err())
    })?;
    order(&control, &["drain"])?;
    eventually("the socket is removed", || Ok(!control.exists()))
}

/// A file that a killed server left is replaced, and a socket in use is not.
#[test]
fn a_socket_that_was_left_behind_is_replaced() -> Result<()> {
    let (server, _folder, control) = with_control(&[])?;
    let serve = || {
        let mut serve = command(
            &BINARIES.halfopen,
            ["serve", "--listen", "127.0.0.1:0", "--control"],
        );
        serve.arg(&control);
        serve
    };
    let second = run(serve())?;
    ensure!(!second.status.success());
    let error = second.stderr.join("\n");
    ensure!(
        error.contains("another server takes orders there"),
        "{error}"
    );
    order(&control, &["status"])?;
    server.stop(Signal::KILL)?;
    ensure!(control.exists());
    let again = Server::start(serve(), 1)?;
    order(&control, &["status"])?;
    again.stop(Signal::TERM).map(drop)
}

/// While one upgrade is in progress, another is refused at once, or waits for so long.
#[test]
fn an_upgrade_can_wait_for_another_one() -> Result<()> {
    let (server, folder, control) = with_control(&["--upgrade-timeout", PATIENCE_SECONDS])?;
    let (slow, end) = (folder.path().join("slow"), folder.path().join("end"));
    // Reads nothing, says nothing, and ends when the test says so.
    let script = format!("while [ ! -e {end:?} ]; do sleep 0.1; done");
    let text = folder.path().join("text");
    fs::write(&text, format!("#!/bin/sh\n{script}\n"))?;
    install(&text, &slow)?;
    let slow = slow.to_str().context("not UTF-8")?;
    thread::scope(|scope| -> Result<()> {
        let first = scope.spawn(|| refusal(&control, &["upgrade", slow]));
        server.logged("upgrading; process ")?;
        let status: Value = serde_json::from_str(&order(&control, &["status", "--json"])?)?;
        let next = &status["generations"][1];
        ensure!(
            next["state"] == "starting" && next["generation"] == 2,
            "{status}"
        );
        let error = refusal(&control, &["upgrade"])?;
        ensure!(error.contains("an upgrade is in progress"), "{error}");
        let second = scope.spawn(|| order(&control, &["upgrade", "--wait", PATIENCE_SECONDS]));
        fs::write(&end, "")?;
        let error = first.join().expect("it does not panic")?;
        ensure!(error.contains("the other process has ended"), "{error}");
        let answer = second.join().expect("it does not panic")?;
        ensure!(answer.ends_with(" accepts\n"), "{answer}");
        Ok(())
    })?;
    is_served(&mut served(&server)?)?;
    order(&control, &["drain"])?;
    eventually("the socket is removed", || Ok(!control.exists()))
}
