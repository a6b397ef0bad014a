//! The sessions of README.md, played.
//!
//! A block of ```` ```console ```` is a terminal: after `$ ` stands a command, and
//! below it what it prints, where `…` may be anything. The last command of a block may
//! go on while the next blocks are played, until the section ends; all that its block
//! shows has to have come by then. A comment above a block, `<!-- untested: why -->`,
//! takes it out; `<!-- needs: TARGET -->` says which compilation target it needs.

#![allow(clippy::print_stdout, reason = "a test tells what it did")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use halfopen_tests::runner::{Binaries, root};
use halfopen_tests::tools::is_missing;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a line may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_sessions_go_as_shown() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let home = tempfile::tempdir()?;
    prepare_service(&readme, home.path())?;
    let (mut played, mut skipped) = (0, 0);
    let mut open: Vec<Terminal> = Vec::new();
    for part in parts(&readme) {
        match part {
            Part::Heading => close(&mut open)?,
            Part::Session { needs, commands } => {
                if let Some(target) = needs
                    && !has_target(&target)
                {
                    println!("!!! SKIPPED: the target {target} is missing: {commands:?}");
                    continue;
                }
                if is_any_missing(&commands)? {
                    skipped += commands.len();
                    continue;
                }
                played += commands.len();
                play(commands, home.path(), &mut open)?;
            }
        }
    }
    close(&mut open)?;
    println!("{played} commands played");
    ensure!(played + skipped >= 10, "only {played} commands were found");
    Ok(())
}

/// A command, and the lines that it has to print.
type Shown = (String, Vec<String>);

enum Part {
    Heading,
    Session {
        needs: Option<String>,
        commands: Vec<Shown>,
    },
}

fn parts(readme: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = readme.lines();
    let mut comment = "";
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            parts.push(Part::Heading);
        } else if line == "```console" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if !comment.starts_with("<!-- untested: ") {
                let needs = comment
                    .strip_prefix("<!-- needs: ")
                    .and_then(|rest| rest.strip_suffix(" -->"));
                parts.push(Part::Session {
                    needs: needs.map(str::to_owned),
                    commands: commands(&block),
                });
            }
        }
        comment = line;
    }
    parts
}

fn commands(block: &[&str]) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), Vec::new()));
        } else if let Some((_, output)) = commands.last_mut() {
            output.push((*line).to_owned());
        }
    }
    commands
}

/// Puts the README's own service, and the way to the repository, into a home folder.
fn prepare_service(readme: &str, home: &Path) -> Result<()> {
    let block = |kind: &str| {
        let start = format!("\n```{kind}\n");
        let (_, rest) = readme.split_once(&start).context("the block is missing")?;
        let (block, _) = rest.split_once("\n```").context("the block has no end")?;
        anyhow::Ok(block.to_owned() + "\n")
    };
    let service = home.join("shout");
    fs::create_dir_all(service.join("src"))?;
    fs::write(service.join("Cargo.toml"), block("toml")?)?;
    let code = block("rust")?;
    ensure!(
        code.lines().count() <= 24,
        "it should be a service of about 20 lines"
    );
    fs::write(service.join("src/lib.rs"), code)?;
    // With the versions that are tested here.
    fs::copy(root().join("Cargo.lock"), service.join("Cargo.lock"))?;
    symlink(root(), home.join("halfopen"))?;
    Ok(())
}

/// Whether the commands use something, besides our own, that is not there.
fn is_any_missing(commands: &[Shown]) -> Result<bool> {
    for tool in ["nc", "socat", "curl"] {
        let uses = |(command, _): &Shown| command.split_whitespace().any(|word| word == tool);
        if commands.iter().any(uses) && is_missing(tool, "a session of the README")? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_target(target: &str) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output();
    let folder = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    folder.is_ok_and(|folder| Path::new(&folder).exists())
}

/// A command that may still be running.
struct Terminal {
    command: String,
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
    shown: Vec<String>,
}

fn play(commands: Vec<Shown>, home: &Path, open: &mut Vec<Terminal>) -> Result<()> {
    let count = commands.len();
    for (number, (command, shown)) in commands.into_iter().enumerate() {
        let mut terminal = Terminal::start(&command, shown, home)?;
        if number + 1 < count {
            terminal.finish()?;
        } else {
            let first = terminal.shown.len().min(1);
            terminal.wait_for(first)?;
            open.push(terminal);
        }
    }
    Ok(())
}

fn close(open: &mut Vec<Terminal>) -> Result<()> {
    for terminal in open.iter_mut() {
        let all = terminal.shown.len();
        terminal.wait_for(all)?;
    }
    open.clear();
    Ok(())
}

impl Terminal {
    fn start(command: &str, shown: Vec<String>, home: &Path) -> Result<Self> {
        let binaries = Binaries::find(env!("CARGO_BIN_EXE_wasmtime"));
        let own_home = PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?);
        let tool_home = |name: &str, folder: &str| {
            std::env::var_os(name).unwrap_or_else(|| own_home.join(folder).into())
        };
        let folder = binaries.halfopen.parent().context("no folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new("bash")
            .arg("-c")
            .arg(format!("{command} 2>&1"))
            .current_dir(root())
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("HOME", home)
            .env("CARGO_HOME", tool_home("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", tool_home("RUSTUP_HOME", ".rustup"))
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let printed = Arc::<Mutex<Vec<String>>>::default();
        let stdout = BufReader::new(child.stdout.take().context("no output")?);
        let lines = printed.clone();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                lines.lock().expect("not poisoned").push(line);
            }
        });
        Ok(Terminal {
            command: command.to_owned(),
            child,
            printed,
            shown,
        })
    }

    /// Waits until it has printed the first so many of the lines that it should.
    fn wait_for(&mut self, count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What it printed last may come a little after its end.
            let over = self.child.try_wait()?.is_some();
            if over {
                thread::sleep(Duration::from_millis(200));
            }
            let printed = self.printed.lock().expect("not poisoned").clone();
            if in_order(&self.shown[..count], &printed) {
                return Ok(());
            }
            if over || Instant::now() > deadline {
                bail!(
                    "`{}` should print {:#?}, and printed {printed:#?}",
                    self.command,
                    self.shown
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it is done, and well.
    fn finish(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        let printed = self.printed.lock().expect("not poisoned").clone();
        ensure!(status.success(), "`{}` failed: {printed:#?}", self.command);
        self.wait_for(self.shown.len())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // All that the shell has started; it may be over already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Whether the lines that are shown are among those that were printed, in this order.
fn in_order(shown: &[String], printed: &[String]) -> bool {
    let mut printed = printed.iter();
    shown
        .iter()
        .all(|wanted| printed.by_ref().any(|line| matches(wanted, line)))
}

/// Whether a line is as shown, where `…` stands for anything.
fn matches(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((before, after)) => {
            line.len() >= before.len() + after.len()
                && line.starts_with(before)
                && line.ends_with(after)
        }
    }
}
