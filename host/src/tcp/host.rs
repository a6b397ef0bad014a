//! The primitives as `bindgen!` wants them. Here is only conversion: what they do
//! stands in the modules beside this one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::TcpKeepalive;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use crate::bindings::halfopen::tcp::{connections, listeners, options, outbound, peer, types};

use super::address::{check_local, check_remote};
use super::life::Ending;
use super::listener::{accept, no_delay};
use super::pump::pump;
use super::receive::Receiver;
use super::send::Sender;
use super::{Connection, ErrorCode, Listener, Socket, Stream, Tcp, TcpCtxView, bind};

type Ended = Result<(), ErrorCode>;

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
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send + 'static> connections::HostConnectionWithStore<T> for Tcp {
    fn read(
        mut store: Access<T, Self>,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Ended>)> {
        let connection = store.get().table.get_mut(&connection)?;
        if connection.receiving_taken {
            let stream = StreamReader::new(&mut store, std::iter::empty())?;
            return Ok((stream, failed(&mut store, ErrorCode::InvalidState)?));
        }
        connection.receiving_taken = true;
        let socket = connection.socket.clone();
        let (outcome, ended) = oneshot::channel();
        let stream = StreamReader::new(&mut store, Receiver::new(socket.clone(), outcome))?;
        let future = FutureReader::new(&mut store, outcome_of(socket, ended))?;
        Ok((stream, future))
    }

    fn write(
        mut store: Access<T, Self>,
        connection: Resource<Connection>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Ended>> {
        let connection = store.get().table.get_mut(&connection)?;
        if connection.sending_taken {
            data.close(&mut store)?;
            return failed(&mut store, ErrorCode::InvalidState);
        }
        connection.sending_taken = true;
        let socket = connection.socket.clone();
        let (outcome, ended) = oneshot::channel();
        let sender = Sender::new(socket.clone(), outcome);
        match data.try_into::<Receiver>(&mut store) {
            Ok(receiver) => {
                tokio::spawn(pump(receiver, sender));
            }
            Err(data) => data.pipe(&mut store, sender)?,
        }
        FutureReader::new(&mut store, outcome_of(socket, ended))
    }
}

/// How a direction ended, or the error of a connection that failed meanwhile
/// (rule C6).
async fn outcome_of(
    socket: Arc<Socket>,
    ended: oneshot::Receiver<Ended>,
) -> wasmtime::Result<Ended> {
    tokio::select! {
        biased;
        ended = ended => Ok(ended.unwrap_or(Err(ErrorCode::ConnectionAborted))),
        error = socket.failed() => Ok(Err(error)),
    }
}

fn failed<T: Send + 'static>(
    store: &mut Access<T, Tcp>,
    error: ErrorCode,
) -> wasmtime::Result<FutureReader<Ended>> {
    FutureReader::new(store, async move { wasmtime::error::Ok(Err(error)) })
}

impl options::Host for TcpCtxView<'_> {
    fn set_keep_alive(
        &mut self,
        connection: Resource<Connection>,
        value: Option<options::KeepAlive>,
    ) -> wasmtime::Result<Ended> {
        let options = self.table.get(&connection)?.socket.options();
        let Some(value) = value else {
            return Ok(options.set_keepalive(false).map_err(ErrorCode::from));
        };
        if value.idle_time == 0 || value.interval == 0 || value.count == 0 {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        let keep_alive = TcpKeepalive::new()
            .with_time(whole_seconds(value.idle_time))
            .with_interval(whole_seconds(value.interval))
            .with_retries(value.count);
        Ok(options
            .set_tcp_keepalive(&keep_alive)
            .map_err(ErrorCode::from))
    }

    fn set_no_delay(
        &mut self,
        connection: Resource<Connection>,
        value: bool,
    ) -> wasmtime::Result<Ended> {
        let options = self.table.get(&connection)?.socket.options();
        Ok(options.set_tcp_nodelay(value).map_err(ErrorCode::from))
    }
}

impl peer::Host for TcpCtxView<'_> {
    fn tls(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<Option<peer::TlsSession>> {
        Ok(self.table.get(&connection)?.socket.peer_tls().cloned())
    }
}

/// Nanoseconds, rounded up to the seconds that TCP_KEEPIDLE counts in.
fn whole_seconds(nanoseconds: u64) -> Duration {
    Duration::from_secs(Duration::from_nanos(nanoseconds).as_secs_f64().ceil() as u64)
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
        let bound = valid
            .and_then(|()| self.ctx.policy.check_listen(address))
            .and_then(|()| Ok(bind(address, options.backlog)?))
            .and_then(|socket| Ok((socket.local_addr()?, socket)));
        Ok(match bound {
            Ok((address, socket)) => Ok(self.table.push(Listener {
                address,
                socket: Arc::new(Mutex::new(Some(socket))),
            })?),
            Err(error) => Err(error),
        })
    }

    fn local_address(
        &mut self,
        listener: Resource<Listener>,
    ) -> wasmtime::Result<Result<types::IpSocketAddress, ErrorCode>> {
        Ok(Ok(self.table.get(&listener)?.address.into()))
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
        let (socket, stopping) = accessor.with(|mut store| -> wasmtime::Result<_> {
            let view = store.get();
            let socket = view.table.get(&listener)?.socket.clone();
            Ok((socket, view.ctx.stopping.clone()))
        })?;
        let mut socket = socket.lock().await;
        let accepted = match &*socket {
            Some(listening) => tokio::select! {
                accepted = accept(listening) => Some(accepted),
                () = stopping.cancelled() => None,
            },
            None => None,
        };
        match accepted {
            Some(Ok((stream, remote))) => push(accessor, stream, Some(remote)).map(Ok),
            Some(Err(error)) => {
                tracing::error!("a listener has failed, and accepts no more: {error}");
                Ok(Err(ErrorCode::InvalidState))
            }
            None => {
                // Told to stop accepting: to the guest it looks as if nobody came.
                *socket = None;
                std::future::pending().await
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
        let address = SocketAddr::from(remote_address);
        let allowed = accessor.with(|mut store| {
            check_remote(address).and_then(|()| store.get().ctx.policy.check_connect(address))
        });
        if let Err(error) = allowed {
            return Ok(Err(error));
        }
        match TcpStream::connect(address).await {
            Ok(stream) => push(accessor, stream, Some(address)).map(Ok),
            // No ephemeral port is left: EADDRNOTAVAIL says so of connect(2).
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                Ok(Err(ErrorCode::AddressInUse))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}

fn push<T: Send + 'static>(
    accessor: &Accessor<T, Tcp>,
    stream: TcpStream,
    remote: Option<SocketAddr>,
) -> wasmtime::Result<Resource<Connection>> {
    no_delay(&stream);
    accessor.with(|mut store| {
        let view = store.get();
        let socket = view.ctx.open(Stream::Plain(stream), remote, None)?;
        Ok(view.table.push(Connection::from_socket(socket))?)
    })
}
