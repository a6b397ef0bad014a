//! The further interfaces that a service in callback style may import: `connecting`, `naming`,
//! `piping`, `timers`, `socket-peer` and `socket-secure`.

use std::net::SocketAddr;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::tcp::bindings::halfopen::tcp::types::IpSocketAddress;
use crate::tcp::connect::{connect, connect_to_name};
use crate::tcp::secure::Role;
use crate::tcp::{ErrorCode, TcpCtx, TcpView};

pub(super) fn add_to_linker<T: TcpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut connecting = linker.instance("halfopen:tcp/connecting@0.1.0")?;
    connecting.func_wrap(
        "connect",
        |mut store: StoreContextMut<'_, T>, (remote,): (IpSocketAddress,)| {
            let ctx = ctx(&mut store);
            let remote = SocketAddr::from(remote);
            let connecting = connect(ctx, remote);
            Ok((connecting.map(|connecting| ctx.sockets().connect(connecting, Some(remote))),))
        },
    )?;

    let mut naming = linker.instance("halfopen:tcp/naming@0.1.0")?;
    naming.func_wrap(
        "connect",
        |mut store: StoreContextMut<'_, T>, (name, port): (String, u16)| {
            let ctx = ctx(&mut store);
            let connecting = connect_to_name(ctx, &name, port);
            Ok((connecting.map(|connecting| ctx.sockets().connect(connecting, None)),))
        },
    )?;

    let mut piping = linker.instance("halfopen:tcp/piping@0.1.0")?;
    piping.func_wrap(
        "pipe",
        |mut store: StoreContextMut<'_, T>, (source, sink): (u32, u32)| {
            Ok((ctx(&mut store).sockets().pipe(source, sink),))
        },
    )?;

    let mut timers = linker.instance("halfopen:tcp/timers@0.1.0")?;
    for (name, repeats) in [("set-timer", false), ("set-interval", true)] {
        timers.func_wrap(
            name,
            move |mut store: StoreContextMut<'_, T>, (milliseconds,): (u32,)| {
                let sockets = ctx(&mut store).sockets();
                Ok((sockets.set_timer(milliseconds, repeats),))
            },
        )?;
    }
    timers.func_wrap(
        "clear",
        |mut store: StoreContextMut<'_, T>, (timer,): (u32,)| {
            ctx(&mut store).sockets().clear_timer(timer);
            Ok(())
        },
    )?;

    let mut peer = linker.instance("halfopen:tcp/socket-peer@0.1.0")?;
    peer.func_wrap(
        "tls",
        |mut store: StoreContextMut<'_, T>, (socket,): (u32,)| {
            let sockets = ctx(&mut store).sockets();
            let session = sockets.look(socket, |entry| entry.session().cloned());
            Ok((session.flatten(),))
        },
    )?;

    let mut secure = linker.instance("halfopen:tcp/socket-secure@0.1.0")?;
    secure.func_wrap(
        "as-server",
        |mut store: StoreContextMut<'_, T>, (socket, unprocessed): (u32, u32)| {
            Ok((begin(ctx(&mut store), socket, Role::Server, unprocessed),))
        },
    )?;
    type Client = (u32, String, Vec<String>, u32);
    secure.func_wrap(
        "as-client",
        |mut store: StoreContextMut<'_, T>, client: Client| {
            let (socket, server_name, application_protocols, unprocessed) = client;
            let role = Role::Client {
                server_name,
                application_protocols,
            };
            Ok((begin(ctx(&mut store), socket, role, unprocessed),))
        },
    )
}

/// Begins TLS on a socket.
fn begin(ctx: &mut TcpCtx, socket: u32, role: Role, unprocessed: u32) -> Result<(), ErrorCode> {
    let beginning = ctx.begin_tls(role)?;
    let begun = ctx
        .sockets()
        .act(socket, |entry| entry.secure(beginning, unprocessed));
    begun.unwrap_or(Err(ErrorCode::InvalidState))
}

fn ctx<'s, T: TcpView + 'static>(store: &'s mut StoreContextMut<'_, T>) -> &'s mut TcpCtx {
    store.data_mut().tcp().ctx
}
