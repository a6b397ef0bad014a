//! Everything that this host provides.

use wasmtime::Engine;
use wasmtime::component::Linker;

use super::blocking::watch;
use super::store::State;
use super::wasi_sockets::limit;
use crate::tcp;

/// Makes a linker with everything that this host provides: the primitives, and WASI 0.3
/// and 0.2.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    tcp::add_to_linker(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    watch(&mut linker)?;
    limit(&mut linker)?;
    Ok(linker)
}
