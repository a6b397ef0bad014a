//! System calls on a connected socket that tokio has no methods for.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::tcp::ErrorCode;

/// Queues FIN behind everything written.
///
/// # Errors
/// The pending error of the socket, or the error of shutdown(2).
pub(super) fn shut_down(stream: &TcpStream) -> Result<(), ErrorCode> {
    let Err(error) = SockRef::from(stream).shutdown(Shutdown::Write) else {
        return Ok(());
    };
    // After a reset, shutdown(2) fails with ENOTCONN; SO_ERROR still holds the reset itself.
    Err(match stream.take_error() {
        Ok(Some(pending)) => pending.into(),
        _ if error.kind() == io::ErrorKind::NotConnected => ErrorCode::ConnectionReset,
        _ => error.into(),
    })
}

/// Discards what is not sent, and sends RST at once.
pub(super) fn reset(stream: &TcpStream) {
    // Where the kernel cannot disconnect, close(2) sends RST because of this option.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    // Connecting to AF_UNSPEC dissolves the association, and Linux sends RST at once
    // (tcp_disconnect), whether or not more data is queued.
    let _ = rustix::net::connect_unspec(stream);
}

/// How many bytes the kernel has accepted that the peer's kernel has not acknowledged
/// (SIOCOUTQ, tcp(7)). A FIN counts as one byte.
///
/// `None` on other systems than Linux, and on the architectures whose ioctl numbers differ
/// from those in asm-generic/ioctls.h.
pub(super) fn outstanding(stream: &TcpStream) -> Option<u64> {
    #[cfg(all(
        target_os = "linux",
        not(any(
            target_arch = "mips",
            target_arch = "mips32r6",
            target_arch = "mips64",
            target_arch = "mips64r6",
            target_arch = "powerpc",
            target_arch = "powerpc64",
            target_arch = "sparc",
            target_arch = "sparc64"
        ))
    ))]
    {
        use rustix::ioctl::{Getter, ioctl};

        // SAFETY: the request writes one `int` to the address that it is given, and `Getter`
        // gives it the address of one.
        #[allow(unsafe_code, reason = "rustix has no function for this request")]
        let length = unsafe { ioctl(stream, Getter::<0x5411, std::ffi::c_int>::new()) };
        if let Ok(length) = length {
            return length.try_into().ok();
        }
    }
    let _ = stream;
    None
}
