//! Runs programs: components with a `run` of their own.

mod sockets;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{I32Exit, p2, p3};

use crate::runtime::component::{Interfaces, Kind};
use crate::runtime::{
    Defaults, Granted, Grants, HANDLES, LoadError, Loading, Source, State, Stdio,
};
use crate::tcp::Handle;

use sockets::Sockets;

/// The grants of a program where [`Grants`] do not say: no limit but wasmtime's own on
/// handles.
const DEFAULTS: Defaults = Defaults {
    name: "program",
    stdio: Stdio::Exclusive,
    max_compute: Duration::ZERO,
    max_output: None,
    max_handles: HANDLES,
    max_sockets: None,
    max_sockets_total: None,
    connect_timeout: Duration::ZERO,
    shared: false,
    secures: false,
    handshake_timeout: Duration::from_secs(10),
};

/// How long the state may take to reach the disk, at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// Sets up a [`Program`].
#[derive(Clone, Debug)]
pub struct ProgramBuilder {
    grants: Grants,
    loading: Loading,
    grace: Duration,
    owns_process_sockets: bool,
}

impl Default for ProgramBuilder {
    fn default() -> Self {
        ProgramBuilder {
            grants: Grants::new(),
            loading: Loading::default(),
            grace: Duration::from_secs(10),
            owns_process_sockets: false,
        }
    }
}

impl ProgramBuilder {
    /// Sets what the program may use (default: nothing).
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// Sets how long the program's connections may take to finish after it has ended, or
    /// after shutdown has begun (default: 10 s).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// States that every TCP socket that this process opens while the program runs is the
    /// program's (default: false).
    ///
    /// Then the grace time also applies to sockets of `wasi:sockets`, which cannot be told
    /// from other sockets of the process: at shutdown the program's listeners close, and at
    /// the end of the grace time, or after a trap, its connections are reset. It takes Linux's
    /// `/proc`.
    #[must_use]
    pub fn owns_process_sockets(mut self, owns: bool) -> Self {
        self.owns_process_sockets = owns;
        self
    }

    /// Sets whether compiled code is kept on disk, so that a second start is fast
    /// (default: true).
    #[must_use]
    pub fn cache(mut self, cache: bool) -> Self {
        self.loading.cache = cache;
        self
    }

    /// Sets whether precompiled native code is accepted (default: false). Such a file is
    /// trusted like the host itself.
    #[must_use]
    pub fn allow_precompiled(mut self, allow: bool) -> Self {
        self.loading.allow_precompiled = allow;
        self
    }

    /// Runs the program in an engine of the embedder's, with the embedder's settings for
    /// caching and pooling (default: an engine of [`EngineOptions`](crate::EngineOptions)).
    ///
    /// The engine needs [`wasm_component_model_async`] and, to interrupt a program that
    /// computes, [`epoch_interruption`] and an epoch every [`EPOCH`](crate::EPOCH).
    ///
    /// [`wasm_component_model_async`]: wasmtime::Config::wasm_component_model_async
    /// [`epoch_interruption`]: wasmtime::Config::epoch_interruption
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.loading.engine = Some(engine);
        self
    }

    /// Loads the program.
    ///
    /// # Errors
    /// If the component cannot be loaded, is not a program, or needs what this host does
    /// not provide; or if a granted directory cannot be read.
    pub fn build(self, program: impl Into<Source>) -> Result<Program, LoadError> {
        let opened = self.loading.open(&program.into())?;
        let grants = self.grants.resolve(Defaults {
            secures: opened.secures(),
            ..DEFAULTS
        })?;
        let loaded = opened.link(Kind::Program)?;
        Ok(Program {
            version: Version::of(&loaded.interfaces),
            engine: loaded.engine,
            pre: loaded.pre,
            grants: Arc::new(grants),
            grace: self.grace,
            owns_process_sockets: self.owns_process_sockets,
        })
    }
}

/// The version of `wasi:cli/run` that a program exports.
#[derive(Clone, Copy, Debug)]
enum Version {
    P2,
    P3,
}

impl Version {
    fn of(program: &Interfaces) -> Self {
        let p3 = |name: &String| name.starts_with("wasi:cli/run@0.3.0");
        match program.exports.iter().any(p3) {
            true => Version::P3,
            false => Version::P2,
        }
    }
}

/// A component that runs by itself: it listens, accepts and connects as far as its
/// [`Policy`](crate::Policy) allows.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use halfopen::{Grants, Policy, Program};
///
/// let policy = Policy::deny_all().allow_listen("127.0.0.1:*".parse()?);
/// let program = Program::builder()
///     .grants(Grants::new().policy(policy).inherit_stdio())
///     .build(std::path::Path::new("guest/dist/primitives.wasm"))?;
/// let status = program.run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
pub struct Program {
    engine: Engine,
    pre: InstancePre<State>,
    version: Version,
    grants: Arc<Granted>,
    grace: Duration,
    owns_process_sockets: bool,
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
    /// Returns a builder for a program that is granted nothing.
    #[must_use]
    pub fn builder() -> ProgramBuilder {
        ProgramBuilder::default()
    }

    /// Runs the program to its end and returns its exit status, or runs it until `shutdown`
    /// resolves and returns 0.
    ///
    /// At shutdown, the program's listeners close: peers are refused, and calls of `accept`
    /// never return. The program runs on until its connections have ended, or until the grace
    /// time is over: then they are reset. The program is not notified; it only sees no further
    /// connection. Without connections it ends at once.
    ///
    /// The host sees connections on the primitives, and those of `wasi:sockets` if
    /// [`ProgramBuilder::owns_process_sockets`] is set. Without it, a program on
    /// `wasi:sockets` ends at once, and the system ends its connections.
    ///
    /// Dropping the future resets the program's connections.
    ///
    /// # Errors
    /// If the program traps; [`describe_trap`](crate::describe_trap) formats the error.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> wasmtime::Result<u8> {
        let sockets = self.owns_process_sockets.then(Sockets::since_now);
        let mut store = self.grants.store(&self.engine, None);
        // Dropped before the store, which would end the connections with FIN.
        let mut open = Open {
            tcp: store.data().tcp.handle(),
            sockets,
            reset_on_drop: true,
        };
        let mut stopping = None;
        let ended = {
            let turns = store.data().turns();
            let running = turns.run(self.run_in(&mut store));
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                () = shutdown => {
                    stopping = Some(Instant::now());
                    open.stop_accepting();
                    tokio::select! {
                        ended = &mut running => ended,
                        finished = timeout(self.grace, open.finished()) => {
                            if finished.is_err() {
                                open.reset_all();
                            }
                            Ok(0)
                        }
                    }
                }
            }
        };
        let status = match ended {
            Ok(status) => Ok(status),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(status)) => Ok(u8::try_from(*status).unwrap_or(1)),
                None => {
                    open.trapped();
                    Err(error)
                }
            },
        };
        open.reset_on_drop = false;
        drop(store);
        self.grants.flush(FLUSH).await;
        // Replies that are on their way may arrive.
        let elapsed = stopping.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.grace.saturating_sub(elapsed);
        if timeout(left, open.tcp.empty()).await.is_err() {
            open.tcp.shut_down();
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
                        // The program may still do things in the background, such as printing.
                        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                        wasmtime::error::Ok(ended)
                    })
                    .await??
            }
        };
        Ok(u8::from(ended.is_err()))
    }
}

/// The connections and listeners of a running program.
struct Open {
    /// Those on the primitives.
    tcp: Handle,
    /// Those of `wasi:sockets`, as far as the host can know them.
    sockets: Option<Sockets>,
    reset_on_drop: bool,
}

impl Open {
    fn stop_accepting(&mut self) {
        self.tcp.stop_accepting();
        if let Some(sockets) = &mut self.sockets
            && let Err(error) = sockets.stop_accepting()
        {
            tracing::warn!("cannot close the program's listeners: {error}");
        }
    }

    /// Waits until no connection is left.
    async fn finished(&mut self) {
        self.tcp.empty().await;
        if let Some(sockets) = &mut self.sockets {
            sockets.finished().await;
        }
    }

    fn reset_all(&self) {
        self.tcp.shut_down();
        self.reset_sockets();
    }

    fn trapped(&self) {
        self.tcp.abort_all();
        self.reset_sockets();
    }

    fn reset_sockets(&self) {
        if let Some(sockets) = &self.sockets {
            sockets.reset_all();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.reset_on_drop {
            self.reset_all();
        }
    }
}
