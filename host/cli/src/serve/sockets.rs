//! Listening sockets: from systemd, kept from the previous version, or newly bound.

use std::io;
use std::net::SocketAddr;

use anyhow::bail;
use tokio::net::TcpListener;

use crate::args::listen::{DEFAULT, Listen};
use crate::config::Service;
use crate::serve::listen::bind;
use crate::serve::upgrade::{Handed, Offer};

/// A socket from systemd, and its name.
pub(crate) type Inherited = (String, std::net::TcpListener);

/// A listening socket. Each server gets a duplicate of its descriptor, so that the socket
/// stays open, and keeps its backlog, when one server replaces another.
#[derive(Debug)]
struct Socket {
    origin: Origin,
    socket: std::net::TcpListener,
}

/// The sockets of one service.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The name of the service.
    name: String,
    sockets: Vec<Socket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Bound(Listen),
    Systemd,
}

impl Sockets {
    /// Opens the sockets of each service. A socket of `previous` stays open if a service
    /// still listens on its address. The `inherited` sockets, which systemd passes once,
    /// go to the services of their names, and stay theirs. All others are bound.
    ///
    /// # Errors
    /// If an address cannot be bound, or an inherited socket belongs to no service.
    pub(crate) fn open(
        services: &[Service],
        previous: &[&Sockets],
        mut inherited: Vec<Inherited>,
    ) -> anyhow::Result<Vec<Sockets>> {
        let has_service = |name: &String| services.iter().any(|service| service.name == *name);
        if services.len() > 1
            && let Some((name, _)) = inherited.iter().find(|(name, _)| !has_service(name))
        {
            bail!("systemd passed a socket `{name}`, but no service has that name");
        }
        let mut all = Vec::new();
        let mut reusable: Vec<&Socket> = previous.iter().flat_map(|one| &one.sockets).collect();
        for service in services {
            let mut sockets = Vec::new();
            // A single service gets every inherited socket, whatever its name.
            let (own, others): (Vec<_>, Vec<_>) = inherited
                .into_iter()
                .partition(|(name, _)| services.len() == 1 || *name == service.name);
            inherited = others;
            sockets.extend(own.into_iter().map(|(_, socket)| Socket {
                origin: Origin::Systemd,
                socket,
            }));
            let previous = previous.iter().filter(|one| one.name == service.name);
            for socket in previous.flat_map(|one| &one.sockets) {
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
                // By what was asked for, and otherwise by what it came to: a socket on any free
                // port goes on if the configuration now names that port.
                let open = reusable.iter().position(|socket| socket.origin == origin);
                let open = open.or_else(|| reusable.iter().position(|one| one.is_at(listen)));
                sockets.push(match open {
                    Some(index) => reusable.swap_remove(index).try_clone()?,
                    None => Socket {
                        origin,
                        socket: bind(listen)?.into_std()?,
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

    /// The sockets that the process before hands over, by service.
    pub(crate) fn handed(listeners: Vec<Handed>) -> Vec<Sockets> {
        let mut all: Vec<Sockets> = Vec::new();
        for Handed {
            service,
            listen,
            socket,
        } in listeners
        {
            let origin = listen.map_or(Origin::Systemd, Origin::Bound);
            let socket = Socket { origin, socket };
            match all.iter_mut().find(|sockets| sockets.name == service) {
                Some(sockets) => sockets.sockets.push(socket),
                None => all.push(Sockets {
                    name: service,
                    sockets: vec![socket],
                }),
            }
        }
        all
    }

    /// The name of the service.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Adds the sockets to what a successor gets.
    pub(crate) fn offer(&self, offer: &mut Offer) -> anyhow::Result<()> {
        for Socket { origin, socket } in &self.sockets {
            let listen = match origin {
                Origin::Bound(listen) => Some(*listen),
                Origin::Systemd => None,
            };
            offer.listener(&self.name, listen, socket)?;
        }
        Ok(())
    }

    /// Duplicates the sockets for a server.
    pub(crate) fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        let duplicate = |socket: &Socket| TcpListener::from_std(socket.socket.try_clone()?);
        self.sockets.iter().map(duplicate).collect()
    }

    /// Returns the address of each socket.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
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

impl Socket {
    /// Whether the socket listens on exactly this address.
    fn is_at(&self, listen: Listen) -> bool {
        self.origin != Origin::Systemd
            && matches!(listen, Listen::At(address) if address.port() != 0
                && self.socket.local_addr().is_ok_and(|bound| bound == address))
    }
}

/// Returns the addresses of all sockets.
pub(crate) fn addresses_of(all: &[Sockets]) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for sockets in all {
        addresses.extend(sockets.addresses()?);
    }
    Ok(addresses)
}
