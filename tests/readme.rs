//! Plays the terminal sessions of the documents: what they show is what happens.
//!
//! In a ```` ```console ```` block, a line that begins with `$ ` is a command, and the lines
//! below it are printed by it, where `…` stands for any text. All commands but the last of a
//! block must succeed before the next one starts. The last one may still run while the next
//! blocks are played; by the end of its section (a heading of the second level) it must have
//! printed all its lines, and it is then killed.
//!
//! A comment in the line above a block says more about it:
//!
//! - `<!-- untested: why -->` leaves the block out,
//! - `<!-- needs: TARGET -->` leaves it out where the compilation target is missing,
//! - `<!-- file: ~/PATH -->` above a block of another kind writes its text to that file.
//!
//! Without such a comment, a ```` ```toml ```` block with a `[package]` and the next
//! ```` ```rust ```` block (or the last one before it) are `Cargo.toml` and `src/lib.rs` of a
//! crate in the home folder, named as the package. The repository is at `~/halfopen`.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

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
use halfopen_tests::patience::{PATIENCE, POLL};
use halfopen_tests::runner::{Binaries, root};
use halfopen_tests::tools::is_missing;
use rustix::process::{Pid, Signal, kill_process_group};

/// The longest wait for a command that must end: some of them compile a crate.
const BUILD_PATIENCE: Duration = Duration::from_secs(20 * 60);

/// The time in which the lines of a command that has ended are read.
const LAST_LINES: Duration = Duration::from_secs(5);

/// The lines of the longest service that may be called one of twenty lines.
const SHORT: usize = 24;

/// Programs that sessions use and that may not be installed.
const TOOLS: [&str; 9] = [
    "nc",
    "socat",
    "curl",
    "openssl",
    "haproxy",
    "jq",
    "redis-cli",
    "redis-server",
    "tshark",
];

/// The sessions of different documents may use the same ports.
static PLAYING: Mutex<()> = Mutex::new(());

#[test]
fn the_sessions_of_the_front_page_go_as_shown() -> Result<()> {
    let document = Document::read("README.md")?;
    let services = document.crates()?;
    ensure!(!services.is_empty(), "README.md shows no service");
    for (name, service) in services {
        let lines = service.code.lines().count();
        ensure!(
            lines <= SHORT,
            "`{name}` should be a service of about 20 lines"
        );
    }
    let commands = document.play()?;
    ensure!(commands >= 5, "README.md shows only {commands} commands");
    Ok(())
}

#[test]
fn the_sessions_of_the_sdk_go_as_shown() -> Result<()> {
    Document::read("guest/sdk/README.md")?.play().map(drop)
}

#[test]
fn the_sessions_of_the_manual_go_as_shown() -> Result<()> {
    Document::read("host/OPERATING.md")?.play().map(drop)
}

#[test]
fn the_sessions_of_the_guide_to_watching_go_as_shown() -> Result<()> {
    Document::read("host/WATCHING.md")?.play().map(drop)
}

#[test]
fn the_sessions_of_the_server_for_redis_clients_go_as_shown() -> Result<()> {
    Document::read("guest/examples/kv/README.md")?
        .play()
        .map(drop)
}

#[test]
fn the_sessions_of_the_guard_go_as_shown() -> Result<()> {
    Document::read("guest/examples/guard/README.md")?
        .play()
        .map(drop)
}

#[test]
fn the_sessions_of_the_gateway_go_as_shown() -> Result<()> {
    Document::read("guest/examples/gateway/README.md")?
        .play()
        .map(drop)
}

/// A document, in blocks.
struct Document {
    path: &'static str,
    parts: Vec<Part>,
}

enum Part {
    /// A heading of the second level.
    Heading,
    Block(Block),
}

/// A fenced block.
struct Block {
    /// The word behind the fence.
    kind: String,
    /// The line above the fence.
    comment: String,
    lines: Vec<String>,
}

/// The files of a crate that a document shows.
struct Crate {
    manifest: String,
    code: String,
}

impl Block {
    /// Returns the argument of the comment with this word.
    fn says(&self, word: &str) -> Option<&str> {
        let comment = self.comment.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        comment.strip_prefix(word)?.strip_prefix(": ")
    }

    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Returns the commands of a session, each with the lines that it prints.
    fn commands(&self) -> Vec<Shown> {
        let mut commands: Vec<Shown> = Vec::new();
        for line in &self.lines {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push((command.to_owned(), Vec::new()));
            } else if let Some((_, output)) = commands.last_mut() {
                output.push(line.clone());
            }
        }
        commands
    }
}

impl Document {
    fn read(path: &'static str) -> Result<Self> {
        let text = fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
        let mut parts = Vec::new();
        let mut lines = text.lines();
        let mut comment = "";
        while let Some(line) = lines.next() {
            if line.starts_with("## ") {
                parts.push(Part::Heading);
            } else if let Some(kind) = line.strip_prefix("```") {
                let lines = lines.by_ref().take_while(|line| *line != "```");
                parts.push(Part::Block(Block {
                    kind: kind.to_owned(),
                    comment: comment.to_owned(),
                    lines: lines.map(str::to_owned).collect(),
                }));
            }
            comment = line;
        }
        Ok(Document { path, parts })
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.parts.iter().filter_map(|part| match part {
            Part::Heading => None,
            Part::Block(block) => Some(block),
        })
    }

    /// Returns the crates that the document shows, by their names.
    fn crates(&self) -> Result<Vec<(String, Crate)>> {
        let blocks: Vec<&Block> = self.blocks().collect();
        let is_code = |block: &&&Block| {
            matches!(&*block.kind, "rust" | "rust,no_run") && block.says("file").is_none()
        };
        let mut crates = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            let manifest = block.text();
            if block.kind != "toml" || !manifest.contains("[package]") {
                continue;
            }
            let name = manifest
                .lines()
                .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
                .with_context(|| format!("{}: a package without a name", self.path))?
                .to_owned();
            let after = blocks[index..].iter().find(is_code);
            let code = after
                .or_else(|| blocks[..index].iter().rev().find(is_code))
                .with_context(|| format!("{}: no code for `{name}`", self.path))?
                .text();
            crates.push((name, Crate { manifest, code }));
        }
        Ok(crates)
    }

    /// Plays all sessions in a home folder of their own. Returns the number of commands,
    /// including commands that are skipped because a tool or a target is missing.
    fn play(&self) -> Result<usize> {
        // A session that failed leaves no state behind, so a poisoned lock does not matter.
        let _playing = PLAYING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let home = tempfile::tempdir()?;
        self.write_files(home.path())?;
        let (mut played, mut skipped) = (0, 0);
        let mut open: Vec<Terminal> = Vec::new();
        for part in &self.parts {
            let block = match part {
                Part::Heading => {
                    close(&mut open)?;
                    continue;
                }
                Part::Block(block) => block,
            };
            if block.kind != "console" || block.says("untested").is_some() {
                continue;
            }
            let commands = block.commands();
            if let Some(target) = block.says("needs")
                && !has_target(target)
            {
                println!("!!! SKIPPED: the target {target} is missing: {commands:?}");
                skipped += commands.len();
            } else if is_any_missing(&commands, self.path)? {
                skipped += commands.len();
            } else {
                played += commands.len();
                play(commands, home.path(), &mut open).with_context(|| self.path.to_owned())?;
            }
        }
        close(&mut open).with_context(|| self.path.to_owned())?;
        println!("{}: {played} commands played, {skipped} skipped", self.path);
        Ok(played + skipped)
    }

    /// Writes the files that the document shows, and a link to the repository.
    fn write_files(&self, home: &Path) -> Result<()> {
        symlink(root(), home.join("halfopen"))?;
        for (name, shown) in self.crates()? {
            let folder = home.join(name);
            fs::create_dir_all(folder.join("src"))?;
            fs::write(folder.join("Cargo.toml"), shown.manifest)?;
            fs::write(folder.join("src/lib.rs"), shown.code)?;
            // The versions that everything else is tested with.
            fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
        }
        for block in self.blocks() {
            if let Some(path) = block.says("file") {
                let path = path.strip_prefix("~/").context("a file outside of `~/`")?;
                let file = home.join(path);
                fs::create_dir_all(file.parent().context("a file without a folder")?)?;
                fs::write(file, block.text())?;
            }
        }
        Ok(())
    }
}

/// A command, and the lines that it must print.
type Shown = (String, Vec<String>);

/// Whether the commands use a tool that is not installed.
fn is_any_missing(commands: &[Shown], path: &str) -> Result<bool> {
    for tool in TOOLS {
        let uses = |(command, _): &Shown| command.split_whitespace().any(|word| word == tool);
        if commands.iter().any(uses) && is_missing(tool, &format!("a session of {path}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the standard library for this compilation target is installed.
fn has_target(target: &str) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output();
    let folder = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    folder.is_ok_and(|folder| Path::new(&folder).exists())
}

/// A command that was started, and may still be running.
struct Terminal {
    command: String,
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
    shown: Vec<String>,
}

/// Plays one block. Its last command stays open.
fn play(commands: Vec<Shown>, home: &Path, open: &mut Vec<Terminal>) -> Result<()> {
    let count = commands.len();
    for (number, (command, shown)) in commands.into_iter().enumerate() {
        let mut terminal = Terminal::start(&command, shown, home)?;
        if number + 1 < count {
            terminal.finish()?;
        } else {
            let first = terminal.shown.len().min(1);
            terminal.prints(first)?;
            open.push(terminal);
        }
    }
    Ok(())
}

/// Waits for the lines of the commands that are open, and ends them.
fn close(open: &mut Vec<Terminal>) -> Result<()> {
    for terminal in open.iter_mut() {
        let all = terminal.shown.len();
        terminal.prints(all)?;
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
        let folder = binaries
            .halfopen
            .parent()
            .context("the binary lies in no folder")?;
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
            // Two documents build the same crate: what it depends on is compiled once.
            .env("CARGO_BUILD_BUILD_DIR", root().join("target/sessions"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let printed = Arc::<Mutex<Vec<String>>>::default();
        let stdout = BufReader::new(
            child
                .stdout
                .take()
                .context("standard output is not piped")?,
        );
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

    /// Waits until the first `count` of the lines that are shown have been printed.
    fn prints(&mut self, count: usize) -> Result<()> {
        let patience = if self.command.contains("cargo ") {
            BUILD_PATIENCE
        } else {
            PATIENCE
        };
        let mut deadline = Instant::now() + patience;
        loop {
            let printed = self.printed.lock().expect("not poisoned").clone();
            if in_order(&self.shown[..count], &printed) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "`{}` should print {:#?}, and it printed {printed:#?}",
                    self.command,
                    self.shown
                );
            }
            if self.child.try_wait()?.is_some() {
                // The last lines may be read a little after the end of the command.
                deadline = deadline.min(Instant::now() + LAST_LINES);
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until the command has succeeded and printed all its lines.
    fn finish(&mut self) -> Result<()> {
        let deadline = Instant::now() + BUILD_PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "`{}` does not end", self.command);
            thread::sleep(POLL);
        };
        let printed = self.printed.lock().expect("not poisoned").clone();
        ensure!(status.success(), "`{}` failed: {printed:#?}", self.command);
        self.prints(self.shown.len())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Kills everything that the shell has started. Both fail if it is over already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Whether the lines that are shown were printed, in this order, with any others between.
fn in_order(shown: &[String], printed: &[String]) -> bool {
    let mut printed = printed.iter();
    shown
        .iter()
        .all(|wanted| printed.by_ref().any(|line| matches(wanted, line)))
}

/// Whether a line is as shown, where `…` stands for any text.
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
