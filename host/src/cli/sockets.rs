//! Listening sockets: systemd's, those of the version before, and new ones.

use std::io::{self, Write};
use std::net::SocketAddr;

use anyhow::bail;
use tokio::net::TcpListener;

use super::address::{DEFAULT, Listen};
use super::config::Service;

/// A socket that was passed by systemd, and its name.
pub(super) type Inherited = (String, std::net::TcpListener);

/// A listening socket; servers get copies of it.
#[derive(Debug)]
pub(super) struct Socket {
    origin: Origin,
    socket: std::net::TcpListener,
}

/// The sockets of one service.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The service.
    name: String,
    sockets: Vec<Socket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Bound(Listen),
    Systemd,
}

impl Sockets {
    /// Those of each service: of those that were `before`, the ones that are still asked
    /// for; the `inherited` ones, which are given once; and new ones.
    pub(super) fn open(
        services: &[Service],
        before: &[&Sockets],
        mut inherited: Vec<Inherited>,
    ) -> anyhow::Result<Vec<Sockets>> {
        let known_name = |name: &String| services.iter().any(|service| service.name == *name);
        if services.len() > 1
            && let Some((name, _)) = inherited.iter().find(|(name, _)| !known_name(name))
        {
            bail!("systemd passed a socket `{name}`, and no service has that name");
        }
        let mut all = Vec::new();
        let mut known: Vec<&Socket> = before.iter().flat_map(|one| &one.sockets).collect();
        for service in services {
            let mut sockets = Vec::new();
            let (own, others): (Vec<_>, Vec<_>) = inherited
                .into_iter()
                .partition(|(name, _)| services.len() == 1 || *name == service.name);
            inherited = others;
            sockets.extend(own.into_iter().map(|(_, socket)| Socket {
                origin: Origin::Systemd,
                socket,
            }));
            let before = before.iter().filter(|one| one.name == service.name);
            for socket in before.flat_map(|one| &one.sockets) {
                if socket.origin == Origin::Systemd {
                    sockets.push(socket.try_clone()?);
                }
            }
            let listen = match &*service.args.listen {
                [] if sockets.is_empty() => &[DEFAULT],
                listen => listen,
            };
            for &listen in listen {
                let origin = Origin::Bound(listen);
                let open = known.iter().position(|socket| socket.origin == origin);
                sockets.push(match open {
                    Some(index) => known.swap_remove(index).try_clone()?,
                    None => Socket {
                        origin,
                        socket: listen.bind()?.into_std()?,
                    },
                });
            }
            all.push(Sockets {
                name: service.name.clone(),
                sockets,
            });
        }
        Ok(all)
    }

    /// Copies for a server.
    pub(super) fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        let copy = |socket: &Socket| TcpListener::from_std(socket.socket.try_clone()?);
        self.sockets.iter().map(copy).collect()
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let address = |socket: &Socket| socket.socket.local_addr();
        self.sockets.iter().map(address).collect()
    }
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Socket {
            origin: self.origin,
            socket: self.socket.try_clone()?,
        })
    }
}

/// Prints where services listen, before anything else is printed, and returns the first
/// address.
pub(super) fn print_addresses(all: &[Sockets]) -> anyhow::Result<Option<SocketAddr>> {
    let mut first = None;
    let mut lines = String::new();
    for sockets in all {
        for address in sockets.addresses()? {
            first.get_or_insert(address);
            lines += &format!("{address}\n");
        }
    }
    let mut stdout = io::stdout();
    // Nobody may be reading; that is no reason not to serve.
    let _ = stdout
        .write_all(lines.as_bytes())
        .and_then(|()| stdout.flush());
    Ok(first)
}
