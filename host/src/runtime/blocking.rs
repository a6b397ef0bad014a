//! The calls of WASI 0.2 in which a guest blocks its thread: `poll` and `block` of
//! `wasi:io/poll`, behind `thread::sleep` and `std::net` of Rust.
//!
//! The thread is the guest's, and the only one of its instance. The host goes on, and so do
//! other instances.

use std::pin::pin;

use tokio::time::sleep;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::poll::{Host, HostPollable};

use super::calls::HELD;
use super::store::{State, current_peer};

/// The interface, in the version that wasmtime provides. A linker finds it for every component
/// that imports 0.2.
const POLL: &str = "wasi:io/poll@0.2.12";

/// Replaces the two calls by ones that say in the log when they take long.
pub(super) fn watch(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut interface = linker.instance(POLL)?;
    interface.func_wrap_async(
        "poll",
        |mut store: StoreContextMut<'_, State>, (all,): (Vec<Resource<DynPollable>>,)| {
            Box::new(async move {
                let held = Held::new(&mut store);
                let ready = held.watch(Host::poll(&mut store.data_mut().table, all));
                Ok((ready.await?,))
            })
        },
    )?;
    interface.func_wrap_async(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, State>, (one,): (Resource<DynPollable>,)| {
            Box::new(async move {
                let held = Held::new(&mut store);
                let table = &mut store.data_mut().table;
                held.watch(HostPollable::block(table, one)).await
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What the log says when a call takes long.
struct Held(Option<Box<dyn FnOnce() + Send>>);

impl Held {
    fn new(store: &mut StoreContextMut<'_, State>) -> Self {
        let granted = store.data().granted().clone();
        if !granted.is_shared() {
            return Held(None);
        }
        let peer = current_peer(store);
        Held(Some(Box::new(move || {
            granted.log_held("blocked its thread", peer)
        })))
    }

    async fn watch<F: Future>(self, call: F) -> F::Output {
        let mut call = pin!(call);
        if let Some(log) = self.0 {
            tokio::select! {
                biased;
                done = &mut call => return done,
                () = sleep(HELD) => log(),
            }
        }
        call.await
    }
}
