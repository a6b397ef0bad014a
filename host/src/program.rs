//! Programs: components with a `run` of their own.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{I32Exit, p2, p3};

use crate::engine::EngineOptions;
use crate::error::LoadError;
use crate::load::{self, Source};
use crate::policy::Policy;
use crate::store::{Grants, State, linker};

/// Sets up a [`Program`].
#[derive(Clone, Debug)]
pub struct ProgramBuilder {
    grants: Grants,
    engine: EngineOptions,
    allow_precompiled: bool,
    grace: Duration,
}

impl Default for ProgramBuilder {
    fn default() -> Self {
        ProgramBuilder {
            grants: Grants::new("program"),
            engine: EngineOptions::default(),
            allow_precompiled: false,
            grace: Duration::from_secs(10),
        }
    }
}

impl ProgramBuilder {
    /// The name under which it runs, its argument 0; `program` at first.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.grants.args[0] = name.into();
        self
    }

    /// Adds to its arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.grants.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds to its environment, which is empty at first.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.grants.env.push((name.into(), value.into()));
        self
    }

    /// What it may do on the network; nothing at first.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.grants.policy = policy;
        self
    }

    /// Grants a directory, which the program finds under the name `guest`.
    #[must_use]
    pub fn dir(mut self, host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        self.grants.dirs.push((host.into(), guest.into()));
        self
    }

    /// Gives it the standard streams of this process; it has none at first.
    #[must_use]
    pub fn inherit_stdio(mut self) -> Self {
        self.grants.inherit_stdio = true;
        self
    }

    /// How much linear memory it may have, in bytes; 256 MiB at first.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.grants.max_memory = bytes;
        self
    }

    /// How long its connections may take to finish once it has ended or is to stop;
    /// 10 s at first.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether compiled code is kept on disk; it is at first.
    #[must_use]
    pub fn cache(mut self, cache: bool) -> Self {
        self.engine.cache = cache;
        self
    }

    /// Whether native code that was compiled before is taken; not at first, because
    /// such a file is trusted like the host itself.
    #[must_use]
    pub fn allow_precompiled(mut self, allow: bool) -> Self {
        self.allow_precompiled = allow;
        self
    }

    /// Loads the program.
    ///
    /// # Errors
    /// If it cannot be loaded, is no program, or needs what this host does not
    /// provide.
    pub fn build(self, program: impl Into<Source>) -> Result<Program, LoadError> {
        self.grants.check()?;
        let engine = self.engine.build()?;
        let component = program.into().load(&engine, self.allow_precompiled)?;
        let version = version(&engine, &component)?;
        let linker = linker(&engine).map_err(LoadError::Engine)?;
        let pre = load::link(&linker, &component)?;
        Ok(Program {
            engine,
            pre,
            version,
            grants: Arc::new(self.grants),
            grace: self.grace,
        })
    }
}

/// Which `wasi:cli/run` a component exports.
#[derive(Clone, Copy, Debug)]
enum Version {
    P2,
    P3,
}

fn version(engine: &Engine, component: &Component) -> Result<Version, LoadError> {
    let exports = load::exports(engine, component);
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    if has("wasi:cli/run@0.3.0") {
        Ok(Version::P3)
    } else if has("wasi:cli/run@0.2.") {
        Ok(Version::P2)
    } else if has("halfopen:tcp/handler@0.1.") {
        Err(LoadError::WrongWorld {
            expected: "`run` takes a program, which exports `wasi:cli/run`; run a service with `halfopen serve`, or make a program of it with `halfopen compose`",
            found: load::listed(&exports),
        })
    } else {
        Err(LoadError::WrongWorld {
            expected: "`run` takes a program, which exports `wasi:cli/run` of WASI 0.3.0 or 0.2",
            found: load::listed(&exports),
        })
    }
}

/// A component that runs by itself: it listens, accepts and connects as far as its
/// policy lets it.
pub struct Program {
    engine: Engine,
    pre: InstancePre<State>,
    version: Version,
    grants: Arc<Grants>,
    grace: Duration,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("version", &self.version)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// A builder for a program that is granted nothing.
    #[must_use]
    pub fn builder() -> ProgramBuilder {
        ProgramBuilder::default()
    }

    /// Runs it to its end, and returns its exit status, or until `shutdown`
    /// resolves, which is a status of 0.
    ///
    /// At shutdown its listeners on the primitives close, and connections on them
    /// have the grace time to finish. Sockets of `wasi:sockets` are the program's
    /// alone: a composed program ends at once.
    ///
    /// # Errors
    /// If it traps.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> wasmtime::Result<u8> {
        let mut store = self.grants.store(&self.engine, None);
        let tcp = store.data().tcp.handle();
        let ended = {
            let running = self.run_in(&mut store);
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                () = shutdown => {
                    tcp.stop_accepting();
                    tokio::select! {
                        ended = &mut running => ended,
                        _ = timeout(self.grace, tcp.empty()) => Ok(0),
                    }
                }
            }
        };
        let status = match ended {
            Ok(status) => Ok(status),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(status)) => Ok(u8::try_from(*status).unwrap_or(1)),
                None => {
                    tcp.abort_all();
                    Err(error)
                }
            },
        };
        drop(store);
        // Replies on their way get there.
        if timeout(self.grace, tcp.empty()).await.is_err() {
            tcp.shut_down();
        }
        status
    }

    async fn run_in(&self, store: &mut Store<State>) -> wasmtime::Result<u8> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let ended = match self.version {
            Version::P2 => {
                let command = p2::bindings::Command::new(&mut *store, &instance)?;
                command.wasi_cli_run().call_run(&mut *store).await?
            }
            Version::P3 => {
                let command = p3::bindings::Command::new(&mut *store, &instance)?;
                store
                    .run_concurrent(async |accessor| {
                        let ended = command.wasi_cli_run().call_run(accessor).await?;
                        // What it still does in the background, such as printing.
                        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                        wasmtime::error::Ok(ended)
                    })
                    .await??
            }
        };
        Ok(u8::from(ended.is_err()))
    }
}
