//! The runners: the ways to run a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use halfopen_compose::{Interfaces, Style};

use crate::kit::{Foreign, Template};
use crate::languages;
use crate::server::{Server, command};

/// The binaries that the suite runs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The `halfopen` command.
    pub halfopen: PathBuf,
    /// The stock `wasmtime` command line.
    pub wasmtime: PathBuf,
    /// The example that embeds the library.
    pub embed: PathBuf,
    /// Node as `tests/node` pins it, for components in await style, if it is installed.
    pub node: Option<PathBuf>,
    /// The `node` of the machine, for components in callback style, if it is 20 or newer.
    pub plain_node: Option<PathBuf>,
    /// Python in `target/python`, with what `host/python` depends on, if it is there.
    pub python: Option<PathBuf>,
    /// The command of [`Runner::Foreign`], if there is one.
    pub foreign: Option<Template>,
}

impl Binaries {
    /// Finds the binaries of the profile that this test was built with. `wasmtime` is the
    /// value of `env!("CARGO_BIN_EXE_wasmtime")`.
    ///
    /// # Panics
    ///
    /// If a binary that the workspace builds is missing: nothing is skipped.
    #[must_use]
    pub fn find(wasmtime: &str) -> Self {
        let test = std::env::current_exe().expect("this process has an executable");
        let target = test
            .ancestors()
            .nth(2)
            .expect("a test's executable lies in a folder of the target folder");
        let binaries = Binaries {
            halfopen: target.join("halfopen"),
            wasmtime: wasmtime.into(),
            embed: target.join("examples/embed"),
            node: Some(root().join("tests/node/node_modules/.bin/node"))
                .filter(|node| node.exists()),
            plain_node: Some(PathBuf::from("node")).filter(|node| node_version(node) >= Some(20)),
            python: Some(root().join("target/python/bin/python")).filter(|python| python.exists()),
            foreign: None,
        };
        for binary in [&binaries.halfopen, &binaries.wasmtime, &binaries.embed] {
            assert!(
                binary.exists(),
                "`{}` is missing: run `cargo build --bins --examples`, or `cargo test` without `-p`",
                binary.display()
            );
        }
        binaries
    }

    /// Finds the binaries, as far as they are built, to start a command that the project does
    /// not have.
    ///
    /// # Errors
    ///
    /// If this process has no executable.
    pub fn foreign(template: Template) -> Result<Self> {
        let beside = |name| std::env::current_exe().map(|this| this.with_file_name(name));
        Ok(Binaries {
            halfopen: beside("halfopen")?,
            wasmtime: beside("wasmtime")?,
            embed: beside("embed")?,
            node: None,
            plain_node: None,
            python: None,
            foreign: Some(template),
        })
    }
}

/// Returns the major version of a `node`; `None` if it does not run.
fn node_version(node: &Path) -> Option<u32> {
    let output = Command::new(node).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let (major, _) = version.strip_prefix('v')?.split_once('.')?;
    major.parse().ok()
}

/// A flag of `halfopen serve`, and an argument of a composed service.
const KEEP_RUNNING: &str = "--keep-running";

/// Services that exist once in each style, the one in callback style first.
const TWINS: [(&str, &str); 3] = [("echo", "parrot"), ("orders", "cases"), ("herald", "crier")];

/// Declares the runners once: the enumeration, and [`Runner::ALL`] from the same list.
macro_rules! runners {
    ($($(#[doc = $doc:literal])+ $runner:ident,)+) => {
        /// A way to run a server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Runner {
            $($(#[doc = $doc])+ $runner,)+
            /// A command that the project does not have.
            Foreign(Foreign),
        }

        impl Runner {
            /// Every runner of the project, in the order of the matrix. Each of them runs
            /// services.
            pub const ALL: &[Runner] = &[$(Runner::$runner),+];
        }
    };
}

runners! {
    /// `halfopen serve`, or `halfopen run` for a program: the primitives natively, one
    /// instance per connection.
    NativeConnection,
    /// `halfopen serve` with one instance for all connections.
    NativeShared,
    /// `halfopen serve` with two instances that share the connections, each on its own
    /// thread.
    NativeWorkers,
    /// The composed component under `halfopen run`, on wasmtime-wasi.
    Composed,
    /// The composed component under the stock `wasmtime run`.
    Wasmtime,
    /// A program that embeds the library.
    Embedded,
    /// A service in await style on Node, translated by jco, with the primitives on `node:net`.
    NodeHost,
    /// A service in callback style on Node 20, under the npm package of `host/node`, with one
    /// instance for all connections.
    NodeCallbacks,
    /// A service in callback style under `python -m halfopen`, one instance per connection.
    PythonConnection,
    /// The same with one instance for all connections.
    PythonShared,
    /// The same, with one instance per connection.
    NodeConnection,
}

/// What is true of a runner, whatever it runs. A test that leaves runners out says which by
/// these properties, so that a new runner takes part in every test that fits it.
#[derive(Clone, Copy, Debug)]
pub struct Properties {
    /// The runner's name in the output.
    pub name: &'static str,
    /// The program that hosts the component.
    pub host: Host,
    /// The implementation of the primitives.
    pub primitives: Primitives,
    /// The instances that serve the connections.
    pub instances: Instances,
    /// Whether the runner also runs programs, which listen themselves.
    pub programs: bool,
    /// The style of services that the runner serves; `None` if it serves both.
    pub style: Option<Style>,
}

/// The program that hosts a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The `halfopen` binary.
    Halfopen,
    /// The stock `wasmtime` command line.
    Wasmtime,
    /// `host/examples/embed.rs`.
    Embedding,
    /// Node: with jco, or with the npm package.
    Node,
    /// `host/python`.
    Python,
    /// A command that the project does not have.
    Foreign,
}

/// An implementation of the primitives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitives {
    /// The `halfopen` library, on the operating system's sockets.
    Native,
    /// `guest/parts/adapter`, composed into the component, on `wasi:sockets`.
    Wasi,
    /// `tests/node/connection.mjs` or `host/node`, on `node:net`.
    Node,
    /// `host/python`, on the operating system's sockets.
    Python,
}

/// The instances of a component that serve the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// Each connection has an instance of its own.
    PerConnection,
    /// This many instances get the connections in turns. More than one are workers, each
    /// with a thread of its own.
    Shared(usize),
}

impl Runner {
    /// Returns what is true of this runner.
    #[must_use]
    pub fn properties(self) -> Properties {
        let native = |name, instances, programs| Properties {
            name,
            host: Host::Halfopen,
            primitives: Primitives::Native,
            instances,
            programs,
            style: None,
        };
        let node = |name, instances, style| Properties {
            name,
            host: Host::Node,
            primitives: Primitives::Node,
            instances,
            programs: false,
            style: Some(style),
        };
        let python = |name, instances| Properties {
            name,
            host: Host::Python,
            primitives: Primitives::Python,
            instances,
            programs: false,
            style: Some(Style::Callback),
        };
        match self {
            Runner::NativeConnection => {
                native("native-connection", Instances::PerConnection, false)
            }
            Runner::NativeShared => native("native-shared", Instances::Shared(1), true),
            Runner::NativeWorkers => native("native-workers", Instances::Shared(2), false),
            Runner::Composed => Properties {
                name: "halfopen-run",
                host: Host::Halfopen,
                primitives: Primitives::Wasi,
                instances: Instances::Shared(1),
                programs: true,
                style: None,
            },
            Runner::Wasmtime => Properties {
                name: "wasmtime-run",
                host: Host::Wasmtime,
                primitives: Primitives::Wasi,
                instances: Instances::Shared(1),
                programs: true,
                style: None,
            },
            Runner::Embedded => Properties {
                name: "embedded",
                host: Host::Embedding,
                primitives: Primitives::Native,
                instances: Instances::PerConnection,
                programs: false,
                style: None,
            },
            Runner::PythonConnection => python("python-connection", Instances::PerConnection),
            Runner::PythonShared => python("python-shared", Instances::Shared(1)),
            Runner::NodeHost => node("node-jco", Instances::Shared(1), Style::Await),
            Runner::NodeCallbacks => node("node-callbacks", Instances::Shared(1), Style::Callback),
            Runner::NodeConnection => {
                node("node-connection", Instances::PerConnection, Style::Callback)
            }
            Runner::Foreign(foreign) => Properties {
                name: "command",
                host: Host::Foreign,
                primitives: foreign.promises,
                instances: foreign.instances,
                programs: false,
                style: foreign.style,
            },
        }
    }

    /// Returns the component that this runner serves for a service: the service itself, or
    /// the same one in the other style. `None` if the runner serves neither.
    #[must_use]
    pub fn guest(self, name: &str) -> Option<&str> {
        let Some(style) = self.properties().style else {
            return Some(name);
        };
        let twin = TWINS.iter().find_map(|&(callback, awaiting)| match name {
            _ if name == callback => Some(awaiting),
            _ if name == awaiting => Some(callback),
            _ => None,
        });
        [Some(name), twin]
            .into_iter()
            .flatten()
            .find(|name| style_of(name) == Some(style))
    }

    /// Returns the runner's name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.properties().name
    }

    /// Whether the primitives are those of the `halfopen` library.
    #[must_use]
    pub fn is_native(self) -> bool {
        let properties = self.properties();
        properties.primitives == Primitives::Native && properties.host != Host::Foreign
    }

    /// Whether the service is composed into a program that runs on `wasi:sockets`.
    #[must_use]
    pub fn is_composed(self) -> bool {
        let properties = self.properties();
        properties.primitives == Primitives::Wasi && properties.host != Host::Foreign
    }

    /// Whether the host can be told to let a service connect, or does so.
    #[must_use]
    pub fn grants_connections(self) -> bool {
        match self {
            Runner::Embedded => false,
            Runner::Foreign(foreign) => foreign.connects,
            _ => true,
        }
    }

    /// Whether lines that the server prints can be seen.
    #[must_use]
    pub fn prints(self) -> bool {
        !matches!(self, Runner::Foreign(foreign) if foreign.silent)
    }

    /// Whether this is `halfopen serve`, with its flags for limits and policy.
    #[must_use]
    pub fn is_serve(self) -> bool {
        self.is_native() && self.properties().host == Host::Halfopen
    }

    /// Whether this is a server that outlives a trap of its service, and that has flags for
    /// the limits on memory, connections and time: `halfopen serve`, and the packages for Node
    /// and Python.
    #[must_use]
    pub fn has_limits(self) -> bool {
        match self.properties().host {
            Host::Python => true,
            Host::Node => self.properties().style == Some(Style::Callback),
            _ => self.is_serve(),
        }
    }

    /// Whether this is `halfopen serve`, or makes the same promises.
    #[must_use]
    pub fn is_like_serve(self) -> bool {
        let foreign = |foreign: Foreign| foreign.promises == Primitives::Native;
        self.is_serve() || matches!(self, Runner::Foreign(this) if foreign(this))
    }

    /// Whether the host is the `halfopen` command.
    #[must_use]
    pub fn is_halfopen(self) -> bool {
        self.properties().host == Host::Halfopen
    }

    /// Whether this is a command line of its own: `halfopen serve`, or a composed program.
    /// The embedding example and Node take neither grants nor limits.
    #[must_use]
    pub fn is_command(self) -> bool {
        self.is_serve() || self.is_composed()
    }

    /// Whether the code under test is the project's own from the socket up, so that its
    /// laws hold on this runner without exception. On Node they do not: after the peer's
    /// FIN, Node sees a reset only by writing.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.properties().host != Host::Node
    }

    /// Whether the runner runs programs, which listen themselves.
    #[must_use]
    pub fn runs_programs(self) -> bool {
        self.properties().programs
    }

    /// Whether every runner takes part; for cases that leave none out.
    #[must_use]
    pub fn is_any(self) -> bool {
        true
    }

    /// Whether the runner can be started here. Only Node and Python may be missing: everything
    /// else is built with the tests.
    #[must_use]
    pub fn is_installed(self, binaries: &Binaries) -> bool {
        match self {
            Runner::NodeHost => binaries.node.is_some(),
            Runner::PythonConnection | Runner::PythonShared => binaries.python.is_some(),
            Runner::NodeCallbacks | Runner::NodeConnection => binaries.plain_node.is_some(),
            _ => true,
        }
    }

    /// Returns what has to be done so that the runner is installed.
    #[must_use]
    pub fn needs(self) -> &'static str {
        match self.properties().host {
            Host::Python => "it needs Python 3.11 or newer, and `.ci/python`",
            _ => "it needs `node`, version 20 or newer; node-jco also `npm ci --prefix tests/node`",
        }
    }

    /// Returns the command that serves a service on `listen`.
    #[must_use]
    pub fn service(
        self,
        binaries: &Binaries,
        guest: &str,
        listen: &[&str],
        arguments: &[&str],
    ) -> Command {
        self.service_with(binaries, guest, listen, &[], arguments)
    }

    /// Returns the command that serves a service on `listen`, with flags for `halfopen`
    /// or for the npm package where that is the host.
    #[must_use]
    pub fn service_with(
        self,
        binaries: &Binaries,
        guest: &str,
        listen: &[&str],
        flags: &[&str],
        arguments: &[&str],
    ) -> Command {
        let keeps = || flags.iter().filter(|&flag| *flag == KEEP_RUNNING);
        let listens = || listen.iter().flat_map(|address| ["--listen", address]);
        let own = guest_path(self.guest(guest).unwrap_or(guest));
        let standalone = guest_path(&format!("{guest}-standalone"));
        let unfound = Path::new("node");
        let properties = self.properties();
        let mut command = match (properties.host, properties.primitives) {
            (Host::Halfopen, Primitives::Wasi) => {
                let mut command = command(&binaries.halfopen, ["run"]);
                command.args(flags.iter().filter(|&flag| *flag != KEEP_RUNNING));
                for address in listen {
                    command.args(["--allow-listen", address]);
                }
                command.arg(standalone).args(listens()).args(keeps());
                command.arg("--");
                command
            }
            (Host::Halfopen, _) => {
                let mut command = command(&binaries.halfopen, ["serve"]);
                match properties.instances {
                    Instances::PerConnection => command.args(["--isolation", "connection"]),
                    Instances::Shared(1) => command.args(["--isolation", "shared"]),
                    Instances::Shared(workers) => {
                        command.args(["--isolation", "shared", "--workers"]);
                        command.arg(workers.to_string())
                    }
                };
                command.args(flags);
                command.arg(own).args(listens()).arg("--");
                command
            }
            (Host::Wasmtime, _) => {
                let mut command = command(&binaries.wasmtime, ["run", "-S", "inherit-network"]);
                command.arg(standalone).args(listens()).args(keeps());
                command.arg("--");
                command
            }
            (Host::Embedding, _) => {
                let mut command = Command::new(&binaries.embed);
                command.arg(own).args(listen);
                command
            }
            (Host::Python, _) => {
                let python = binaries.python.as_deref();
                let mut command = Command::new(python.unwrap_or(Path::new("python3")));
                command.args(["-m", "halfopen", "serve", "--isolation"]);
                command.arg(match properties.instances {
                    Instances::PerConnection => "connection",
                    Instances::Shared(_) => "shared",
                });
                command.args(flags);
                command.arg(own).args(listens()).arg("--");
                command
            }
            (Host::Node, _) if properties.style == Some(Style::Callback) => {
                let mut command = Command::new(binaries.plain_node.as_deref().unwrap_or(unfound));
                command.arg(root().join("host/node/bin/halfopen.js"));
                command.args(["serve", "--isolation"]);
                command.arg(match properties.instances {
                    Instances::PerConnection => "connection",
                    Instances::Shared(_) => "shared",
                });
                command.args(flags).arg(own).args(listens()).arg("--");
                command
            }
            (Host::Foreign, _) => {
                let template = binaries.foreign.as_ref().expect("the kit has a command");
                return template.command(&own, &standalone, listen, arguments);
            }
            (Host::Node, _) => {
                let mut command = Command::new(binaries.node.as_deref().unwrap_or(unfound));
                command.arg(root().join("tests/node/host.mjs"));
                command.arg(own).args(listens()).arg("--");
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Returns the command that runs a program, which may listen on loopback.
    #[must_use]
    pub fn program(self, binaries: &Binaries, guest: &str, arguments: &[&str]) -> Command {
        self.program_with(
            binaries,
            guest,
            &["--allow-listen", "127.0.0.1:*"],
            arguments,
        )
    }

    /// Returns the command that runs a program, with these flags for `halfopen`. If there
    /// are any, the stock command line is granted the network.
    #[must_use]
    pub fn program_with(
        self,
        binaries: &Binaries,
        guest: &str,
        flags: &[&str],
        arguments: &[&str],
    ) -> Command {
        let own = guest_path(guest);
        let standalone = guest_path(&format!("{guest}-standalone"));
        let mut command = match self.properties().host {
            Host::Wasmtime => {
                let mut command = command(&binaries.wasmtime, ["run"]);
                if !flags.is_empty() {
                    command.args(["-S", "inherit-network"]);
                }
                command.arg(standalone);
                command
            }
            _ => {
                let mut command = command(&binaries.halfopen, ["run"]);
                command.args(flags);
                command.arg(if self.is_native() { own } else { standalone });
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Starts a service on a free port.
    ///
    /// # Errors
    ///
    /// If the server does not start.
    pub fn start(self, binaries: &Binaries, guest: &str, arguments: &[&str]) -> Result<Server> {
        let command = self.service(binaries, guest, &["127.0.0.1:0"], arguments);
        Server::start(command, 1)
    }
}

/// Returns the path of a component: a shipped one, one of `tests/guests`, or one that was built
/// of a template.
#[must_use]
pub fn guest_path(name: &str) -> PathBuf {
    let file = format!("{name}.wasm");
    let folders = ["guest/dist", languages::FOLDER, "tests/guests/dist"];
    let mut paths = folders.map(|folder| root().join(folder).join(&file));
    let found = paths.iter().position(|path| path.exists());
    std::mem::take(&mut paths[found.unwrap_or(2)])
}

/// Returns the style of a service, by the name of its component.
///
/// # Panics
///
/// If the component cannot be read.
fn style_of(guest: &str) -> Option<Style> {
    let path = guest_path(guest);
    let component =
        fs::read(&path).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()));
    Interfaces::unvalidated(&component)
        .unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
        .style()
}

/// Returns the top folder of the project.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("this crate lies in a folder of the project")
        .to_owned()
}
