//! Connections that a guest makes.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::check_remote;
use super::{Connection, Denied, ErrorCode, TcpCtx};

/// Begins to connect, on behalf of the guest of a store. The future goes on without the store,
/// within a tokio runtime; dropping it gives the connection up.
///
/// # Errors
/// At once, if the address is not valid or not granted, or the guest has as many sockets as it
/// may. The future returns what the operating system reports, and `timeout` when connecting
/// takes longer than the store allows.
pub(super) fn connect(
    ctx: &TcpCtx,
    address: SocketAddr,
) -> Result<impl Future<Output = Result<Connection, ErrorCode>> + Send + use<>, ErrorCode> {
    check_remote(address)?;
    may_connect(ctx, address)?;
    let place = ctx.quota().try_take()?;
    let limit = ctx.connect_timeout();
    let opener = ctx.opener().clone();
    Ok(async move {
        let connecting = TcpStream::connect(address);
        let connected = match limit {
            Some(limit) => timeout(limit, connecting)
                .await
                .unwrap_or_else(|_| Err(Errno::TIMEDOUT.into())),
            None => connecting.await,
        };
        match connected {
            Ok(stream) => Ok(opener.open_own(stream, address, place)?),
            // connect(2) reports EADDRNOTAVAIL when all ephemeral ports are in use.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                Err(ErrorCode::AddressInUse)
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn may_connect(ctx: &TcpCtx, address: SocketAddr) -> Result<(), ErrorCode> {
    if ctx.policy().may_connect(address) {
        return Ok(());
    }
    ctx.denied(&Denied::connect(address));
    Err(ErrorCode::AccessDenied)
}
