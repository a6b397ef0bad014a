//! The data of a store: what one instance has.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::tcp::{self, Denied, Policy, Registry, TcpCtx, TcpCtxView, TcpView};

use super::Granted;
use super::compute::{Compute, Turns};

/// How far a table may grow, in elements: far beyond what compilers emit for a program,
/// and 4 MiB.
const TABLE_ELEMENTS: usize = 512 * 1024;

/// The data of a store.
pub(crate) struct State {
    pub(crate) tcp: TcpCtx,
    pub(crate) table: ResourceTable,
    grants: Arc<Granted>,
    /// Created when the component first uses WASI.
    wasi: Option<WasiCtx>,
    limits: StoreLimits,
    compute: Compute,
}

impl Granted {
    /// Makes a store for one instance. The instance's connections enter `registry` as well.
    pub(crate) fn store(
        self: &Arc<Self>,
        engine: &Engine,
        registry: Option<&Registry>,
    ) -> Store<State> {
        let mut tcp = self.tcp.clone();
        if let Some(registry) = registry {
            tcp = tcp.registry(registry.clone());
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
        // A guest that computes on and on yields at every epoch.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            let moved = state.tcp.moved();
            state.compute.interrupted(moved)?;
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    fn wasi(self: &Arc<Self>) -> WasiCtx {
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&self.args).envs(&self.env);
        if self.inherit_stdio {
            wasi.inherit_stdio();
        }
        if let Some(stdout) = &self.stdout {
            wasi.stdout(stdout.clone());
        }
        if let Some(stderr) = &self.stderr {
            wasi.stderr(stderr.clone());
        }
        for (host, guest) in &self.dirs {
            if let Err(error) = wasi.preopened_dir(host, guest, FsPerms::ReadWrite) {
                tracing::warn!("cannot grant `{}`: {error:#}", host.display());
            }
        }
        // The check below decides, and names what it denies.
        wasi.allow_tcp(true);
        wasi.allow_udp(false);
        let grants = self.clone();
        wasi.socket_addr_check(move |address, usage| {
            let denied = check(&grants.policy, address, usage);
            let allowed = denied.is_ok();
            if let Err(Some(denied)) = denied {
                grants.advice.log_denied(&denied);
            }
            Box::pin(async move { allowed })
        });
        wasi.build()
    }
}

/// Applies the policy to a call of `wasi:sockets`. An error is what to log, if anything.
fn check(policy: &Policy, address: SocketAddr, usage: SocketAddrUse) -> Result<(), Option<Denied>> {
    let listens = |address| policy.may_listen(address);
    let (allowed, denied) = match usage {
        // A socket that connects is bound to any address and port first.
        SocketAddrUse::TcpBind if address.ip().is_unspecified() && address.port() == 0 => {
            (true, None)
        }
        SocketAddrUse::TcpBind => (listens(address), Some(Denied::Listen(address))),
        // The kernel may have chosen the port: then the bind above was to port 0, and only
        // a granted address passed. The address to connect from passed as well, so the
        // policy decides again, and denies only that one.
        SocketAddrUse::TcpListen => {
            let any_port = SocketAddr::new(address.ip(), 0);
            let allowed = listens(address) || listens(any_port);
            (allowed, Some(Denied::Listen(any_port)))
        }
        // A listener that was allowed accepts every peer.
        SocketAddrUse::TcpAccept => (true, None),
        SocketAddrUse::TcpConnect => (policy.may_connect(address), Some(Denied::connect(address))),
        _ => (false, None),
    };
    if allowed { Ok(()) } else { Err(denied) }
}

/// Makes a linker with everything that this host provides: the primitives, and WASI 0.3
/// and 0.2.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    tcp::add_to_linker(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Ok(linker)
}

impl State {
    /// Returns the counter of the guest's turns, which runs the guest.
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
