//! The further interfaces that a service in callback style may import: `connecting`, `naming`,
//! `piping`, `timers` and `socket-peer`.

use std::net::SocketAddr;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::tcp::bindings::halfopen::tcp::types::IpSocketAddress;
use crate::tcp::connect::{connect, connect_to_name};
use crate::tcp::{TcpCtx, TcpView};

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
    )
}

fn ctx<'s, T: TcpView + 'static>(store: &'s mut StoreContextMut<'_, T>) -> &'s mut TcpCtx {
    store.data_mut().tcp().ctx
}
