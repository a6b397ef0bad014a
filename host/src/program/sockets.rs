//! The TCP sockets of a program that uses `wasi:sockets`.
//!
//! `wasmtime-wasi` keeps their descriptors to itself. Where all TCP sockets of the process are
//! the program's, they can be found among the descriptors of the process (proc_pid_fd(5)).
//! Where there is no `/proc`, none are found, and the program ends without a grace time.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getpeername};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::time::sleep;

/// The descriptors of this process, as links that name the inodes of sockets.
const DESCRIPTORS: &str = "/proc/self/fd";

/// How often to look whether connections are left.
const POLL: Duration = Duration::from_millis(20);

/// The TCP sockets that this process has opened since the value was made.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The sockets of before, and [`Deaf`].
    others: HashSet<PathBuf>,
    deaf: Option<Deaf>,
}

impl Sockets {
    pub(super) fn since_now() -> Self {
        Sockets {
            others: descriptors().map(|(_, link)| link).collect(),
            deaf: None,
        }
    }

    /// Closes the listeners. To the program it looks as if no peer connects.
    ///
    /// # Errors
    /// If no socket can be made to take their places.
    pub(super) fn stop_accepting(&mut self) -> io::Result<()> {
        let listening: Vec<_> = self.tcp().filter(|&(_, listens)| listens).collect();
        for (descriptor, _) in listening {
            let deaf = match &self.deaf {
                Some(deaf) => deaf,
                None => {
                    let deaf = Deaf::new()?;
                    self.others.insert(deaf.link()?);
                    self.deaf.insert(deaf)
                }
            };
            deaf.replace(descriptor)?;
        }
        Ok(())
    }

    /// Waits until no socket is connected. Listeners that the program opens meanwhile are
    /// closed.
    pub(super) async fn finished(&mut self) {
        while self.connected().next().is_some() {
            sleep(POLL).await;
            // It succeeded before, or was reported.
            let _ = self.stop_accepting();
        }
    }

    /// Discards what is not sent on any connection, and sends RST.
    pub(super) fn reset_all(&self) {
        for descriptor in self.connected() {
            let socket = borrow(descriptor);
            // See `tcp::Socket::abort`.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            let _ = rustix::net::connect_unspec(socket);
        }
    }

    /// The sockets that have a peer.
    fn connected(&self) -> impl Iterator<Item = RawFd> {
        self.tcp()
            .filter(|&(descriptor, listens)| !listens && getpeername(borrow(descriptor)).is_ok())
            .map(|(descriptor, _)| descriptor)
    }

    /// The program's TCP sockets, and whether each listens.
    fn tcp(&self) -> impl Iterator<Item = (RawFd, bool)> {
        descriptors()
            .filter(|(_, link)| !self.others.contains(link))
            .filter_map(|(descriptor, _)| {
                let socket = borrow(descriptor);
                let stream = socket_type(socket).ok()? == SocketType::STREAM;
                let family = socket_domain(socket).ok()?;
                let internet = [AddressFamily::INET, AddressFamily::INET6].contains(&family);
                let listens = socket_acceptconn(socket).ok()?;
                (stream && internet).then_some((descriptor, listens))
            })
    }
}

/// All sockets of this process: descriptors, and the links that name their inodes.
fn descriptors() -> impl Iterator<Item = (RawFd, PathBuf)> {
    let entries = fs::read_dir(DESCRIPTORS).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        let is_socket = link.to_str()?.starts_with("socket:");
        let descriptor = entry.file_name().to_str()?.parse().ok()?;
        is_socket.then_some((descriptor, link))
    })
}

#[allow(unsafe_code, reason = "the owner of the descriptor does not lend it")]
fn borrow<'a>(descriptor: RawFd) -> BorrowedFd<'a> {
    // SAFETY: another thread may close the descriptor meanwhile. A system call then fails, or
    // acts on a socket that got the same number: one more of the program, to which the same is
    // done anyway.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

/// A listener that no packet reaches. Put in the place of another listener, it closes that,
/// and whoever accepts on it waits for ever.
#[derive(Debug)]
struct Deaf(Socket);

impl Deaf {
    fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // BPF_RET | BPF_K: keep 0 bytes of every packet.
        #[cfg(target_os = "linux")]
        socket.attach_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)])?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(1)?;
        socket.set_nonblocking(true)?;
        Ok(Deaf(socket))
    }

    fn link(&self) -> io::Result<PathBuf> {
        fs::read_link(format!("{DESCRIPTORS}/{}", self.0.as_raw_fd()))
    }

    /// Makes `listener` another descriptor of this socket.
    #[allow(unsafe_code, reason = "the owner of the descriptor does not lend it")]
    fn replace(&self, listener: RawFd) -> io::Result<()> {
        // SAFETY: the descriptor stays open and stays its owner's: only what it refers to
        // changes. Only the program closes its listeners, and it does not run meanwhile.
        let mut listener = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(listener) });
        Ok(rustix::io::dup2(self.0.as_fd(), &mut listener)?)
    }
}
