//! The servers that are measured, each in its own process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

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
/// A server in JavaScript that all others are compared with.
pub(crate) const NODE: &str = "node";
/// Another such server, in a sandbox.
pub(crate) const WORKERD: &str = "workerd";
/// The same, where the bytes never enter JavaScript.
pub(crate) const WORKERD_PIPE: &str = "workerd-pipe";

/// A server in Python that the Python host is compared with.
pub(crate) const ASYNCIO: &str = "asyncio";
/// An echo in any language, with an instance for all connections, and one for each. The number of
/// connections is the default, for which there is a pool of instances also if each has several
/// memories.
pub(crate) const LANGUAGE: [Kind; 2] = [
    Kind {
        name: "shared",
        what: "an instance for all connections",
        command: |places| places.language("shared"),
    },
    Kind {
        name: "connection",
        what: "an instance for each connection",
        command: |places| places.language("connection"),
    },
];

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
        name: "node-host",
        what: "the npm package on Node, callback style, one instance",
        command: |places| places.node_host("shared"),
    },
    Kind {
        name: WORKERD,
        what: "workerd, write() of each chunk in JavaScript",
        command: |places| places.workerd("write"),
    },
    Kind {
        name: WORKERD_PIPE,
        what: "workerd, pipeTo()",
        command: |places| places.workerd("pipe"),
    },
    Kind {
        name: ASYNCIO,
        what: "an echo on Python's asyncio, a Protocol per connection",
        command: |places| places.python(&["tests/python/echo.py"]),
    },
    Kind {
        name: "python-shared",
        what: "host/python, callback style, one instance",
        command: |places| places.python_host("shared"),
    },
    Kind {
        name: "python-connection",
        what: "host/python, callback style, an instance per connection",
        command: |places| places.python_host("connection"),
    },
    Kind {
        name: "shared-pass",
        what: "halfopen serve, one instance, the stream passed through",
        command: |places| places.pass("shared"),
    },
    Kind {
        name: "shared-copy",
        what: "halfopen serve, callback style, an instance per processor",
        command: |places| places.copy("shared", &places.echo),
    },
    Kind {
        name: "shared-await",
        what: "halfopen serve, await style, an instance per processor, copied through guest memory",
        command: |places| places.copy("shared", &places.parrot()),
    },
    Kind {
        name: "shared-pipe",
        what: "halfopen serve, callback style, an instance per processor, each connection piped to itself",
        command: |places| places.pipe(),
    },
    Kind {
        name: "connection-pass",
        what: "halfopen serve, an instance per connection, the stream passed through",
        command: |places| places.pass("connection"),
    },
    Kind {
        name: "connection-copy",
        what: "halfopen serve, callback style, an instance per connection",
        command: |places| places.copy("connection", &places.echo),
    },
    Kind {
        name: "connection-await",
        what: "halfopen serve, await style, an instance per connection, copied through guest memory",
        command: |places| places.copy("connection", &places.parrot()),
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
    /// The echo in callback style.
    echo: PathBuf,
}

impl Places {
    /// Finds the binaries next to this program, and the components in the project that it was
    /// built from.
    ///
    /// `echo` is measured in place of the echo that ships, if there is one.
    pub(crate) fn find(cpus: Option<&[usize]>, echo: Option<&Path>) -> Result<Self> {
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
        let echo = echo.map_or_else(|| root.join("guest/dist/echo.wasm"), Path::to_owned);
        let places = Places {
            binaries,
            root,
            cpus: None,
            workers,
            cache: None,
            echo,
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

    /// Python with the packages that `host/python` needs.
    fn python_binary(&self) -> PathBuf {
        self.root.join("target/python/bin/python")
    }

    fn python(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.python_binary());
        command.current_dir(&self.root).args(arguments);
        command
    }

    fn python_host(&self, isolation: &str) -> Command {
        let mut command = self.python(&["-m", "halfopen", "serve", "--isolation", isolation]);
        command.args(["--listen", "127.0.0.1:0", "--max-connections", "16000"]);
        command.arg(&self.echo).args(["--", "--quiet"]);
        command
    }

    /// The echo in callback style, under the npm package.
    fn node_host(&self, isolation: &str) -> Command {
        let mut command = self.command("node");
        command.arg(self.root.join("host/node/bin/halfopen.js"));
        command.args(["serve", "--isolation", isolation, "--listen", "127.0.0.1:0"]);
        command.args(["--max-connections", "16000"]).arg(&self.echo);
        command.args(["--", "--quiet"]);
        command
    }

    /// The binary of workerd for this machine. The package's own command is a script that
    /// starts it as another process, which would be the wrong one to measure.
    pub(crate) fn workerd_binary(&self) -> PathBuf {
        let machine = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "64",
        };
        let modules = self.root.join("tests/bench/workerd/node_modules");
        modules.join(format!("@cloudflare/workerd-linux-{machine}/bin/workerd"))
    }

    fn workerd(&self, configuration: &str) -> Command {
        let mut command = self.command(self.workerd_binary());
        // It listens on a free port, and reports the port on standard output.
        command
            .args(["serve", "--control-fd", "1"])
            .arg(self.root.join("tests/bench/workerd/config.capnp"))
            .arg(configuration);
        command
    }

    /// The service whose connections are piped to themselves.
    fn mirror(&self) -> PathBuf {
        self.root.join("tests/guests/dist/mirror.wasm")
    }

    /// The echo in await style.
    fn parrot(&self) -> PathBuf {
        self.root.join("tests/guests/dist/parrot.wasm")
    }

    fn serve(&self, isolation: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(self.binaries.join("halfopen"));
        command.args(["serve", "--isolation", isolation, "--listen", "127.0.0.1:0"]);
        command.args(["--max-connections", "16000"]).args(arguments);
        command
    }

    fn language(&self, isolation: &str) -> Command {
        let mut command = self.command(self.binaries.join("halfopen"));
        command.args(["serve", "--isolation", isolation, "--listen", "127.0.0.1:0"]);
        command.arg(&self.echo).args(["--", "--quiet"]);
        command
    }

    fn pass(&self, isolation: &str) -> Command {
        let mut command = self.serve(isolation, &[]);
        command.arg(self.guest("pass"));
        command
    }

    /// The echo of `shared-copy`, of another binary if there is one, with a control socket.
    pub(crate) fn watched(&self, binary: Option<&Path>, control: Option<&Path>) -> Command {
        let workers = self.workers.to_string();
        let mut command = match binary {
            Some(binary) => self.command(binary),
            None => self.command(self.binaries.join("halfopen")),
        };
        command.args(["serve", "--isolation", "shared", "--workers", &workers]);
        command.args(["--listen", "127.0.0.1:0"]);
        if let Some(control) = control {
            command.arg("--control").arg(control);
        }
        command.arg(&self.echo).args(["--", "--quiet"]);
        command
    }

    /// The service that publishes and subscribes as its clients say.
    pub(crate) fn herald(&self, isolation: &str, topics: &str) -> Command {
        let arguments: &[&str] = match isolation {
            "shared" => &["--workers", "1"],
            _ => &[],
        };
        let mut command = self.serve(isolation, arguments);
        command.args(["--topics", topics]);
        command.arg(self.root.join("tests/guests/dist/herald.wasm"));
        command
    }

    /// The native server that all others are compared with.
    pub(crate) fn tokio(&self) -> Command {
        self.own(&["serve", "tokio"])
    }

    fn pipe(&self) -> Command {
        let workers = self.workers.to_string();
        let mut command = self.serve("shared", &["--workers", &workers]);
        command.arg(self.mirror());
        command
    }

    fn copy(&self, isolation: &str, guest: &Path) -> Command {
        // A guest that touches every byte is limited by its thread, so it gets one for each
        // processor.
        let workers = self.workers.to_string();
        let arguments: &[&str] = match isolation {
            "shared" => &["--workers", &workers],
            _ => &[],
        };
        let mut command = self.serve(isolation, arguments);
        command.arg(guest).args(["--", "--quiet"]);
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
    /// Says what this kind of server lacks here, and how to get it.
    pub(crate) fn lacks(&self, places: &Places) -> Option<String> {
        let missing = |path: &Path, how: &str| {
            (!path.exists()).then(|| format!("`{}` is missing: run `{how}`", path.display()))
        };
        match self.name {
            name if name.starts_with(NODE) => {
                match Command::new("node").arg("--version").output() {
                    Ok(_) => None,
                    Err(_) => Some("`node` is not installed: install Node".to_owned()),
                }
            }
            name if name.starts_with(WORKERD) => missing(
                &places.workerd_binary(),
                "npm ci --ignore-scripts --prefix tests/bench/workerd",
            ),
            name if name == ASYNCIO || name.starts_with("python-") => {
                missing(&places.python_binary(), ".ci/python")
            }
            "shared-pipe" => missing(&places.mirror(), "cargo guests"),
            name if name.ends_with("-await") => missing(&places.parrot(), "cargo guests"),
            _ => None,
        }
    }

    /// Whether this kind of server takes this many connections at the same time.
    pub(crate) fn takes(&self, connections: usize) -> bool {
        let composed = self.name.starts_with("run-") || self.name.starts_with("wasmtime-");
        !composed || connections <= COMPOSED_CONNECTIONS
    }

    /// Starts a server, and waits for its address.
    pub(crate) fn start(&self, places: &Places) -> Result<Server> {
        Server::start((self.command)(places), self.name)
    }
}

impl Server {
    /// Starts a server by a command, and waits for its address.
    pub(crate) fn start(mut command: Command, name: &str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut line = String::new();
        let stdout = child
            .stdout
            .take()
            .context("standard output is not piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = address_in(&line)
            .with_context(|| format!("{name} did not print its address: {line}"))?;
        Ok(Server { child, address })
    }

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

    /// Returns the processor time that the server has used: utime and stime in
    /// proc_pid_stat(5), whose unit is a hundredth of a second on all Linux systems.
    pub(crate) fn processor_time(&self) -> Result<ProcessorTime> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = text.rsplit_once(')').context("no process name")?;
        let seconds = |index: usize| -> Option<f64> {
            let ticks: f64 = fields.split_whitespace().nth(index)?.parse().ok()?;
            Some(ticks / 100.0)
        };
        let (user, kernel) = seconds(11).zip(seconds(12)).context("no processor time")?;
        Ok(ProcessorTime { user, kernel })
    }
}

/// The processor time of a server, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessorTime {
    user: f64,
    kernel: f64,
}

impl ProcessorTime {
    /// Returns the time since an earlier reading.
    pub(crate) fn since(self, before: ProcessorTime) -> Self {
        ProcessorTime {
            user: self.user - before.user,
            kernel: self.kernel - before.kernel,
        }
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.kernel
    }

    /// Returns the kernel's share in percent. It is a count of timer ticks, exact to a few
    /// percent within a second, and 0 if no tick was counted.
    pub(crate) fn in_kernel(self) -> f64 {
        match self.total() {
            0.0 => 0.0,
            total => self.kernel / total * 100.0,
        }
    }
}

/// Reads a server's first line: an address, or workerd's report of its port on 127.0.0.1.
fn address_in(line: &str) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Listening {
        port: u16,
    }
    line.trim().parse().ok().or_else(|| {
        let Listening { port } = serde_json::from_str(line).ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_address() {
        let address = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(address_in("127.0.0.1:80\n"), address(80));
        let report = r#"{"event":"listen","socket":"tcp","port":81}"#;
        assert_eq!(address_in(report), address(81));
        assert_eq!(address_in("error: no such component"), None);
    }

    #[test]
    fn processor_time_is_a_difference_with_a_share() {
        let before = ProcessorTime {
            user: 1.0,
            kernel: 2.0,
        };
        let after = ProcessorTime {
            user: 2.0,
            kernel: 5.0,
        };
        let used = after.since(before);
        assert_eq!(used.total(), 4.0);
        assert_eq!(used.in_kernel(), 75.0);
        // A result with NaN could not be read again.
        assert_eq!(before.since(before).in_kernel(), 0.0);
    }
}
