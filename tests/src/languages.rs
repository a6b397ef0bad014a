//! Services in other languages, built of the templates of `halfopen new`.
//!
//! `tests/languages/install` installs the tools below `target/languages/tools`.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use xxhash_rust::xxh3::Xxh3;

use crate::patience::PATIENCE;
use crate::runner::{Binaries, root};
use crate::server::{Server, command};

/// Where the components are, and what they are built from, from the top folder of the project.
pub const FOLDER: &str = "target/languages";

/// The longest wait for a component to be built and compiled, on a machine with other work.
const COMPILING: Duration = Duration::from_secs(3600);

/// The most bytes that a failed command's output is shown of.
const SHOWN: usize = 4000;

/// A language that services are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C, with clang
    C,
    /// JavaScript, with componentize-qjs
    Javascript,
    /// TypeScript, with esbuild and componentize-qjs
    Typescript,
    /// Python, with componentize-py
    Python,
    /// Go
    Go,
    /// Rust
    Rust,
}

/// A folder that `halfopen new` has made.
#[derive(Clone, Debug)]
pub struct Project {
    /// The language.
    pub language: Language,
    /// The folder.
    pub folder: PathBuf,
    /// The name of its component for `guest_path`, once it is built.
    pub name: String,
}

impl Language {
    /// All languages.
    pub const ALL: [Language; 6] = [
        Language::C,
        Language::Javascript,
        Language::Typescript,
        Language::Python,
        Language::Go,
        Language::Rust,
    ];

    /// Returns the name for `--lang`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Javascript => "javascript",
            Language::Typescript => "typescript",
            Language::Python => "python",
            Language::Go => "go",
            Language::Rust => "rust",
        }
    }

    /// Whether an error in an event of one connection ends that connection alone, also where all
    /// share an instance. In the other languages it traps, and ends the instance.
    #[must_use]
    pub fn contains_errors(self) -> bool {
        !matches!(self, Language::C | Language::Rust)
    }

    /// Whether a service has a world of its own, which its tool reads.
    #[must_use]
    pub fn has_wit(self) -> bool {
        matches!(
            self,
            Language::Javascript | Language::Python | Language::Typescript
        )
    }

    /// Returns what is missing to build in this language.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        let has = |program: &str| env::split_paths(&path()).any(|path| path.join(program).exists());
        let tools = root().join(FOLDER).join("tools");
        match self {
            Language::C if !has("clang") || !has("wasm-ld") => Some("clang and lld"),
            Language::Go if !has("go") => Some("go"),
            Language::Javascript | Language::Typescript
                if !has("npm") || !tools.join("node_modules/componentize-qjs").exists() =>
            {
                Some("npm and componentize-qjs")
            }
            Language::Python if !has("componentize-py") => Some("componentize-py"),
            Language::Rust if !has_rust_target() => Some("the target wasm32-wasip2 of Rust"),
            _ => None,
        }
    }

    /// The component that its tool builds, in the folder of a service.
    fn output(self) -> &'static str {
        match self {
            Language::Rust => "target/wasm32-wasip2/release/service.wasm",
            _ => "build/service.wasm",
        }
    }

    /// The command that builds, and the one that tests.
    fn commands(self, halfopen: &Path) -> [Vec<String>; 2] {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let make = |target: &str| {
            let mut make = words("make --silent");
            make.push(format!("HALFOPEN={}", halfopen.display()));
            make.extend(words(target));
            make
        };
        match self {
            Language::C | Language::Go | Language::Python => {
                [make("build/service.wasm"), make("test")]
            }
            Language::Javascript | Language::Typescript => {
                [words("npm run --silent build"), words("npm test --silent")]
            }
            Language::Rust => [
                words("cargo build --quiet --release --target wasm32-wasip2"),
                words("cargo test --quiet"),
            ],
        }
    }
}

impl Project {
    /// Makes a service by `halfopen new`, as `target/languages/LANGUAGE-NAME`. Each of `changes` is
    /// a file, and what becomes of its text.
    ///
    /// # Errors
    ///
    /// If `halfopen new` fails.
    pub fn make(
        binaries: &Binaries,
        language: Language,
        template: &str,
        name: &str,
        changes: &[(&str, &dyn Fn(String) -> String)],
    ) -> Result<Self> {
        let parent = root().join(FOLDER);
        fs::create_dir_all(&parent)?;
        let name = format!("{}-{name}", language.name());
        let folder = parent.join(&name);
        let new = tempfile::tempdir_in(&parent)?;
        let mut command = Command::new(&binaries.halfopen);
        command.args(["new", &name, "--lang", language.name()]);
        command.args(["--template", template]).current_dir(&new);
        run(&mut command)?;
        let new = new.path().join(&name);
        for (file, change) in changes {
            let path = new.join(file);
            let text = fs::read_to_string(&path)?;
            fs::write(path, change(text))?;
        }
        let project = Project {
            language,
            folder,
            name,
        };
        // What was built of the same sources stays.
        let key = hash(&new)?;
        let key_file = parent.join(format!("{}.key", project.name));
        if fs::read_to_string(&key_file).ok().as_deref() != Some(&key) || !project.folder.exists() {
            let _ = fs::remove_file(project.component());
            let _ = fs::remove_dir_all(&project.folder);
            fs::rename(&new, &project.folder)?;
            project.link_tools()?;
            fs::write(key_file, key)?;
        }
        Ok(project)
    }

    /// The path of the component, once it is built.
    #[must_use]
    pub fn component(&self) -> PathBuf {
        root().join(FOLDER).join(format!("{}.wasm", self.name))
    }

    /// Builds the component, unless it is built.
    ///
    /// # Errors
    ///
    /// If the tool fails.
    pub fn build(&self, binaries: &Binaries) -> Result<()> {
        static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        if !self.component().exists() {
            let [build, _] = self.language.commands(&binaries.halfopen);
            run(&mut self.command(&build, binaries))?;
            fs::copy(self.folder.join(self.language.output()), self.component())
                .context("the tool has built nothing")?;
        }
        // Once without a bound on time: a debug build compiles an interpreter for long, and later
        // starts take the code from the cache.
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.insert(self.name.clone()) {
            let mut serve = command(&binaries.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
            serve.arg(self.component());
            start(serve)?;
        }
        Ok(())
    }

    /// Runs the test of the service itself.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn test(&self, binaries: &Binaries) -> Result<()> {
        let [_, test] = self.language.commands(&binaries.halfopen);
        run(&mut self.command(&test, binaries))
    }

    /// A command in the folder, which finds the tools.
    #[must_use]
    pub fn command(&self, words: &[String], binaries: &Binaries) -> Command {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.folder)
            .env("PATH", path())
            .env("HALFOPEN", &binaries.halfopen);
        // Those of the workspace, which cargo sets for its tests.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "RUSTFLAGS" {
                command.env_remove(&*name);
            }
        }
        if self.language == Language::Rust {
            // The SDK is compiled once. What is built lies in each service's own `target`: all
            // have the same name.
            let shared = root().join(FOLDER).join("rust-build");
            command.env("CARGO_BUILD_BUILD_DIR", shared);
        }
        command
    }

    /// Links what each service installs, or builds, for itself.
    fn link_tools(&self) -> Result<()> {
        let shared = root().join(FOLDER);
        let link = |to: PathBuf, name: &str| symlink(to, self.folder.join(name));
        match self.language {
            Language::Javascript | Language::Typescript => {
                link(shared.join("tools/node_modules"), "node_modules")?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Starts a server that may compile for long before it prints its address.
///
/// # Errors
///
/// If it does not start.
pub fn start(command: Command) -> Result<Server> {
    let mut server = Server::start(command, 0)?;
    server.patience = COMPILING;
    let first = server.printed(1);
    let address = first.first().and_then(|line| line.parse().ok());
    let address = address.with_context(|| format!("{first:?} {:?}", server.errors()))?;
    server.addresses.push(address);
    server.patience = PATIENCE;
    Ok(server)
}

/// Runs a command to its end.
///
/// # Errors
///
/// If it fails; the error has what it printed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all[all.len().saturating_sub(SHOWN)..]).into_owned();
    bail!("{command:?} failed: {text}")
}

/// The folders of tools: those that were installed for the tests, and those of the machine.
#[must_use]
pub fn path() -> OsString {
    let installed = root().join(FOLDER).join("tools/venv/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let all = [installed].into_iter().chain(env::split_paths(&path));
    env::join_paths(all).unwrap_or(path)
}

fn has_rust_target() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", "wasm32-wasip2"]);
    rustc.output().is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&folder).exists()
    })
}

/// A hash of the files in a folder.
fn hash(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    ensure!(!files.is_empty(), "`halfopen new` has made nothing");
    files.sort();
    let mut hash = Xxh3::new();
    for file in files {
        hash.update(file.strip_prefix(folder)?.as_os_str().as_encoded_bytes());
        hash.update(&fs::read(&file)?);
    }
    Ok(format!("{:016x}", hash.digest()))
}
