//! Addresses that only one listener can have, and other things that may be wrong on this machine.

use std::net::{IpAddr, UdpSocket};

use super::{Mistake, Plan};
use crate::args::listen::{DEFAULT, Listen};

/// One place where a plan names an address.
struct Use<'p> {
    address: Listen,
    /// What listens there, for people.
    what: String,
    line: usize,
    /// Whether the service has no address, and would get the default one.
    default: bool,
    service: &'p str,
}

impl Plan {
    /// Addresses that are named twice: the kernel would refuse the second.
    pub(super) fn conflicts(&self) -> Vec<Mistake> {
        let uses: Vec<_> = self.uses().collect();
        let twice = uses.iter().enumerate().filter_map(|(index, later)| {
            let overlaps = |earlier: &&Use<'_>| earlier.address.overlaps(later.address);
            let earlier = uses[..index].iter().find(overlaps)?;
            // Of services without an address, systemd may pass the sockets.
            (!earlier.default && !later.default).then(|| Mistake {
                line: later.line,
                message: format!(
                    "{} cannot listen on {}: {} listens on {}{}; choose another port",
                    later.what,
                    later.address,
                    earlier.what,
                    earlier.address,
                    self.at(earlier.line),
                ),
            })
        });
        twice.collect()
    }

    /// What would fail if the plan were served by this process.
    pub(crate) fn doubts(&self) -> Vec<Mistake> {
        let uses: Vec<_> = self.uses().collect();
        let mut doubts = Vec::new();
        for (index, later) in uses.iter().enumerate() {
            let overlaps = |earlier: &&Use<'_>| earlier.address.overlaps(later.address);
            if let Some(earlier) = uses[..index].iter().find(overlaps) {
                let without = if later.default { later } else { earlier };
                doubts.push(Mistake {
                    line: later.line,
                    message: format!(
                        "{} and {} would both listen on {}: `{}` has no `listen`, and gets this \
                         address unless systemd passes its socket",
                        earlier.what, later.what, later.address, without.service
                    ),
                });
            }
            if let Listen::At(address) = later.address
                && is_foreign(address.ip())
            {
                doubts.push(Mistake {
                    line: later.line,
                    message: format!(
                        "{} is not an address of this machine (`ip address` lists them)",
                        address.ip()
                    ),
                });
            }
        }
        doubts.extend(self.without_folder());
        doubts
    }

    /// The log file, if its folder is missing.
    fn without_folder(&self) -> Option<Mistake> {
        let path = self.process.log.log_file.as_ref()?;
        let folder = path.parent().filter(|folder| !folder.is_dir())?;
        Some(Mistake {
            line: self.lines.of("log-file", 0),
            message: format!(
                "the folder of the log file, {}, does not exist on this machine",
                folder.display()
            ),
        })
    }

    /// Names a line, in a plan that comes from a file.
    fn at(&self, line: usize) -> String {
        match self.lines.table {
            0 => String::new(),
            _ => format!(" (line {line})"),
        }
    }

    /// Every address, in the order of the file; the admin address last.
    fn uses(&self) -> impl Iterator<Item = Use<'_>> {
        let services = self.services.iter().flat_map(|service| {
            let given = &*service.args.listen;
            let default = given.is_empty();
            let addresses = if default { &[DEFAULT] } else { given };
            let places = addresses.iter().enumerate();
            places.map(move |(index, &address)| Use {
                address,
                what: format!("the service `{}`", service.name),
                line: service.lines.of("listen", index),
                default,
                service: &service.name,
            })
        });
        let admin = self.process.admin.map(|address| Use {
            address: Listen::At(address),
            what: "`admin`".to_owned(),
            line: self.lines.of("admin", 0),
            default: false,
            service: "",
        });
        services.chain(admin)
    }
}

/// Whether bind(2) says that an address belongs to another machine. A UDP socket asks it
/// without disturbing any listener.
fn is_foreign(address: IpAddr) -> bool {
    let bound = UdpSocket::bind((address, 0));
    bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
}
