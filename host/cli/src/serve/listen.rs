//! Binds listening sockets, and says what to do if that fails.

use std::io;

use anyhow::anyhow;
use rustix::io::Errno;
use tokio::net::TcpListener;

use crate::args::listen::Listen;

/// Binds an address and listens on it.
pub(crate) fn bind(listen: Listen) -> anyhow::Result<TcpListener> {
    let bound = match listen {
        Listen::At(address) => halfopen::tcp::bind(address, None),
        Listen::DualStack(port) => halfopen::tcp::bind_dual_stack(port, None),
    };
    bound.map_err(|error| anyhow!("cannot listen on {listen}: {}", reason(&error)))
}

fn reason(error: &io::Error) -> String {
    let reason = match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => {
            "address already in use; stop the other program, or choose another port (0 for any free one)"
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            "permission denied; choose a port from 1024, or grant the capability CAP_NET_BIND_SERVICE"
        }
        Some(Errno::ADDRNOTAVAIL) => {
            "address not available; choose an address of this machine (`ip address` lists them)"
        }
        _ => return error.to_string(),
    };
    reason.to_owned()
}
