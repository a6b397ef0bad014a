//! What a store needs to offer the primitives: context, builder, view, linker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasData, Linker, ResourceTable};

use crate::bindings::halfopen::tcp::{connections, listeners, options, outbound, peer, types};
use crate::policy::Policy;

use super::life::Ending;
use super::listener::no_delay;
use super::registry::Registry;
use super::{Connection, Place, Socket, Stream};

/// The state of the primitives in one store: what its guest may do, and which
/// connections it has.
#[derive(Debug, Default)]
pub struct TcpCtx {
    pub(super) policy: Policy,
    /// Those of this store.
    own: Registry,
    /// Those of the server that the store belongs to, if it does.
    server: Option<Registry>,
    /// Cancelled when listeners are to close.
    pub(super) stopping: CancellationToken,
}

/// Reaches the connections of a store while its guest runs.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    connections: Registry,
    stopping: CancellationToken,
}

impl Handle {
    /// Closes the guest's listeners; calls of `accept` then wait for ever.
    pub(crate) fn stop_accepting(&self) {
        self.stopping.cancel();
    }

    /// Waits until no connection is open, or closing.
    pub(crate) async fn empty(&self) {
        self.connections.empty().await;
    }

    /// Resets what has not ended.
    pub(crate) fn abort_all(&self) {
        self.connections.abort_all(&Ending::Trapped);
    }

    /// Resets what has not ended, and cuts gentle closes short.
    pub(crate) fn shut_down(&self) {
        self.connections.shut_down();
    }
}

impl TcpCtx {
    /// A builder whose result denies everything but what the host hands over.
    #[must_use]
    pub fn builder() -> TcpCtxBuilder {
        TcpCtxBuilder::default()
    }

    /// A handle to a connected socket, such as one that was just accepted, to be
    /// pushed into the store's resource table and handed to its guest.
    ///
    /// Switches TCP_NODELAY on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn connection(&self, stream: TcpStream) -> Connection {
        no_delay(&stream);
        let socket = self.open(Stream::Plain(stream), None, None);
        Connection::from_socket(socket.expect("a tokio stream is watched already"))
    }

    /// Resets every connection of this store that has not ended (rule C4).
    ///
    /// To be called when a guest has trapped, before its store is dropped. A store
    /// that is simply dropped ends the connections with FIN, and their peers might
    /// take what they got for all there was.
    pub fn abort_all(&self) {
        self.own.abort_all(&Ending::Trapped);
    }

    /// How often this store's connections have moved data.
    pub(crate) fn moved(&self) -> u64 {
        self.own.moved()
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle {
            connections: self.own.clone(),
            stopping: self.stopping.clone(),
        }
    }

    pub(crate) fn open(
        &self,
        stream: Stream,
        remote: Option<SocketAddr>,
        place: Option<Place>,
    ) -> io::Result<Arc<Socket>> {
        match &self.server {
            Some(server) => Socket::open(stream, remote, &[&self.own, server], place),
            None => Socket::open(stream, remote, &[&self.own], place),
        }
    }
}

/// Builds a [`TcpCtx`]. At first a guest may neither listen nor connect; the
/// connections that the host hands to it are always its to use.
#[derive(Clone, Debug, Default)]
pub struct TcpCtxBuilder {
    policy: Policy,
    server: Option<Registry>,
}

impl TcpCtxBuilder {
    /// Which addresses the guest may listen on and connect to.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Enters the connections into the list of a server as well.
    pub(crate) fn server(mut self, registry: Registry) -> Self {
        self.server = Some(registry);
        self
    }

    /// The finished context.
    #[must_use]
    pub fn build(self) -> TcpCtx {
        TcpCtx {
            policy: self.policy,
            own: Registry::default(),
            server: self.server,
            stopping: CancellationToken::new(),
        }
    }
}

/// The context together with the table that its resources live in.
#[derive(Debug)]
pub struct TcpCtxView<'a> {
    /// The context of this store.
    pub ctx: &'a mut TcpCtx,
    /// The resource table of this store.
    pub table: &'a mut ResourceTable,
}

/// Implemented by the data of a store whose guests use the primitives.
pub trait TcpView: Send {
    /// The parts of the store's data that the primitives use.
    fn tcp(&mut self) -> TcpCtxView<'_>;
}

/// Names [`TcpCtxView`] to wasmtime's bindings.
#[derive(Debug)]
pub struct Tcp;

impl HasData for Tcp {
    type Data<'a> = TcpCtxView<'a>;
}

/// Adds `types`, `connections`, `options`, `peer`, `listeners` and `outbound` of
/// `halfopen:tcp@0.1.0` to a linker.
///
/// The engine needs `wasm_component_model_async`, and what runs in its stores has
/// to run within a tokio runtime.
///
/// # Errors
/// If one of the interfaces is already there.
pub fn add_to_linker<T: TcpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    connections::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    options::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    peer::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    listeners::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    outbound::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    Ok(())
}
