//! The data of a store: what one instance has.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::noise::quietly;
use crate::state::{StateCtx, StateCtxView, StateView};
use crate::tcp::{Denied, Names, Policy, Registry, SocketPlace, TcpCtx, TcpCtxView, TcpView};

use super::Granted;
use super::calls::{Calls, HELD};
use super::compute::{Compute, Turns};
use super::memory::Memory;
use super::ticker::runs;

/// The part of an instance's memory that its handles may take, one in this many: a quarter, or
/// half where many connections have their handles in one instance.
const OWN_PART: usize = 4;
const SHARED_PART: usize = 2;

/// The data of a store.
pub(crate) struct State {
    pub(crate) tcp: TcpCtx,
    pub(crate) table: ResourceTable,
    grants: Arc<Granted>,
    state: StateCtx,
    /// Created when the component first uses WASI.
    wasi: Option<WasiCtx>,
    memory: Memory,
    compute: Compute,
    /// The places of sockets of `wasi:sockets`: at least one for each open socket that the
    /// guest made.
    pub(super) wasi_sockets: Vec<SocketPlace>,
    /// The calls that the guest has not finished.
    pub(crate) calls: Calls,
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
        let part = if self.shared { SHARED_PART } else { OWN_PART };
        let memory = Memory::new(self.max_memory, self.max_handles, part);
        let handles = memory.handles();
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        let state = State {
            tcp: tcp.build(),
            table,
            grants: self.clone(),
            state: self.state.anew(),
            wasi: None,
            memory,
            compute: Compute::new(self.max_compute),
            calls: Calls::default(),
            wasi_sockets: Vec::new(),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_max_component_handles(handles);
        // A call copies its arguments: no more than what the guest's memory can hold.
        store.set_hostcall_fuel(store.hostcall_fuel().min(self.max_memory));
        // A guest that computes on and on yields at every epoch.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            runs();
            let moved = state.tcp.moved();
            let computed = state.compute.interrupted(moved)?;
            if state.grants.shared {
                // Many calls that are busy together do not hold up one another.
                let peer = current_peer(&mut store);
                let state = store.data_mut();
                if state.calls.interrupted(peer, computed) {
                    state.grants.log_held("computed without waiting", peer);
                }
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// Says in the log that the guest holds up all connections of its instance, if there may
    /// be others.
    pub(super) fn log_held(&self, how: &str, peer: Option<SocketAddr>) {
        if !self.shared {
            return;
        }
        let Some(more) = self.said_held.say() else {
            return;
        };
        let peer = peer.map(tracing::field::display);
        let time = HELD.as_secs();
        let service = self.service();
        quietly(|| {
            tracing::warn!(
                service,
                peer,
                more,
                "the service has {how} for {time} s; meanwhile the other connections of its \
                 instance wait"
            );
        });
    }

    /// Returns whether an instance serves several connections.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    fn wasi(self: &Arc<Self>, names: Names) -> WasiCtx {
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
        for folder in &self.folders {
            if let Err(text) = folder.open(&mut wasi) {
                self.denied(&Denied::other("files", text));
            }
        }
        // The check below decides, and names what it denies.
        wasi.allow_tcp(true);
        wasi.allow_udp(false);
        let grants = self.clone();
        wasi.socket_addr_check(move |address, usage| {
            let denied = check(&grants.policy, &names, address, usage);
            let allowed = denied.is_ok();
            if let Err(Some(denied)) = denied {
                grants.denied(&denied);
            }
            Box::pin(async move { allowed })
        });
        wasi.build()
    }
}

/// Returns the peer for which the guest works at the moment, as far as known.
pub(super) fn current_peer(store: &mut StoreContextMut<'_, State>) -> Option<SocketAddr> {
    if let Some(peer) = store.data().tcp.current_peer() {
        return Some(peer);
    }
    // In callback style there are no calls, and no stack of them.
    if store.data().calls.is_empty() {
        return None;
    }
    let tasks: Vec<_> = store.async_call_stack().ok()?.collect();
    store.data().calls.peer_of(&tasks)
}

/// Applies the policy to a call of `wasi:sockets`. An error is what to log, if anything.
fn check(
    policy: &Policy,
    names: &Names,
    address: SocketAddr,
    usage: SocketAddrUse,
) -> Result<(), Option<Denied>> {
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
        SocketAddrUse::TcpConnect => (names.may_connect(address), Some(Denied::connect(address))),
        _ => (false, None),
    };
    if allowed { Ok(()) } else { Err(denied) }
}

impl State {
    pub(super) fn granted(&self) -> &Arc<Granted> {
        &self.grants
    }

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

impl StateView for State {
    fn state(&mut self) -> StateCtxView<'_> {
        StateCtxView {
            ctx: &mut self.state,
            table: &mut self.table,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let names = self.tcp.names();
        WasiCtxView {
            ctx: self
                .wasi
                .get_or_insert_with(|| self.grants.wasi(names.clone())),
            table: &mut self.table,
        }
    }
}
