//! Listening sockets, on `wasi:sockets` itself.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use wit_bindgen::StreamReader;

use crate::bindings::wasi::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
};

/// The backlog: Node's.
const BACKLOG: u64 = 511;

/// A socket that listens. Both of its parts have to go before it is closed.
pub(crate) struct Listener {
    accepted: StreamReader<TcpSocket>,
    socket: TcpSocket,
}

impl Listener {
    /// Binds and listens; an error is told with what to do about it.
    pub(crate) fn listen(address: SocketAddr) -> Result<Self, String> {
        listen(address).map_err(|error| format!("cannot listen on {address}: {}", explain(&error)))
    }

    /// The address it listens on, with the port that was chosen.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let address = self.socket.get_local_address();
        address.map(from_wasi).map_err(|error| explain(&error))
    }

    /// The next connection; none if the listener has failed.
    pub(crate) async fn next(&mut self) -> Option<TcpSocket> {
        self.accepted.next().await
    }
}

fn listen(address: SocketAddr) -> Result<Listener, ErrorCode> {
    let family = match address {
        SocketAddr::V4(_) => IpAddressFamily::Ipv4,
        SocketAddr::V6(_) => IpAddressFamily::Ipv6,
    };
    let socket = TcpSocket::create(family)?;
    socket.set_listen_backlog_size(BACKLOG)?;
    socket.bind(to_wasi(address))?;
    let accepted = socket.listen()?;
    Ok(Listener { accepted, socket })
}

fn explain(error: &ErrorCode) -> String {
    match error {
        ErrorCode::AddressInUse => {
            "address already in use; stop the other program, or choose another port (0 for any free one)"
        }
        ErrorCode::AccessDenied => {
            "access denied; let the host grant this address (`wasmtime run -S inherit-network`, `halfopen run --allow-listen ADDR`), and below port 1024 the system has to allow it too"
        }
        ErrorCode::AddressNotBindable => {
            "address not available; choose one of this machine (`ip address` lists them)"
        }
        ErrorCode::InvalidArgument => "not an address that can be listened on",
        other => return format!("{other:?}"),
    }
    .to_owned()
}

/// WASI's form of an address, in Rust's.
pub(crate) fn from_wasi(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(v4) => {
            let (a, b, c, d) = v4.address;
            SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), v4.port).into()
        }
        IpSocketAddress::Ipv6(v6) => {
            let (a, b, c, d, e, f, g, h) = v6.address;
            let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
            SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
        }
    }
}

fn to_wasi(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(v4) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: v4.port(),
            address: v4.ip().octets().into(),
        }),
        SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: v6.port(),
            flow_info: v6.flowinfo(),
            address: v6.ip().segments().into(),
            scope_id: v6.scope_id(),
        }),
    }
}
