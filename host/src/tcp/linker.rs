//! Adds the primitives to a linker, in await style.

use wasmtime::component::Linker;

use super::bindings::halfopen::tcp::{
    connections, listeners, options, outbound, peer, secure, types,
};
use super::{Tcp, TcpView, topics};

/// Adds the interfaces `types`, `connections`, `options`, `peer`, `secure`, `listeners`, `outbound`,
/// `topics` and `topic-streams` of `halfopen:tcp@0.1.0` to a linker.
///
/// The engine's configuration needs `wasm_component_model_async`, and the guests have to
/// run within a tokio runtime.
///
/// # Example
///
/// Accepts a connection and has a service handle it, with WASI in the same linker. A
/// [`Server`](crate::Server) does this and more; an embedder with instances of its own does it
/// by hand:
///
/// ```
/// use std::future::poll_fn;
///
/// use halfopen::tcp::bindings::HostWorld;
/// use halfopen::tcp::{TcpCtx, TcpCtxView, TcpView, add_to_linker};
/// use tokio::net::TcpListener;
/// use wasmtime::component::{Component, Linker, ResourceTable};
/// use wasmtime::{Config, Engine, Store};
/// use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
///
/// struct State {
///     tcp: TcpCtx,
///     wasi: WasiCtx,
///     table: ResourceTable,
/// }
///
/// impl TcpView for State {
///     fn tcp(&mut self) -> TcpCtxView<'_> {
///         TcpCtxView { ctx: &mut self.tcp, table: &mut self.table }
///     }
/// }
///
/// impl WasiView for State {
///     fn ctx(&mut self) -> WasiCtxView<'_> {
///         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> wasmtime::Result<()> {
///     let mut config = Config::new();
///     config.wasm_component_model_async(true);
///     let engine = Engine::new(&config)?;
///     let mut linker = Linker::<State>::new(&engine);
///     add_to_linker(&mut linker)?;
///     // The SDK uses WASI 0.3; the standard library of `wasm32-wasip2` uses WASI 0.2.
///     wasmtime_wasi::p3::add_to_linker(&mut linker)?;
///     wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
///     let service = Component::from_file(&engine, "dist/pass.wasm")?;
///
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
/// #   let address = listener.local_addr()?;
/// #   let peer = std::thread::spawn(move || {
/// #       use std::io::{Read, Write};
/// #       let mut peer = std::net::TcpStream::connect(address).unwrap();
/// #       peer.write_all(b"hi").unwrap();
/// #       peer.shutdown(std::net::Shutdown::Write).unwrap();
/// #       let mut answer = String::new();
/// #       peer.read_to_string(&mut answer).unwrap();
/// #       answer
/// #   });
///     let (stream, _) = listener.accept().await?;
///
///     let state = State {
///         tcp: TcpCtx::default(),
///         wasi: WasiCtx::builder().inherit_stdout().build(),
///         table: ResourceTable::new(),
///     };
///     let mut store = Store::new(&engine, state);
///     let instance = HostWorld::instantiate_async(&mut store, &service, &linker).await?;
///     let connection = store.data().tcp.connection(stream);
///     let connection = store.data_mut().table.push(connection)?;
///     let served = store
///         .run_concurrent(async |accessor| {
///             let handler = instance.halfopen_tcp_handler();
///             let served = handler.call_handle(accessor, connection).await?;
///             // The service may go on after it has returned.
///             poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
///             wasmtime::error::Ok(served)
///         })
///         .await
///         .and_then(|served| served);
///     if !matches!(served, Ok(Ok(()))) {
///         // The service trapped, or returned an error: RST, where dropping the store is FIN.
///         store.data().tcp.abort_all();
///     }
/// #   served?.unwrap();
/// #   assert_eq!(peer.join().unwrap(), "hi");
///     Ok(())
/// }
/// ```
///
/// # Errors
/// If the linker already has one of the interfaces.
pub fn add_to_linker<T: TcpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    connections::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    options::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    peer::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    secure::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    listeners::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    outbound::add_to_linker::<_, Tcp>(linker, T::tcp)?;
    topics::add_to_linker(linker)?;
    topics::add_streams_to_linker(linker)?;
    Ok(())
}
