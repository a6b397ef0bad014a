//! The status line on a terminal, and the files that packages ship.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::{guest_path, root};
use halfopen_tests::server::command;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::host::{BINARIES, folder, is_served};

/// Opens a pseudo-terminal: the end that a person sees, and the end that a program writes to.
pub(super) fn terminal() -> Result<(File, File)> {
    let seen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&seen)?;
    unlockpt(&seen)?;
    let name = ptsname(&seen, Vec::new())?;
    let mut open = OpenOptions::new();
    let written = open
        .read(true)
        .write(true)
        .open(Path::new(name.to_str()?))?;
    Ok((File::from(seen), written))
}

/// Runs a command, which must succeed, and returns what it printed.
fn succeeds(mut command: Command) -> Result<String> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_terminal_shows_one_status_line_and_has_it_cleared() -> Result<()> {
    let (mut seen, written) = terminal()?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.arg(guest_path("echo")).args(["--", "--quiet"]);
    serve.env("TERM", "xterm").stdin(Stdio::null());
    serve.stdout(Stdio::piped()).stderr(written);
    let mut child = serve.spawn()?;
    // The command holds a copy of the program's end: with it gone, the terminal ends when the
    // child does.
    drop(serve);
    let screen = Arc::new(Mutex::new(String::new()));
    let reader = thread::spawn({
        let screen = screen.clone();
        move || {
            let mut bytes = [0; 1024];
            // Once the other end is closed, reading fails with EIO.
            while let Ok(length @ 1..) = seen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                screen.lock().expect("not poisoned").push_str(&text);
            }
        }
    });
    let shows = |text: &str| {
        eventually(&format!("the terminal shows {text}"), || {
            Ok(screen.lock().expect("not poisoned").contains(text))
        })
    };
    let mut address = String::new();
    let mut stdout = BufReader::new(
        child
            .stdout
            .take()
            .context("standard output is not piped")?,
    );
    stdout.read_line(&mut address)?;
    shows("0 open, 0 served")?;
    let mut client = Client::connect(address.trim().parse()?)?;
    is_served(&mut client)?;
    shows("1 open, ")?;
    client.fin()?;
    ensure!(client.end()?.1 == End::Fin);
    shows("0 open, 1 served")?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("the child has no id")?, Signal::TERM)?;
    ensure!(child.wait()?.success());
    reader.join().expect("reading does not panic");
    let screen = screen.lock().expect("not poisoned");
    let (_, last) = screen
        .rsplit_once("served")
        .context("there is no status line")?;
    ensure!(
        last.contains("\u{1b}[2K"),
        "the status line is still there: {last:?}"
    );
    Ok(())
}

#[test]
fn packages_get_manual_pages_completions_and_a_configuration() -> Result<()> {
    let folder = folder()?;
    let mut man = command(&BINARIES.halfopen, ["generate", "man"]);
    man.arg(folder.path());
    succeeds(man)?;
    let page = std::fs::read_to_string(folder.path().join("halfopen-serve.1"))?;
    ensure!(
        page.contains(".TH halfopen-serve 1"),
        "the page has no heading"
    );
    ensure!(page.contains("idle\\-timeout"), "the page has no flags");
    ensure!(folder.path().join("halfopen.1").exists());
    for shell in ["bash", "fish", "zsh"] {
        let completions = command(&BINARIES.halfopen, ["generate", "completions", shell]);
        let script = succeeds(completions)?;
        ensure!(
            script.contains("idle-timeout"),
            "the completions for {shell} have no flags"
        );
    }
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(root().join("host/packaging/halfopen.toml"));
    succeeds(check)?;
    Ok(())
}
