//! Everything that this host provides.

use halfopen_compose::Style;
use wasmtime::Engine;
use wasmtime::component::Linker;

use super::blocking::watch;
use super::store::State;
use super::wasi_sockets::{limit, limit_p2};
use crate::tcp;

/// Makes a linker with everything that this host provides to components of a style: the
/// primitives, WASI 0.2 and, where functions may wait, WASI 0.3.
pub(super) fn linker(engine: &Engine, style: Style) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    match style {
        Style::Callback => tcp::callbacks::add_to_linker(&mut linker)?,
        Style::Await => {
            tcp::add_to_linker(&mut linker)?;
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
            limit(&mut linker)?;
        }
    }
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    watch(&mut linker)?;
    limit_p2(&mut linker)?;
    Ok(linker)
}
