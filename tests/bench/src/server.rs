//! The servers that are measured, each in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// One of those that are set side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Its name in tables.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) what: &'static str,
    command: fn(&Places) -> Command,
}

/// Native, and what the others are compared with.
pub(crate) const TOKIO: &str = "tokio";
/// The other peer.
pub(crate) const NODE: &str = "node";

/// All of them.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: TOKIO,
        what: "an echo in Rust on tokio, a task per connection, buffers of 64 KiB",
        command: |places| places.own(&["serve", "tokio"]),
    },
    Kind {
        name: "epoll",
        what: "the floor: one thread, epoll, one buffer",
        command: |places| places.own(&["serve", "epoll"]),
    },
    Kind {
        name: NODE,
        what: "Node's net, write in on('data')",
        command: |places| places.node(&[]),
    },
    Kind {
        name: "node-pipe",
        what: "Node's net, pipe()",
        command: |places| places.node(&["--pipe"]),
    },
    Kind {
        name: "shared-pass",
        what: "halfopen serve, one instance, the stream passed through",
        command: |places| places.serve("shared", "pass", &[]),
    },
    Kind {
        name: "shared-copy",
        what: "halfopen serve, an instance per processor, copied through guest memory",
        command: |places| places.serve("shared", "echo", &["--quiet"]),
    },
    Kind {
        name: "connection-pass",
        what: "halfopen serve, an instance per connection, the stream passed through",
        command: |places| places.serve("connection", "pass", &[]),
    },
    Kind {
        name: "connection-copy",
        what: "halfopen serve, an instance per connection, copied through guest memory",
        command: |places| places.serve("connection", "echo", &["--quiet"]),
    },
    Kind {
        name: "run-pass",
        what: "composed, under halfopen run, the stream passed through",
        command: |places| places.run("pass", &[]),
    },
    Kind {
        name: "run-copy",
        what: "composed, under halfopen run, copied through guest memory",
        command: |places| places.run("echo", &["--quiet"]),
    },
    Kind {
        name: "wasmtime-pass",
        what: "composed, under the stock wasmtime, the stream passed through",
        command: |places| places.wasmtime("pass", &[]),
    },
    Kind {
        name: "wasmtime-copy",
        what: "composed, under the stock wasmtime, copied through guest memory",
        command: |places| places.wasmtime("echo", &["--quiet"]),
    },
];

/// How many connections a composed service takes at once: its acceptor's default, which
/// stays below the handles that a runtime grants one program.
const COMPOSED_CONNECTIONS: usize = 4096;

/// Where the binaries and components lie, and which processors the servers get.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    binaries: PathBuf,
    root: PathBuf,
    cpus: Option<String>,
    /// How many of those there are.
    workers: usize,
    /// In place of the user's cache of compiled code.
    cache: Option<PathBuf>,
}

impl Places {
    /// Beside this program, and in the project that it was built from.
    pub(crate) fn find(cpus: Option<&[usize]>) -> Result<Self> {
        let binaries = std::env::current_exe()?
            .parent()
            .context("this program lies nowhere")?
            .to_owned();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for needed in ["halfopen", "wasmtime"] {
            if !binaries.join(needed).exists() {
                bail!(
                    "`{needed}` is not beside this program; `cargo build --release --bins` builds all of them"
                );
            }
        }
        let workers = match cpus {
            Some(cpus) => cpus.len(),
            None => std::thread::available_parallelism()?.get(),
        };
        let places = Places {
            binaries,
            root,
            cpus: None,
            workers,
            cache: None,
        };
        Ok(places.on(cpus, workers))
    }

    /// With so many workers for the servers, on these processors, or on those that this
    /// process has.
    pub(crate) fn on(&self, cpus: Option<&[usize]>, workers: usize) -> Self {
        let list = |cpus: &[usize]| {
            let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
            cpus.join(",")
        };
        Places {
            cpus: cpus.map(list),
            workers,
            ..self.clone()
        }
    }

    /// With a cache of compiled code elsewhere.
    pub(crate) fn with_cache(&self, cache: &Path) -> Self {
        Places {
            cache: Some(cache.to_owned()),
            ..self.clone()
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match &self.cpus {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus]).arg(program);
                command
            }
            None => Command::new(program),
        };
        // It makes wasmtime note where each of its errors comes from, even those that
        // nobody sees.
        command.env("RUST_BACKTRACE", "0");
        if let Some(cache) = &self.cache {
            command.env("XDG_CACHE_HOME", cache);
        }
        command
    }

    fn guest(&self, name: &str) -> PathBuf {
        self.root.join(format!("guest/dist/{name}.wasm"))
    }

    fn own(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.binaries.join("halfopen-bench"));
        command.args(arguments);
        command
    }

    fn node(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("node");
        command.arg(self.root.join("tests/node/echo.mjs"));
        command.arg("--quiet").args(arguments);
        command
    }

    fn serve(&self, isolation: &str, guest: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(self.binaries.join("halfopen"));
        command.args(["serve", "--isolation", isolation, "--listen", "127.0.0.1:0"]);
        // Where the guest touches each byte, one thread would be all it gets.
        if isolation == "shared" && guest != "pass" {
            command.args(["--workers", &self.workers.to_string()]);
        }
        command.args(["--max-connections", "16000"]);
        command.arg(self.guest(guest)).arg("--").args(arguments);
        command
    }

    fn run(&self, guest: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(self.binaries.join("halfopen"));
        command.args(["run", "--allow-listen", "127.0.0.1:*"]);
        self.standalone(command, guest, arguments)
    }

    fn wasmtime(&self, guest: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(self.binaries.join("wasmtime"));
        command.args(["run", "-S", "inherit-network"]);
        self.standalone(command, guest, arguments)
    }

    fn standalone(&self, mut command: Command, guest: &str, arguments: &[&str]) -> Command {
        command.arg(self.guest(&format!("{guest}-standalone")));
        command
            .args(["--listen", "127.0.0.1:0", "--"])
            .args(arguments);
        command
    }
}

/// One that runs; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Kind {
    /// Whether it can be started here.
    pub(crate) fn is_there(&self) -> bool {
        !self.name.starts_with(NODE) || Command::new("node").arg("--version").output().is_ok()
    }

    /// Whether it takes so many connections at once.
    pub(crate) fn takes(&self, connections: usize) -> bool {
        let composed = self.name.starts_with("run-") || self.name.starts_with("wasmtime-");
        !composed || connections <= COMPOSED_CONNECTIONS
    }

    /// Starts it, and waits for its address.
    pub(crate) fn start(&self, places: &Places) -> Result<Server> {
        let mut child = (self.command)(places)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("{} did not say where it listens: {line}", self.name))?;
        Ok(Server { child, address })
    }
}

impl Server {
    /// Kibibytes of memory that it has now: the private part of it, and its share of the
    /// rest (proc_pid_smaps_rollup(5), Pss).
    pub(crate) fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path)?;
        text.lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .context("the system does not tell its memory")
    }
}

impl Server {
    /// Processor time that it has used so far, in seconds (proc_pid_stat(5), utime and
    /// stime; a hundredth of a second is the unit of all Linux systems).
    pub(crate) fn processor_time(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = text.rsplit_once(')').context("no process name")?;
        let ticks =
            |index: usize| -> Option<f64> { fields.split_whitespace().nth(index)?.parse().ok() };
        let both = ticks(11).zip(ticks(12)).context("no processor time")?;
        Ok((both.0 + both.1) / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
