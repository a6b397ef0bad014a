//! Everything that this host provides.

use halfopen_compose::Style;
use wasmtime::component::Linker;
use wasmtime::{Engine, StoreContextMut};

use super::blocking::watch;
use super::store::State;
use super::{files, lookups, wasi_sockets};
use crate::{state, tcp};

/// Makes a linker with everything that this host provides to components of a style: the
/// primitives, WASI 0.2, state and, where functions may wait, WASI 0.3.
pub(super) fn linker(engine: &Engine, style: Style) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    match style {
        Style::Callback => tcp::callbacks::add_to_linker(&mut linker)?,
        Style::Await => {
            tcp::add_to_linker(&mut linker)?;
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
            wasi_sockets::limit(&mut linker)?;
            lookups::limit(&mut linker)?;
            files::watch(&mut linker)?;
        }
    }
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    state::add_to_linker(&mut linker)?;
    environment(&mut linker)?;
    watch(&mut linker)?;
    wasi_sockets::limit_p2(&mut linker)?;
    lookups::limit_p2(&mut linker)?;
    files::watch_p2(&mut linker)?;
    Ok(linker)
}

/// The interface, in the version that wasmtime provides. A linker finds it for every component
/// that imports 0.2.
const ENVIRONMENT: &str = "wasi:cli/environment@0.2.12";

/// Replaces the environment of WASI 0.2 by one that needs no context of WASI. Where each
/// connection has an instance, a service that uses nothing else of WASI takes less time and
/// memory.
fn environment(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Store<'s> = StoreContextMut<'s, State>;
    linker.allow_shadowing(true);
    let mut interface = linker.instance(ENVIRONMENT)?;
    interface.func_wrap("get-environment", |store: Store<'_>, ()| {
        Ok((store.data().granted().env.clone(),))
    })?;
    interface.func_wrap("get-arguments", |store: Store<'_>, ()| {
        Ok((store.data().granted().args.clone(),))
    })?;
    interface.func_wrap("initial-cwd", |_: Store<'_>, ()| Ok((None::<String>,)))?;
    linker.allow_shadowing(false);
    Ok(())
}
