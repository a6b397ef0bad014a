//! The limits on a guest's own sockets, for those of `wasi:sockets`.
//!
//! `wasmtime-wasi` has no limits of its own, so the functions that make a socket, and the one
//! that connects it, are replaced by ones that ask first. A socket that a guest accepts counts
//! from its next call that makes one.

use tokio::time::timeout;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2;
use wasmtime_wasi::p2::bindings::sockets::network;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as CreateSocket;
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, HostTcpSocket, HostTcpSocketWithStore, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::sockets::{TcpSocket, WasiSockets, WasiSocketsView};

use super::store::State;

/// Takes a place for another socket; the error says why there is none.
fn take_place(state: &mut State) -> Result<(), String> {
    let place = match state.tcp.quota().try_take() {
        Ok(place) => place,
        Err(_) => {
            // wasmtime-wasi does not report that a socket has closed: count the open ones.
            let open = state.table.iter_mut();
            let open = open.filter(|entry| entry.is::<TcpSocket>() || entry.is::<p2::TcpSocket>());
            let open = open.count();
            state.wasi_sockets.truncate(open);
            let taken = state.tcp.quota().try_take();
            taken.map_err(|error| error.reason().to_owned())?
        }
    };
    state.wasi_sockets.push(place);
    Ok(())
}

/// Replaces the functions of WASI 0.3.
pub(super) fn limit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:sockets/types@0.3.0")?;
    types.func_wrap(
        "[static]tcp-socket.create",
        |mut store: StoreContextMut<'_, State>, (family,): (IpAddressFamily,)| {
            let state = store.data_mut();
            if let Err(reason) = take_place(state) {
                return Ok((Err(ErrorCode::Other(Some(reason))),));
            }
            match HostTcpSocket::create(&mut state.sockets(), family) {
                Ok(socket) => Ok((Ok(socket),)),
                Err(error) => Ok((Err(error.downcast()?),)),
            }
        },
    )?;
    types.func_wrap_concurrent(
        "[method]tcp-socket.connect",
        |accessor, (socket, address): (Resource<TcpSocket>, IpSocketAddress)| {
            Box::pin(async move {
                let limit = accessor.with(|mut store| store.data_mut().tcp.connect_timeout());
                let accessor = accessor.with_getter::<WasiSockets>(State::sockets);
                let connecting = WasiSockets::connect(&accessor, socket, address);
                let connected = match limit {
                    Some(limit) => match timeout(limit, connecting).await {
                        Ok(connected) => connected,
                        Err(_) => return Ok((Err(ErrorCode::Timeout),)),
                    },
                    None => connecting.await,
                };
                match connected {
                    Ok(()) => Ok((Ok(()),)),
                    Err(error) => Ok((Err(error.downcast()?),)),
                }
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Replaces the function of WASI 0.2.
pub(super) fn limit_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut create = linker.instance("wasi:sockets/tcp-create-socket@0.2.12")?;
    create.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, State>, (family,): (network::IpAddressFamily,)| {
            let state = store.data_mut();
            if take_place(state).is_err() {
                return Ok((Err(network::ErrorCode::NewSocketLimit),));
            }
            match CreateSocket::create_tcp_socket(&mut state.sockets(), family) {
                Ok(socket) => Ok((Ok(socket),)),
                Err(error) => Ok((Err(error.downcast()?),)),
            }
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
