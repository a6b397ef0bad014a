//! Connections that a guest makes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::address::check_remote;
use super::{Connection, Denied, ErrorCode, TcpCtx};

/// Begins to connect, on behalf of the guest of a store. The future goes on without the store,
/// within a tokio runtime; dropping it gives the connection up, and sends RST if there is one.
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
        let connecting = establish(address);
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

/// Connects. Given up meanwhile, a connection that the kernel has already established is reset:
/// its peer could take FIN for a complete request.
async fn establish(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let stream = socket.connect(address).await?;
    SockRef::from(&stream).set_linger(None)?;
    Ok(stream)
}

fn may_connect(ctx: &TcpCtx, address: SocketAddr) -> Result<(), ErrorCode> {
    if ctx.policy().may_connect(address) {
        return Ok(());
    }
    ctx.denied(&Denied::connect(address));
    Err(ErrorCode::AccessDenied)
}
