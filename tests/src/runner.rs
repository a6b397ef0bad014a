//! The ways to run a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::server::{Server, command};

/// The binaries that the suite runs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// Our host.
    pub halfopen: PathBuf,
    /// The stock command line.
    pub wasmtime: PathBuf,
    /// A program that embeds our library.
    pub embed: PathBuf,
    /// Node, for `tests/node/host.mjs`, if it is installed.
    pub node: Option<PathBuf>,
}

impl Binaries {
    /// Those that lie around a test's own executable.
    ///
    /// # Panics
    /// If one is not there: nothing is skipped.
    #[must_use]
    pub fn find(wasmtime: &str) -> Self {
        let test = std::env::current_exe().expect("this process has an executable");
        let target = test
            .ancestors()
            .nth(2)
            .expect("tests lie in a folder of the target folder");
        let binaries = Binaries {
            halfopen: target.join("halfopen"),
            wasmtime: wasmtime.into(),
            embed: target.join("examples/embed"),
            node: Some(root().join("tests/node/node_modules/.bin/node"))
                .filter(|node| node.exists()),
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
}

/// A way to run a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// `halfopen serve`, or `run` for a program: the primitives natively, one instance
    /// per connection.
    NativeConnection,
    /// The same with one instance for all.
    NativeShared,
    /// The same with two that share them, each on a thread of its own.
    NativeWorkers,
    /// The composed component under `halfopen run`, on wasmtime-wasi.
    Composed,
    /// The composed component under the stock `wasmtime run`.
    Wasmtime,
    /// A program that embeds the library.
    Embedded,
    /// The service on Node, translated by jco, with the primitives on `node:net`.
    NodeHost,
}

impl Runner {
    /// Those for a service.
    pub const SERVICE: [Runner; 7] = [
        Runner::NativeConnection,
        Runner::NativeShared,
        Runner::NativeWorkers,
        Runner::Composed,
        Runner::Wasmtime,
        Runner::Embedded,
        Runner::NodeHost,
    ];

    /// Those for a program, which listens itself.
    pub const PROGRAM: [Runner; 3] = [Runner::NativeShared, Runner::Composed, Runner::Wasmtime];

    /// Its name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Runner::NativeConnection => "native-connection",
            Runner::NativeShared => "native-shared",
            Runner::NativeWorkers => "native-workers",
            Runner::Composed => "halfopen-run",
            Runner::Wasmtime => "wasmtime-run",
            Runner::Embedded => "embedded",
            Runner::NodeHost => "node-jco",
        }
    }

    /// Whether the primitives are those of halfopen's own host.
    #[must_use]
    pub fn is_native(self) -> bool {
        matches!(
            self,
            Runner::NativeConnection
                | Runner::NativeShared
                | Runner::NativeWorkers
                | Runner::Embedded
        )
    }

    /// Whether it is installed, where that is not the build's matter.
    #[must_use]
    pub fn is_there(self, binaries: &Binaries) -> bool {
        self != Runner::NodeHost || binaries.node.is_some()
    }

    /// The command that serves a service on `listen`.
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

    /// The same, with flags for `halfopen`, where that is the host.
    #[must_use]
    pub fn service_with(
        self,
        binaries: &Binaries,
        guest: &str,
        listen: &[&str],
        flags: &[&str],
        arguments: &[&str],
    ) -> Command {
        let listens = || listen.iter().flat_map(|address| ["--listen", address]);
        let own = guest_path(guest);
        let standalone = guest_path(&format!("{guest}-standalone"));
        let mut command = match self {
            Runner::NativeConnection | Runner::NativeShared | Runner::NativeWorkers => {
                let isolation: &[&str] = match self {
                    Runner::NativeShared => &["--isolation", "shared"],
                    Runner::NativeWorkers => &["--isolation", "shared", "--workers", "2"],
                    _ => &["--isolation", "connection"],
                };
                let mut command = command(&binaries.halfopen, ["serve"]);
                command.args(isolation);
                command.args(flags);
                command.arg(own).args(listens()).arg("--");
                command
            }
            Runner::Composed => {
                let mut command = command(&binaries.halfopen, ["run"]);
                command.args(flags);
                for address in listen {
                    command.args(["--allow-listen", address]);
                }
                command.arg(standalone).args(listens()).arg("--");
                command
            }
            Runner::Wasmtime => {
                let mut command = command(&binaries.wasmtime, ["run", "-S", "inherit-network"]);
                command.arg(standalone).args(listens()).arg("--");
                command
            }
            Runner::Embedded => {
                let mut command = Command::new(&binaries.embed);
                command.arg(own).args(listen);
                command
            }
            Runner::NodeHost => {
                let node = binaries.node.as_deref().unwrap_or(Path::new("node"));
                let mut command = Command::new(node);
                command.arg(root().join("tests/node/host.mjs"));
                command.arg(own).args(listens()).arg("--");
                command
            }
        };
        command.args(arguments);
        command
    }

    /// The command that runs a program.
    #[must_use]
    pub fn program(self, binaries: &Binaries, guest: &str, arguments: &[&str]) -> Command {
        self.program_with(
            binaries,
            guest,
            &["--allow-listen", "127.0.0.1:*"],
            arguments,
        )
    }

    /// The same, with other flags for `halfopen`. The stock command line is granted the
    /// network if there are any.
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
        let mut command = match self {
            Runner::Wasmtime => {
                let mut command = command(&binaries.wasmtime, ["run"]);
                if !flags.is_empty() {
                    command.args(["-S", "inherit-network"]);
                }
                command.arg(standalone);
                command
            }
            runner => {
                let mut command = command(&binaries.halfopen, ["run"]);
                command.args(flags);
                command.arg(if runner.is_native() { own } else { standalone });
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Starts a service on a free port.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(self, binaries: &Binaries, guest: &str, arguments: &[&str]) -> Result<Server> {
        let command = self.service(binaries, guest, &["127.0.0.1:0"], arguments);
        Server::start(command, 1)
    }
}

/// A shipped component.
#[must_use]
pub fn guest_path(name: &str) -> PathBuf {
    root().join(format!("guest/dist/{name}.wasm"))
}

/// The top folder of the project.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("this crate lies in a folder of the project")
        .to_owned()
}
