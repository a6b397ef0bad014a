//! Names, in await style.

use std::net::{IpAddr, SocketAddr};

use crate::bindings::lookup::wasi::sockets::ip_name_lookup::{
    ErrorCode as LookupError, resolve_addresses,
};
use crate::bindings::lookup::wasi::sockets::types::IpAddress;
use crate::{Connection, Error, ErrorCode};

/// Looks up the addresses of a name, in the order in which they should be tried. In await style.
///
/// The host grants names one by one (`--allow-lookup NAME`, or `--allow-connect NAME:PORT` to
/// connect to what it finds as well).
///
/// # Errors
/// `access-denied` if the host does not grant the name; `invalid-argument` if it is no name;
/// `timeout`; `other`, with a text, if it has no address.
pub async fn lookup(name: &str) -> Result<Vec<IpAddr>, Error> {
    let found = resolve_addresses(name.to_owned()).await;
    let found = found.map_err(|error| match error {
        LookupError::AccessDenied => ErrorCode::AccessDenied,
        LookupError::InvalidArgument => ErrorCode::InvalidArgument,
        LookupError::TemporaryResolverFailure => ErrorCode::Timeout,
        LookupError::Other(Some(text)) => {
            ErrorCode::Other(Some(format!("cannot look up {name}: {text}")))
        }
        // Also what a host says that allows no lookup at all.
        LookupError::PermanentResolverFailure => ErrorCode::AccessDenied,
        LookupError::NameUnresolvable | LookupError::Other(None) => {
            ErrorCode::Other(Some(format!("cannot look up {name}")))
        }
    })?;
    let address = |address: IpAddress| match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    };
    Ok(found.into_iter().map(address).collect())
}

impl Connection {
    /// Looks up a name, and connects to a port of it: to one of its addresses after the other,
    /// until one accepts.
    ///
    /// The host grants this by `--allow-connect NAME:PORT`. It does not grant private addresses
    /// that a name has, unless a rule names them.
    ///
    /// # Errors
    /// Those of [`lookup`]; and of [`Connection::connect`], about the last address.
    pub async fn connect_to_name(name: &str, port: u16) -> Result<Self, Error> {
        let mut last = Error::from(ErrorCode::RemoteUnreachable);
        for address in lookup(name).await? {
            match Connection::connect(SocketAddr::new(address, port)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
