//! The data of a store: what one instance has.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::compute::{Compute, Turns};
use crate::error::LoadError;
use crate::output::Output;
use crate::policy::Policy;
use crate::tcp::{self, Registry, TcpCtx, TcpCtxView, TcpView};

/// What a component gets, each of its instances.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    /// The arguments, the component's name first.
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) policy: Policy,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    /// The standard streams of this process, instead of those above.
    pub(crate) inherit_stdio: bool,
    /// Directories, and the names under which the guest finds them.
    pub(crate) dirs: Vec<(PathBuf, String)>,
    /// Bytes of linear memory, for each memory.
    pub(crate) max_memory: usize,
    /// How long it may compute without waiting; zero is no limit.
    pub(crate) max_compute: Duration,
    /// Bytes that it may print in a second, on each of its streams; `None` is no limit.
    pub(crate) max_output: Option<NonZeroU32>,
    /// Handles that its components may hold: of resources, streams, futures.
    pub(crate) max_handles: usize,
}

/// The handles of a store that serves one connection, or runs a program: wasmtime's own
/// limit.
const HANDLES: usize = 100_000;

/// What each connection takes of them, and what its service may take besides.
const HANDLES_EACH: usize = 64;

/// How far a table may grow: far beyond what compilers make of a program, and 4 MiB.
const TABLE_ELEMENTS: usize = 512 * 1024;

/// The data of a store.
pub(crate) struct State {
    pub(crate) tcp: TcpCtx,
    pub(crate) table: ResourceTable,
    grants: Arc<Grants>,
    /// Made when the component first asks for something of WASI.
    wasi: Option<WasiCtx>,
    limits: StoreLimits,
    compute: Compute,
}

impl Grants {
    /// Nothing but a name, and 256 MiB.
    pub(crate) fn new(name: &str) -> Self {
        Grants {
            args: vec![name.to_owned()],
            env: Vec::new(),
            policy: Policy::deny_all(),
            stdout: None,
            stderr: None,
            inherit_stdio: false,
            dirs: Vec::new(),
            max_memory: 256 << 20,
            max_compute: Duration::ZERO,
            max_output: None,
            max_handles: HANDLES,
        }
    }

    /// With handles for so many connections at once.
    pub(crate) fn for_connections(&mut self, connections: usize) {
        self.max_handles = connections.saturating_mul(HANDLES_EACH).max(HANDLES);
    }

    /// Makes sure that every directory that is granted can be opened.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        for (host, _) in &self.dirs {
            std::fs::read_dir(host).map_err(|error| LoadError::Read {
                path: host.clone(),
                error,
            })?;
        }
        Ok(())
    }

    /// A store for one instance, which belongs to a server or to none.
    pub(crate) fn store(
        self: &Arc<Self>,
        engine: &Engine,
        server: Option<&Registry>,
    ) -> Store<State> {
        let mut tcp = TcpCtx::builder().policy(self.policy.clone());
        if let Some(server) = server {
            tcp = tcp.server(server.clone());
        }
        let state = State {
            tcp: tcp.build(),
            table: ResourceTable::new(),
            grants: self.clone(),
            wasi: None,
            limits: StoreLimitsBuilder::new()
                .memory_size(self.max_memory)
                .table_elements(TABLE_ELEMENTS)
                .build(),
            compute: Compute::new(self.max_compute),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_max_component_handles(self.max_handles);
        // A guest that computes on and on gives way at every epoch.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            let moved = state.tcp.moved();
            state.compute.interrupted(moved)?;
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    fn wasi(&self) -> WasiCtx {
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&self.args).envs(&self.env);
        let limited = |output: &Output| match self.max_output {
            Some(limit) => output.limited(limit),
            None => output.clone(),
        };
        if let Some(stdout) = &self.stdout {
            wasi.stdout(limited(stdout));
        }
        if let Some(stderr) = &self.stderr {
            wasi.stderr(limited(stderr));
        }
        if self.inherit_stdio {
            wasi.inherit_stdio();
        }
        for (host, guest) in &self.dirs {
            if let Err(error) = wasi.preopened_dir(host, guest, FsPerms::ReadWrite) {
                tracing::warn!("cannot grant `{}`: {error:#}", host.display());
            }
        }
        let policy = self.policy.clone();
        wasi.allow_tcp(!policy.is_deny_all());
        wasi.allow_udp(false);
        wasi.socket_addr_check(move |address, usage| {
            let allowed = allows(&policy, address, usage);
            Box::pin(async move { allowed })
        });
        wasi.build()
    }
}

/// The policy for `wasi:sockets`.
fn allows(policy: &Policy, address: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        // To connect, a socket is bound to any address and port by itself.
        SocketAddrUse::TcpBind if address.ip().is_unspecified() && address.port() == 0 => {
            !policy.is_deny_all()
        }
        SocketAddrUse::TcpBind => policy.check_listen(address).is_ok(),
        // Bound as allowed, perhaps with a port that the system chose: port 0 was asked
        // for then, and the bind above let only a granted address through. (The
        // address to connect from was let through as well, so ask again.)
        SocketAddrUse::TcpListen => {
            policy.listens(address) || policy.listens(SocketAddr::new(address.ip(), 0))
        }
        // A listener that was allowed accepts whoever comes.
        SocketAddrUse::TcpAccept => true,
        SocketAddrUse::TcpConnect => policy.check_connect(address).is_ok(),
        _ => false,
    }
}

/// A linker with everything that this host provides: the primitives, and WASI 0.3
/// and 0.2.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    tcp::add_to_linker(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Ok(linker)
}

impl State {
    /// To be told of the guest's turns.
    pub(crate) fn turns(&self) -> Turns {
        self.compute.turns()
    }
}

impl TcpView for State {
    fn tcp(&mut self) -> TcpCtxView<'_> {
        TcpCtxView {
            ctx: &mut self.tcp,
            table: &mut self.table,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(|| self.grants.wasi()),
            table: &mut self.table,
        }
    }
}
