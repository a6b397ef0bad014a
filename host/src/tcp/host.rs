//! The primitives as `bindgen!` expects them: only conversions between WIT's types and the
//! modules beside this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use super::address::check_local;
use super::bindings::halfopen::tcp::{
    connections, listeners, options, outbound, peer, secure, types,
};
use super::connect::connect;
use super::pump::pump;
use super::receive::Receiver;
use super::secure::Role;
use super::send::Sender;
use super::waiters::Wait;
use super::{
    Connection, Denied, Ending, ErrorCode, Listener, Socket, SocketPlace, Tcp, TcpCtx, TcpCtxView,
};

/// The result of setting an option, and of the future of a direction.
type UnitResult = Result<(), ErrorCode>;

impl types::Host for TcpCtxView<'_> {}
impl connections::Host for TcpCtxView<'_> {}

impl connections::HostConnection for TcpCtxView<'_> {
    fn local_address(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<Result<types::IpSocketAddress, ErrorCode>> {
        let socket = &self.table.get(&connection)?.socket;
        Ok(socket
            .local()
            .map(Into::into)
            .ok_or(ErrorCode::InvalidState))
    }

    fn remote_address(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<Result<types::IpSocketAddress, ErrorCode>> {
        let socket = &self.table.get(&connection)?.socket;
        Ok(socket
            .remote()
            .map(Into::into)
            .ok_or(ErrorCode::InvalidState))
    }

    fn reset(&mut self, this: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(this)?.socket.abort(Ending::Reset);
        Ok(())
    }

    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?.dropped();
        Ok(())
    }
}

impl<T: Send + 'static> connections::HostConnectionWithStore<T> for Tcp {
    fn read(
        mut store: Access<T, Self>,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<UnitResult>)> {
        let connection = store.get().table.get_mut(&connection)?;
        let Some(socket) = connection.take_receiving() else {
            let stream = StreamReader::new(&mut store, std::iter::empty())?;
            return Ok((stream, failed(&mut store, ErrorCode::InvalidState)?));
        };
        let (end, ended) = oneshot::channel();
        let stream = StreamReader::new(&mut store, Receiver::new(socket.clone(), end))?;
        let future = FutureReader::new(&mut store, end_of(socket, Wait::Received, ended))?;
        Ok((stream, future))
    }

    fn write(
        mut store: Access<T, Self>,
        connection: Resource<Connection>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<UnitResult>> {
        let connection = store.get().table.get_mut(&connection)?;
        let Some(socket) = connection.take_sending() else {
            data.close(&mut store)?;
            return failed(&mut store, ErrorCode::InvalidState);
        };
        let (end, ended) = oneshot::channel();
        let sender = Sender::new(socket.clone(), end);
        match data.try_into::<Receiver>(&mut store) {
            Ok(receiver) => {
                // Here and not in the task: whoever runs the guest looks whether it has begun to
                // pass bytes.
                let passing = store.get().ctx.passing().begins();
                tokio::spawn(async move { pump(receiver, sender, &passing).await });
            }
            Err(data) => data.pipe(&mut store, sender)?,
        }
        FutureReader::new(&mut store, end_of(socket, Wait::Sent, ended))
    }
}

/// Waits for the end of a direction, or for the failure of the connection, which may come
/// first (rule C6).
async fn end_of(
    socket: Arc<Socket>,
    wait: Wait,
    ended: oneshot::Receiver<UnitResult>,
) -> wasmtime::Result<UnitResult> {
    tokio::select! {
        biased;
        ended = ended => Ok(ended.unwrap_or(Err(ErrorCode::ConnectionAborted))),
        error = socket.failed(wait) => Ok(Err(error)),
    }
}

/// A future that resolves to `error` at once.
fn failed<T: Send + 'static>(
    store: &mut Access<T, Tcp>,
    error: ErrorCode,
) -> wasmtime::Result<FutureReader<UnitResult>> {
    FutureReader::new(store, async move { wasmtime::error::Ok(Err(error)) })
}

impl options::Host for TcpCtxView<'_> {
    fn set_keep_alive(
        &mut self,
        connection: Resource<Connection>,
        value: Option<options::KeepAlive>,
    ) -> wasmtime::Result<UnitResult> {
        let socket = &self.table.get(&connection)?.socket;
        let Some(value) = value else {
            return Ok(socket.set_option(|options| options.set_keepalive(false)));
        };
        if value.idle_time == 0 || value.interval == 0 || value.count == 0 {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        let keep_alive = TcpKeepalive::new()
            .with_time(whole_seconds(value.idle_time))
            .with_interval(whole_seconds(value.interval))
            .with_retries(value.count);
        Ok(socket.set_option(|options| options.set_tcp_keepalive(&keep_alive)))
    }

    fn set_no_delay(
        &mut self,
        connection: Resource<Connection>,
        value: bool,
    ) -> wasmtime::Result<UnitResult> {
        let socket = &self.table.get(&connection)?.socket;
        Ok(socket.set_option(|options| options.set_tcp_nodelay(value)))
    }
}

impl peer::Host for TcpCtxView<'_> {
    fn tls(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<Option<peer::TlsSession>> {
        Ok(self.table.get(&connection)?.socket.peer_session().cloned())
    }
}

/// The future of a handshake, or why there is none.
type Handshake = Result<FutureReader<UnitResult>, ErrorCode>;

impl secure::Host for TcpCtxView<'_> {}

impl<T: Send + 'static> secure::HostWithStore<T> for Tcp {
    fn as_server(
        store: Access<T, Self>,
        connection: Resource<Connection>,
        processed: u64,
    ) -> wasmtime::Result<Handshake> {
        begin(store, &connection, Role::Server, processed)
    }

    fn as_client(
        store: Access<T, Self>,
        connection: Resource<Connection>,
        server_name: String,
        application_protocols: Vec<String>,
        processed: u64,
    ) -> wasmtime::Result<Handshake> {
        let role = Role::Client {
            server_name,
            application_protocols,
        };
        begin(store, &connection, role, processed)
    }
}

/// Begins TLS on a connection of which the guest has acted upon this many bytes.
fn begin<T: Send + 'static>(
    mut store: Access<T, Tcp>,
    connection: &Resource<Connection>,
    role: Role,
    processed: u64,
) -> wasmtime::Result<Handshake> {
    let view = store.get();
    let socket = view.table.get(connection)?.socket.clone();
    let beginning = match view.ctx.begin_tls(role) {
        Ok(beginning) => beginning,
        Err(error) => return Ok(Err(error)),
    };
    if !socket.may_secure() {
        return Ok(Err(ErrorCode::InvalidState));
    }
    if processed != socket.received() {
        let error = socket.refuse_clear_text();
        return failed(&mut store, error).map(Ok);
    }
    let (report, done) = oneshot::channel();
    if let Err(error) = socket.secure(beginning, |shaken| drop(report.send(shaken))) {
        return Ok(Err(error));
    }
    let done =
        async { wasmtime::error::Ok(done.await.unwrap_or(Err(ErrorCode::ConnectionAborted))) };
    FutureReader::new(&mut store, done).map(Ok)
}

/// Rounds nanoseconds up to whole seconds, the unit of TCP_KEEPIDLE and TCP_KEEPINTVL.
fn whole_seconds(nanoseconds: u64) -> Duration {
    Duration::from_secs(nanoseconds.div_ceil(1_000_000_000))
}

impl listeners::Host for TcpCtxView<'_> {}

impl listeners::HostListener for TcpCtxView<'_> {
    fn listen(
        &mut self,
        local_address: types::IpSocketAddress,
        options: listeners::ListenOptions,
    ) -> wasmtime::Result<Result<Resource<Listener>, ErrorCode>> {
        let address = SocketAddr::from(local_address);
        let valid = match options.backlog {
            Some(0) => Err(ErrorCode::InvalidArgument),
            _ => check_local(address),
        };
        let listener = valid
            .and_then(|()| may_listen(self.ctx, address))
            .and_then(|()| self.ctx.quota().try_take())
            .and_then(|place| Ok(Listener::bind(address, options.backlog, place)?));
        Ok(match listener {
            Ok(listener) => Ok(self.table.push(listener)?),
            Err(error) => Err(error),
        })
    }

    fn local_address(
        &mut self,
        listener: Resource<Listener>,
    ) -> wasmtime::Result<Result<types::IpSocketAddress, ErrorCode>> {
        Ok(Ok(self.table.get(&listener)?.address().into()))
    }

    fn drop(&mut self, listener: Resource<Listener>) -> wasmtime::Result<()> {
        self.table.delete(listener)?;
        Ok(())
    }
}

impl<T: Send + 'static> listeners::HostListenerWithStore<T> for Tcp {
    async fn accept(
        accessor: &Accessor<T, Self>,
        listener: Resource<Listener>,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let (queue, quota, stopping, noise) =
            accessor.with(|mut store| -> wasmtime::Result<_> {
                let view = store.get();
                let queue = view.table.get(&listener)?.queue();
                let ctx = view.ctx;
                Ok((queue, ctx.quota().clone(), ctx.stopping(), ctx.noise()))
            })?;
        match queue.accept(quota, stopping, &noise).await {
            Ok((stream, remote, place)) => push(accessor, stream, remote, place).map(Ok),
            Err(error) => {
                noise.log(|| tracing::error!("a listener has failed and accepts no more: {error}"));
                Ok(Err(ErrorCode::InvalidState))
            }
        }
    }
}

impl outbound::Host for TcpCtxView<'_> {}

impl<T: Send + 'static> outbound::HostWithStore<T> for Tcp {
    async fn connect(
        accessor: &Accessor<T, Self>,
        remote_address: types::IpSocketAddress,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let connecting =
            accessor.with(|mut store| connect(store.get().ctx, SocketAddr::from(remote_address)));
        let connected = match connecting {
            Ok(connecting) => connecting.await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(connection) => {
                accessor.with(|mut store| Ok(Ok(connection.push(store.get().table)?)))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

fn may_listen(ctx: &TcpCtx, address: SocketAddr) -> UnitResult {
    if ctx.policy().may_listen(address) {
        return Ok(());
    }
    ctx.denied(&Denied::Listen(address));
    Err(ErrorCode::AccessDenied)
}

fn push<T: Send + 'static>(
    accessor: &Accessor<T, Tcp>,
    stream: TcpStream,
    remote: SocketAddr,
    place: SocketPlace,
) -> wasmtime::Result<Resource<Connection>> {
    accessor.with(|mut store| {
        let view = store.get();
        let connection = view.ctx.opener().open_own(stream, remote, place)?;
        Ok(connection.push(view.table)?)
    })
}
