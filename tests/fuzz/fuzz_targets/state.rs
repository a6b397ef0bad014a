//! What a guest of the fuzz targets has: WASI, and the TCP primitives.

use halfopen::tcp::{TcpCtx, TcpCtxView, TcpView};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(crate) struct State {
    pub(crate) wasi: WasiCtx,
    pub(crate) tcp: TcpCtx,
    pub(crate) table: ResourceTable,
}

impl TcpView for State {
    fn tcp(&mut self) -> TcpCtxView<'_> {
        TcpCtxView {
            ctx: &mut self.tcp,
            table: &mut self.table,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
