//! The servers that are measured, each in its own process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A kind of server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The name in tables.
    pub(crate) name: &'static str,
    /// A description, which is printed before a run.
    pub(crate) what: &'static str,
    command: fn(&Places) -> Command,
}

/// The native server that all others are compared with.
pub(crate) const TOKIO: &str = "tokio";
/// The other server that all others are compared with.
pub(crate) const NODE: &str = "node";

/// All kinds of servers.
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

/// The connections that a composed service has open at most: the default of its acceptor,
/// which stays below the number of handles that a runtime grants to one program.
const COMPOSED_CONNECTIONS: usize = 4096;

/// The paths of binaries and components, and the processors for the servers.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    binaries: PathBuf,
    root: PathBuf,
    cpus: Option<String>,
    /// The number of processors for the servers.
    workers: usize,
    /// A folder for compiled code, in place of the user's cache.
    cache: Option<PathBuf>,
}

impl Places {
    /// Finds the binaries next to this program, and the components in the project that it was
    /// built from.
    pub(crate) fn find(cpus: Option<&[usize]>) -> Result<Self> {
        let binaries = std::env::current_exe()?
            .parent()
            .context("this program lies in no folder")?
            .to_owned();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for needed in ["halfopen", "wasmtime"] {
            if !binaries.join(needed).exists() {
                bail!(
                    "`{needed}` is not next to this program: run `cargo build --profile dist --bins`, and then `target/dist/halfopen-bench`"
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

    /// Returns the same places with this many workers for the servers, on these processors,
    /// or on the processors of this process.
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

    /// Returns the same places with another cache of compiled code.
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
        // With RUST_BACKTRACE set, wasmtime captures a backtrace for each of its errors, even
        // for those that are handled.
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
        // A guest that touches every byte is limited by its thread, so it gets one for each
        // processor.
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

/// A running server. It is killed on drop.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Kind {
    /// Whether this kind of server can be started here.
    pub(crate) fn is_there(&self) -> bool {
        !self.name.starts_with(NODE) || Command::new("node").arg("--version").output().is_ok()
    }

    /// Whether this kind of server takes this many connections at the same time.
    pub(crate) fn takes(&self, connections: usize) -> bool {
        let composed = self.name.starts_with("run-") || self.name.starts_with("wasmtime-");
        !composed || connections <= COMPOSED_CONNECTIONS
    }

    /// Starts a server, and waits for its address.
    pub(crate) fn start(&self, places: &Places) -> Result<Server> {
        let mut child = (self.command)(places)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let mut line = String::new();
        let stdout = child
            .stdout
            .take()
            .context("standard output is not piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("{} did not print its address: {line}", self.name))?;
        Ok(Server { child, address })
    }
}

impl Server {
    /// Returns the server's memory in KiB: its private pages, and its share of the others
    /// (Pss in proc_pid_smaps(5)).
    pub(crate) fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path)?;
        text.lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .context("no Pss in smaps_rollup")
    }

    /// Returns the processor time that the server has used, in seconds: utime and stime in
    /// proc_pid_stat(5), whose unit is a hundredth of a second on all Linux systems.
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
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
