//! `halfopen watch` on a terminal, in a pipe, and on what it saved.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{eventually, patience};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, Stopped, command, run};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::host::{BINARIES, echo, folder, serve, served};
use super::terminal::terminal;

/// A program in a terminal, and the screen that a person sees.
pub(super) struct Watch {
    child: Child,
    /// What is typed goes here.
    keyboard: File,
    /// The program's end of the terminal.
    terminal: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Watch {
    /// Starts `halfopen watch`.
    pub(super) fn start(arguments: &[&str]) -> Result<Self> {
        Watch::run(&[&["watch"], arguments].concat())
    }

    /// Starts a command in a window of 80 columns and 24 rows, which is its controlling terminal.
    fn run(arguments: &[&str]) -> Result<Self> {
        let (seen, written) = terminal()?;
        sized(&seen, 80, 24)?;
        let mut watch = command("setsid", ["--ctty"]);
        watch.arg(&BINARIES.halfopen).args(arguments);
        watch.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        watch.env_remove("NO_COLOR");
        watch
            .stdin(written.try_clone()?)
            .stdout(written.try_clone()?);
        watch.stderr(written.try_clone()?);
        let child = watch.spawn()?;
        drop(watch);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(24, 80, 0)));
        let mut reader = seen.try_clone()?;
        thread::spawn({
            let screen = screen.clone();
            move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = reader.read(&mut bytes) {
                    let mut screen = screen.lock().expect("not poisoned");
                    screen.process(&bytes[..length]);
                }
            }
        });
        Ok(Watch {
            child,
            keyboard: seen,
            terminal: written,
            screen,
        })
    }

    fn see<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.lock().expect("not poisoned").screen())
    }

    fn text(&self) -> String {
        self.see(vt100::Screen::contents)
    }

    /// Waits until the screen is as it should be.
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<()> {
        eventually(what, || Ok(is_so(&self.text()))).with_context(|| self.text())
    }

    pub(super) fn shows(&self, text: &str) -> Result<()> {
        self.until(&format!("the screen shows `{text}`"), |seen| {
            seen.contains(text)
        })
    }

    pub(super) fn hides(&self, text: &str) -> Result<()> {
        self.until(&format!("the screen hides `{text}`"), |seen| {
            !seen.contains(text)
        })
    }

    pub(super) fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let mut screen = self.screen.lock().expect("not poisoned");
        screen.screen_mut().set_size(rows, columns);
        // The program hears of it by SIGWINCH.
        sized(&self.keyboard, columns, rows)
    }

    fn pid(&self) -> Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.context("the child has no id")
    }

    /// Waits until the terminal is as the shell had it, or is taken.
    pub(super) fn is_taken(&self, taken: bool) -> Result<()> {
        eventually(&format!("the terminal is taken: {taken}"), || {
            let modes = tcgetattr(&self.terminal)?.local_modes;
            let cooked = modes.contains(LocalModes::ICANON | LocalModes::ECHO);
            let other = self.see(|screen| screen.alternate_screen() && screen.hide_cursor());
            Ok(cooked != taken && other == taken)
        })
    }

    /// Waits for the end, and returns the exit status.
    pub(super) fn ends(&mut self) -> Result<Option<i32>> {
        let mut status = None;
        eventually("`halfopen watch` ends", || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .with_context(|| self.text())?;
        Ok(status.and_then(|status| status.code()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sized(terminal: &File, columns: u16, rows: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// A server, and the path of its control socket.
fn controlled(guest: &str, flags: &[&str]) -> Result<(Server, tempfile::TempDir, String)> {
    let folder = folder()?;
    let path = folder.path().join("control");
    let path = path.to_str().context("not UTF-8")?.to_owned();
    let flags = [&["--control", &path], flags].concat();
    let server = match guest {
        "echo" => echo(&flags)?,
        guest => serve(guest, &flags, &[])?,
    };
    Ok((server, folder, path))
}

pub(super) fn address(client: &Client) -> Result<String> {
    Ok(client.address()?.to_string())
}

#[test]
fn a_person_attaches_looks_around_and_resets_a_connection() -> Result<()> {
    let (server, _folder, control) = controlled("echo", &[])?;
    let mut before = served(&server)?;
    let mut watch = Watch::start(&["--control", &control])?;
    watch.is_taken(true)?;
    // What was open before, and what comes.
    watch.shows(&address(&before)?)?;
    let mut after = served(&server)?;
    watch.shows(&address(&after)?)?;
    watch.shows("2 open, 0 ended")?;
    watch.shows("1 byte ")?;
    // The newest is followed; a key goes to the one before.
    let peer = |client: &Client| address(client).map(|address| format!("peer {address}"));
    watch.shows(&peer(&after)?)?;
    watch.press("\u{1b}[B")?;
    watch.shows(&peer(&before)?)?;
    before.fin()?;
    ensure!(before.end()?.1 == End::Fin);
    watch.shows("FIN")?;
    watch.shows("1 open, 1 ended")?;
    watch.shows("the peer ended first")?;
    watch.press("\t")?;
    watch.press("\u{1b}[H")?;
    watch.shows("was open before anybody watched: 1 byte in, 1 byte out")?;
    watch.press("\t/state:open\r")?;
    watch.hides(&format!(" {} ", address(&before)?))?;
    watch.shows("filter: state:open")?;
    watch.press("?")?;
    watch.shows("draw anew; suspend")?;
    watch.press("?")?;
    // Another window.
    watch.resize(60, 15)?;
    watch.shows("The window has 60 columns and 15 rows.")?;
    watch.resize(100, 30)?;
    watch.until("the keys are in the last row", |seen| {
        seen.lines()
            .nth(29)
            .is_some_and(|row| row.starts_with("? help"))
    })?;
    watch.press("k")?;
    watch.shows("Reset connection ")?;
    watch.press("y")?;
    ensure!(after.end()?.1 == End::Rst);
    watch.press("\u{1b}")?;
    watch.hides("filter: ")?;
    watch.shows("0 open, 2 ended")?;
    watch.press("q")?;
    ensure!(watch.ends()? == Some(0));
    watch.is_taken(false)
}

#[test]
fn the_ladder_shows_a_connection_that_is_half_open() -> Result<()> {
    let (server, _folder, control) = controlled("digest", &[])?;
    let watch = Watch::start(&["--control", &control])?;
    watch.is_taken(true)?;
    let mut client = Client::connect(server.address())?;
    client.send(b"hi")?;
    watch.shows("ESTABLISHED")?;
    watch.shows(" 2 bytes ")?;
    client.fin()?;
    client.end()?;
    for part in [" FIN ", "82 bytes", "closed after", "fin"] {
        watch.shows(part)?;
    }
    Ok(())
}

#[test]
fn a_signal_ends_or_stops_it_and_the_terminal_is_given_back() -> Result<()> {
    let (_server, _folder, control) = controlled("echo", &[])?;
    let mut watch = Watch::start(&["--control", &control])?;
    watch.is_taken(true)?;
    watch.shows("no connection yet")?;
    for stop in ["\u{1a}", ""] {
        match stop {
            "" => kill_process(watch.pid()?, Signal::TSTP)?,
            key => watch.press(key)?,
        }
        let (_, status) = waitpid(Some(watch.pid()?), WaitOptions::UNTRACED)?
            .context("waitpid returned nothing")?;
        ensure!(status.stopped(), "{status:?}");
        watch.is_taken(false)?;
        kill_process(watch.pid()?, Signal::CONT)?;
        watch.is_taken(true)?;
        watch.shows("no connection yet")?;
    }
    kill_process(watch.pid()?, Signal::TERM)?;
    ensure!(watch.ends()? == Some(128 + 15));
    watch.is_taken(false)
}

#[test]
fn the_end_of_the_server_is_seen() -> Result<()> {
    let (server, _folder, control) = controlled("echo", &[])?;
    let mut watch = Watch::start(&["--control", &control])?;
    watch.shows("no connection yet")?;
    server.stop(Signal::TERM)?;
    watch.shows("the server has ended; press q to quit")?;
    watch.press("q")?;
    ensure!(watch.ends()? == Some(0));
    watch.is_taken(false)
}

/// One window: the server, what it prints, and its connections.
#[test]
fn a_server_shows_its_own_connections_and_stops_when_the_window_is_closed() -> Result<()> {
    let component = guest_path("echo");
    let component = component.to_str().context("not UTF-8")?;
    let serve = ["serve", "--watch-tcp", "--listen", "127.0.0.1:0", component];
    let mut window = Watch::run(&serve)?;
    window.is_taken(true)?;
    window.shows("no connection yet")?;
    // The address, in the pane for what is printed.
    let mut address = None;
    eventually("the address is shown", || {
        let text = window.text();
        let (_, output) = text.split_once(" output ").unwrap_or_default();
        address = output.lines().find_map(|line| line.trim().parse().ok());
        Ok(address.is_some())
    })
    .with_context(|| window.text())?;
    let address = address.context("no address")?;
    let mut client = Client::connect(address)?;
    client.send(b"hi")?;
    ensure!(client.receive(2)? == b"hi");
    window.shows("1 open, 0 ended")?;
    window.shows("data: <Buffer 68 69>")?;
    window.press("k")?;
    window.shows("Reset connection ")?;
    window.press("y")?;
    ensure!(client.end()?.1 == End::Rst);
    window.shows("is reset")?;
    window.press("q")?;
    ensure!(window.ends()? == Some(0));
    window.is_taken(false)?;
    // What only the window has shown is not lost with it.
    window.shows("data: <Buffer 68 69>")
}

/// A stop by a signal, and a failure, give the terminal back as well.
#[test]
fn the_window_of_a_server_goes_with_the_server() -> Result<()> {
    let component = guest_path("echo");
    let component = component.to_str().context("not UTF-8")?;
    let serve = ["serve", "--watch-tcp", "--listen", "127.0.0.1:0", component];
    let mut window = Watch::run(&serve)?;
    window.shows("no connection yet")?;
    kill_process(window.pid()?, Signal::TERM)?;
    ensure!(window.ends()? == Some(0));
    window.is_taken(false)?;
    let mut missing = Watch::run(&["serve", "--watch-tcp", "/no/such/component.wasm"])?;
    ensure!(missing.ends()? == Some(1));
    missing.shows("error: cannot serve `/no/such/component.wasm`")?;
    missing.is_taken(false)?;
    let without = run(command(
        &BINARIES.halfopen,
        ["serve", "--watch-tcp", component],
    ))?;
    ensure!(
        !without.status.success() && without.stderr.len() == 1,
        "{without:?}"
    );
    ensure!(
        without.stderr[0].contains("standard error is no terminal"),
        "{without:?}"
    );
    Ok(())
}

/// Runs `halfopen watch` without a terminal.
fn watch(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Stopped> {
    let mut watch = command(&BINARIES.halfopen, ["watch"]);
    watch.args(arguments).envs(variables.iter().copied());
    run(watch)
}

#[test]
fn what_cannot_be_watched_is_told_in_one_line() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("f");
    std::fs::write(&file, "GET / HTTP/1.1\n")?;
    let file = file.to_str().context("not UTF-8")?;
    let missing = folder.path().join("missing");
    let missing = missing.to_str().context("not UTF-8")?;
    for (arguments, part) in [
        (
            &["--control", missing][..],
            "standard output is no terminal; use --plain or --json",
        ),
        (&["--plain"], "say what to watch"),
        (&["--plain", missing], "cannot open"),
        (&["--plain", file], "line 1: this is no event"),
        (
            &["--plain", "--control", missing],
            "does a server run with `--control",
        ),
        (
            &["--plain", "--admin", "127.0.0.1:1"],
            "does a server run with `--admin",
        ),
        (
            &["--plain", "--filter", "state:x", file],
            "--filter: `x` is no state",
        ),
        (
            &["--plain", "--speed", "0", file],
            "write a number from 0.001",
        ),
    ] {
        let ended = watch(arguments, &[])?;
        ensure!(
            !ended.status.success()
                && ended.stdout.is_empty()
                && ended.stderr.len() == 1
                && ended.stderr[0].contains(part),
            "{arguments:?}: {ended:?}"
        );
    }
    let mut dumb = Command::new("setsid");
    let (_seen, written) = terminal()?;
    dumb.arg("--ctty")
        .arg(&BINARIES.halfopen)
        .args(["watch", file]);
    dumb.env("TERM", "dumb")
        .stdin(written.try_clone()?)
        .stdout(written);
    let output = dumb.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(
        error.contains("the terminal is `dumb` (TERM), which cannot draw; use --plain")
            && error.lines().count() == 1,
        "{error}"
    );
    Ok(())
}

/// The lines of a program, as they come.
fn lines_of(child: &mut Child) -> Result<Arc<Mutex<String>>> {
    let mut stdout = child
        .stdout
        .take()
        .context("standard output is not piped")?;
    let text = Arc::new(Mutex::new(String::new()));
    let lines = text.clone();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = stdout.read(&mut bytes) {
            let more = String::from_utf8_lossy(&bytes[..length]).into_owned();
            lines.lock().expect("not poisoned").push_str(&more);
        }
    });
    Ok(text)
}

/// Watches a connection to its end, and the server to its end, and returns all lines. `at` are the
/// flag and the address by which the server is reached.
pub(super) fn watched(at: [&str; 2], form: &str, server: Server) -> Result<String> {
    let mut watch = command(&BINARIES.halfopen, ["watch", form]);
    watch.args(at);
    let mut child = watch
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let text = lines_of(&mut child)?;
    let has = |part: &str| {
        eventually(&format!("a line has `{part}`"), || {
            Ok(text.lock().expect("not poisoned").contains(part))
        })
    };
    has(&format!("{}", server.id()))?;
    let mut client = served(&server)?;
    // Each line comes at once, not when a buffer is full.
    has("served")?;
    client.fin()?;
    ensure!(client.end()?.1 == End::Fin);
    has("closed")?;
    server.stop(Signal::TERM)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    let error = String::from_utf8(output.stderr)?;
    ensure!(error == "halfopen: the server has ended\n", "{error}");
    eventually("all is read", || {
        let text = text.lock().expect("not poisoned");
        Ok(text.ends_with('\n') && text.contains("fin"))
    })?;
    let text = text.lock().expect("not poisoned");
    Ok(text.clone())
}

#[test]
fn lines_are_printed_as_they_come_until_the_server_ends() -> Result<()> {
    let (server, _folder, control) = controlled("echo", &[])?;
    let text = watched(["--control", &control], "--plain", server)?;
    for part in [
        "which serves echo",
        "accepted on 127.0.0.1:",
        "-> 1 byte received",
        "<- 1 byte sent",
        "-> FIN received: the peer has finished sending",
        "<- FIN sent: the service has finished sending",
        "(fin, the peer ended first; 1 byte received, 1 byte sent)",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

#[test]
fn what_was_saved_as_json_is_replayed() -> Result<()> {
    let (server, folder, control) = controlled("echo", &[])?;
    let saved = watched(["--control", &control], "--json", server)?;
    let path = folder.path().join("saved.jsonl");
    std::fs::write(&path, &saved)?;
    let path = path.to_str().context("not UTF-8")?;
    let replayed = watch(&["--plain", path], &[])?;
    ensure!(
        replayed.status.success() && replayed.stderr.is_empty(),
        "{replayed:?}"
    );
    ensure!(
        replayed.stdout.len() == saved.lines().count(),
        "{replayed:?}"
    );
    let again = watch(&["--json", path], &[])?;
    ensure!(again.stdout.join("\n") + "\n" == saved, "{again:?}");
    let mut seen = Watch::start(&[path])?;
    seen.shows("the peer ended first")?;
    seen.shows("0 open, 1 ended")?;
    seen.press("k")?;
    seen.shows("this connection has ended already")?;
    seen.press("q")?;
    ensure!(seen.ends()? == Some(0));
    Ok(())
}

#[test]
fn a_reader_that_goes_away_ends_it_without_an_error() -> Result<()> {
    let (server, _folder, control) = controlled("echo", &[])?;
    let mut watch = command(
        &BINARIES.halfopen,
        ["watch", "--plain", "--control", &control],
    );
    let mut child = watch
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdout = child
        .stdout
        .take()
        .context("standard output is not piped")?;
    ensure!(stdout.read(&mut [0; 1])? == 1);
    drop(stdout);
    // The next event finds nobody.
    let _client = served(&server)?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn nothing_is_drawn_while_nothing_happens() -> Result<()> {
    let (_server, _folder, control) = controlled("echo", &[])?;
    let (seen, written) = terminal()?;
    sized(&seen, 80, 24)?;
    let mut watch = command("setsid", ["--ctty"]);
    watch
        .arg(&BINARIES.halfopen)
        .args(["watch", "--control", &control]);
    watch.env("TERM", "xterm").stdin(written.try_clone()?);
    watch.stdout(written.try_clone()?).stderr(written);
    let mut child = watch.spawn()?;
    drop(watch);
    let written = |pid: u32| -> Result<u64> {
        let io = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("io"))?;
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        Ok(line.context("no wchar")?.parse()?)
    };
    let mut reader = seen.try_clone()?;
    let screen = Arc::new(Mutex::new(String::new()));
    thread::spawn({
        let screen = screen.clone();
        move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                screen.lock().expect("not poisoned").push_str(&text);
            }
        }
    });
    eventually("it is drawn", || {
        Ok(screen
            .lock()
            .expect("not poisoned")
            .contains("connection yet"))
    })?;
    let before = written(child.id())?;
    // Several times the interval at which it looks at its clock.
    thread::sleep(std::time::Duration::from_secs(3).min(patience()));
    let after = written(child.id())?;
    child.kill()?;
    child.wait()?;
    ensure!(before == after, "{} bytes were written", after - before);
    Ok(())
}
