//! Connections that a guest makes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::address::check_remote;
use super::name_rule::Named;
use super::{Connection, Denied, ErrorCode, LookupError, TcpCtx};

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
        let stream = in_time(limit, establish(address)).await?;
        Ok(opener.open_own(stream, address, place)?)
    })
}

/// Begins to look up a name and to connect to a port of it, on behalf of the guest of a store,
/// as [`connect`] does with an address.
///
/// # Errors
/// At once, as [`connect`]. The future returns why the name could not be looked up, or what the
/// operating system reports about the last of its addresses.
pub(super) fn connect_to_name(
    ctx: &mut TcpCtx,
    name: &str,
    port: u16,
) -> Result<impl Future<Output = Result<Connection, ErrorCode>> + Send + use<>, ErrorCode> {
    let named = Named::parse(name).filter(|_| port != 0);
    match named.ok_or(ErrorCode::InvalidArgument)? {
        Named::Address(address) => {
            let address = SocketAddr::new(address, port);
            check_remote(address)?;
            may_connect(ctx, address)?;
        }
        Named::Name(name) => {
            // Whoever may only look the name up needs a rule for its address.
            let policy = ctx.policy();
            if !policy.may_connect_to_name(&name, port) && !policy.may_lookup(&name) {
                ctx.denied(&Denied::ConnectName { name, port });
                return Err(ErrorCode::AccessDenied);
            }
        }
    }
    let place = ctx.quota().try_take()?;
    let names = ctx.names().clone();
    let looking = names.lookup(name).map_err(|_| ErrorCode::AccessDenied)?;
    let limit = ctx.connect_timeout();
    let opener = ctx.opener().clone();
    let report = ctx.report();
    let name = name.to_owned();
    Ok(async move {
        let connecting = async {
            let found = looking.await.map_err(|error| match error {
                LookupError::Timeout => ErrorCode::Timeout,
                error => ErrorCode::Other(Some(format!("cannot look up {name}: {error}"))),
            })?;
            let found = found.into_iter().map(|ip| SocketAddr::new(ip, port));
            let (allowed, denied): (Vec<_>, Vec<_>) =
                found.partition(|address| names.may_connect(*address));
            if allowed.is_empty() {
                denied
                    .iter()
                    .for_each(|address| report(&Denied::connect(*address)));
                return Err(ErrorCode::AccessDenied);
            }
            first_of(allowed).await
        };
        let (stream, address) = in_time(limit, connecting).await?;
        Ok(opener.open_own(stream, address, place)?)
    })
}

/// How long an address of a name may take before the next one is tried as well (RFC 8305,
/// section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to one of several addresses: begins with the first, and with the next when that
/// fails or takes long. The first connection counts, and the others are given up.
async fn first_of(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), ErrorCode> {
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = ErrorCode::RemoteUnreachable;
    loop {
        match addresses.next() {
            Some(address) => attempts.push(async move { (establish(address).await, address) }),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let more = addresses.len() > 0;
        tokio::select! {
            Some((established, address)) = attempts.next() => match established {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => last = error,
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

/// Limits the time of connecting.
async fn in_time<T>(
    limit: Option<Duration>,
    connecting: impl Future<Output = Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    match limit {
        Some(limit) => timeout(limit, connecting)
            .await
            .unwrap_or(Err(ErrorCode::Timeout)),
        None => connecting.await,
    }
}

/// Connects. Given up meanwhile, a connection that the kernel has already established is reset:
/// its peer could take FIN for a complete request.
async fn establish(address: SocketAddr) -> Result<TcpStream, ErrorCode> {
    match reset_if_given_up(address).await {
        // connect(2) reports EADDRNOTAVAIL when all ephemeral ports are in use.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            Err(ErrorCode::AddressInUse)
        }
        connected => Ok(connected?),
    }
}

async fn reset_if_given_up(address: SocketAddr) -> io::Result<TcpStream> {
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
    if ctx.may_connect(address) {
        return Ok(());
    }
    ctx.denied(&Denied::connect(address));
    Err(ErrorCode::AccessDenied)
}
