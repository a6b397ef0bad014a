//! What a person at a terminal sees, and what packages ship of the command line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{guest_path, root};
use halfopen_tests::server::command;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::host::{BINARIES, folder, is_served, soon};

/// A terminal's two ends: what a person sees, and what a program writes to.
fn terminal() -> Result<(File, File)> {
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

/// What a command prints, which has to succeed.
fn succeeds(mut command: Command) -> Result<String> {
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {told}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_terminal_has_one_status_line_and_gets_it_back() -> Result<()> {
    let (mut seen, written) = terminal()?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.arg(guest_path("echo")).args(["--", "--quiet"]);
    serve.env("TERM", "xterm").stdin(Stdio::null());
    serve.stdout(Stdio::piped()).stderr(written);
    let mut child = serve.spawn()?;
    // Its end of the terminal is the child's alone, so that it ends with the child.
    drop(serve);
    let screen = Arc::new(Mutex::new(String::new()));
    let reader = thread::spawn({
        let screen = screen.clone();
        move || {
            let mut bytes = [0; 1024];
            // A terminal whose other end is closed fails.
            while let Ok(length @ 1..) = seen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                screen.lock().expect("no panic").push_str(&text);
            }
        }
    });
    let shows = |text: &str| soon(text, || Ok(screen.lock().expect("no panic").contains(text)));
    let mut address = String::new();
    let mut stdout = BufReader::new(child.stdout.take().context("it is piped")?);
    stdout.read_line(&mut address)?;
    shows("0 open, 0 served")?;
    let mut client = Client::connect(address.trim().parse()?)?;
    is_served(&mut client)?;
    shows("1 open, ")?;
    client.fin()?;
    ensure!(client.end()?.1 == End::Fin);
    shows("0 open, 1 served")?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no such process")?, Signal::TERM)?;
    ensure!(child.wait()?.success());
    reader.join().expect("no panic");
    let screen = screen.lock().expect("no panic");
    let (_, last) = screen.rsplit_once("served").context("no line")?;
    ensure!(last.contains("\u{1b}[2K"), "the line is left: {last:?}");
    Ok(())
}

#[test]
fn packages_get_manual_pages_completions_and_a_configuration() -> Result<()> {
    let folder = folder()?;
    let mut man = command(&BINARIES.halfopen, ["generate", "man"]);
    man.arg(folder.path());
    succeeds(man)?;
    let page = std::fs::read_to_string(folder.path().join("halfopen-serve.1"))?;
    ensure!(page.contains(".TH halfopen-serve 1"), "no heading");
    ensure!(page.contains("idle\\-timeout"), "no flags");
    ensure!(folder.path().join("halfopen.1").exists());
    for shell in ["bash", "fish", "zsh"] {
        let completions = command(&BINARIES.halfopen, ["generate", "completions", shell]);
        let script = succeeds(completions)?;
        ensure!(script.contains("idle-timeout"), "{shell} knows no flags");
    }
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(root().join("host/packaging/halfopen.toml"));
    succeeds(check)?;
    Ok(())
}
