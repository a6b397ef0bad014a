//! The functions that a service in callback style imports.

use std::net::SocketAddr;

use halfopen_model::Written as Taken;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmList};

use super::entry::Entry;
use super::{Sockets, further, topics};
use crate::tcp::bindings::halfopen::tcp::types::IpSocketAddress;
use crate::tcp::{ErrorCode, TcpView};

/// What became of a write.
#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Written {
    #[component(name = "more")]
    More,
    #[component(name = "wait")]
    Wait,
    #[component(name = "ended")]
    Ended,
}

impl From<Taken> for Written {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::More => Written::More,
            Taken::Wait => Written::Wait,
            Taken::Ended => Written::Ended,
        }
    }
}

/// Adds the interfaces `sockets`, `connecting`, `naming`, `piping`, `timers`, `socket-peer`,
/// `socket-secure`, `topics` and `subscribing` of `halfopen:tcp@0.1.0` to a linker, for components in
/// callback style. No engine needs a feature
/// for them, and the guests have to run within a tokio runtime with time enabled.
///
/// # Errors
/// If the linker already has one of the interfaces.
pub fn add_to_linker<T: TcpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut sockets = linker.instance("halfopen:tcp/sockets@0.1.0")?;
    sockets.func_wrap(
        "write",
        |mut store: StoreContextMut<'_, T>, (socket, data): (u32, WasmList<u8>)| {
            // The data is sent straight from the guest's memory. While the entry lies beside
            // the store, nothing of the guest runs.
            let Some((mut entry, room)) = table(&mut store).writes(socket) else {
                return Ok((Written::Ended,));
            };
            let (written, kept) = entry.write(data.as_le_slice(&store), room);
            table(&mut store).written(socket, entry, written, kept);
            Ok((Written::from(written),))
        },
    )?;
    act(&mut sockets, "end", Entry::end)?;
    act(&mut sockets, "destroy", Entry::destroy)?;
    act(&mut sockets, "reset", Entry::reset)?;
    act(&mut sockets, "pause", |entry| entry.pause(true))?;
    act(&mut sockets, "resume", |entry| entry.pause(false))?;
    sockets.func_wrap(
        "unsent",
        |mut store: StoreContextMut<'_, T>, (socket,): (u32,)| {
            let unsent = table(&mut store).look(socket, Entry::unsent);
            Ok((unsent.unwrap_or(0) as u64,))
        },
    )?;
    sockets.func_wrap(
        "allow-half-open",
        |mut store: StoreContextMut<'_, T>, (socket, allow): (u32, bool)| {
            table(&mut store).act(socket, |entry| entry.allow_half_open(allow));
            Ok(())
        },
    )?;
    sockets.func_wrap(
        "set-timeout",
        |mut store: StoreContextMut<'_, T>, (socket, milliseconds): (u32, u32)| {
            table(&mut store).set_timeout(socket, milliseconds);
            Ok(())
        },
    )?;
    address(&mut sockets, "local-address", Entry::local)?;
    address(&mut sockets, "remote-address", Entry::remote)?;
    further::add_to_linker(linker)?;
    crate::tcp::topics::add_to_linker(linker)?;
    topics::add_to_linker(linker)
}

type Instance<'l, T> = wasmtime::component::LinkerInstance<'l, T>;

fn table<'s, T: TcpView + 'static>(store: &'s mut StoreContextMut<'_, T>) -> &'s mut Sockets {
    store.data_mut().tcp().ctx.sockets()
}

/// Adds a function that does something with a socket, and returns nothing.
fn act<T: TcpView + 'static>(
    instance: &mut Instance<'_, T>,
    name: &str,
    act: impl Fn(&mut Entry) + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    instance.func_wrap(
        name,
        move |mut store: StoreContextMut<'_, T>, (socket,): (u32,)| {
            table(&mut store).act(socket, act);
            Ok(())
        },
    )
}

/// Adds a function that returns an address of a socket.
fn address<T: TcpView + 'static>(
    instance: &mut Instance<'_, T>,
    name: &str,
    address: impl Fn(&Entry) -> Option<SocketAddr> + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    instance.func_wrap(
        name,
        move |mut store: StoreContextMut<'_, T>, (socket,): (u32,)| {
            let found = table(&mut store).look(socket, address).flatten();
            let found = found.map(IpSocketAddress::from);
            Ok((found.ok_or(ErrorCode::InvalidState),))
        },
    )
}
