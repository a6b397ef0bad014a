//! The services of the one process that a soak tests.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::generate_simple_self_signed;

use crate::runner::guest_path;

/// The name in the server's certificate.
pub(crate) const NAME: &str = "soak.example";

/// A service: its name, its component, and its settings as lines of the configuration file.
#[derive(Debug)]
struct Service {
    name: &'static str,
    guest: &'static str,
    settings: &'static str,
    tls: bool,
}

/// Connections that a service for hostile guests or peers may have.
const HOSTILE_CONNECTIONS: usize = 150;

/// The limits of every service for hostile guests and peers.
const LIMITED: &str = "\
max-connections = 150
idle-timeout = 4
write-timeout = 3
half-open-timeout = 4
max-age = 10
max-compute = 1
max-memory = 16
tls-timeout = 3
proxy-timeout = 3
allow-connect = [\"127.0.0.1:*\"]
allow-listen = [\"127.0.0.1:0\"]
";

const fn good(name: &'static str, settings: &'static str, tls: bool) -> Service {
    Service {
        name,
        guest: "echo",
        settings,
        tls,
    }
}

const fn service(name: &'static str, guest: &'static str, settings: &'static str) -> Service {
    Service {
        name,
        guest,
        settings,
        tls: false,
    }
}

/// The services for well-behaved clients.
const GOOD: [Service; 4] = [
    good("good-own", "isolation = \"connection\"", false),
    good("good-shared", "isolation = \"shared\"", false),
    good("good-workers", "isolation = \"shared\"\nworkers = 2", false),
    good("good-tls", "isolation = \"connection\"", true),
];

/// The services for random scripts: without and with half-open connections.
const SCRIPTED: [Service; 2] = [
    service("script-own", "cases", "isolation = \"connection\""),
    service(
        "script-shared",
        "cases",
        "isolation = \"shared\"\nargs = [\"--allow-half-open\"]",
    ),
];

/// The services of hostile guests.
const HOSTILE: [Service; 2] = [
    service("hostile-own", "hostile", "isolation = \"connection\""),
    service("hostile-shared", "hostile", "isolation = \"shared\""),
];

/// The services of guests that take more than their connection needs.
const GREEDY: [Service; 2] = [
    service("greedy-own", "greedy", "isolation = \"connection\""),
    service("greedy-shared", "greedy", "isolation = \"shared\""),
];

/// The services of guests that never let go of a connection.
const KEEPING: [Service; 2] = [
    service("keeping-own", "keeper", "isolation = \"connection\""),
    service("keeping-shared", "keeper", "isolation = \"shared\""),
];

/// The services for hostile peers.
const ATTACKED: [Service; 4] = [
    service("attacked-own", "echo", "isolation = \"connection\""),
    service(
        "attacked-shared",
        "echo",
        "isolation = \"shared\"\nat-limit = \"refuse\"",
    ),
    Service {
        name: "attacked-tls",
        guest: "echo",
        settings: "isolation = \"shared\"",
        tls: true,
    },
    service(
        "attacked-proxy",
        "echo",
        "isolation = \"shared\"\nproxy-from = [\"127.0.4.0/24\"]",
    ),
];

/// Where each service listens.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) good: Vec<(&'static str, SocketAddr)>,
    /// Without and with half-open connections.
    pub(crate) scripted: Vec<SocketAddr>,
    pub(crate) hostile: Vec<SocketAddr>,
    pub(crate) greedy: Vec<SocketAddr>,
    pub(crate) keeping: Vec<SocketAddr>,
    pub(crate) attacked: Vec<SocketAddr>,
    pub(crate) attacked_tls: SocketAddr,
    pub(crate) attacked_proxy: SocketAddr,
}

/// The configuration of the server, in a folder of its own.
#[derive(Debug)]
pub(crate) struct Services {
    folder: tempfile::TempDir,
    services: Vec<(Service, bool)>,
    pub(crate) certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Services {
    /// Writes the configuration file, the certificate and its key.
    pub(crate) fn write() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let certified = generate_simple_self_signed([NAME.to_owned()])?;
        fs::write(folder.path().join("cert.pem"), certified.cert.pem())?;
        let key = certified.signing_key.serialize_pem();
        fs::write(folder.path().join("key.pem"), key)?;
        let mut services = Vec::new();
        services.extend(GOOD.map(|service| (service, false)));
        services.extend(SCRIPTED.map(|service| (service, false)));
        services.extend(HOSTILE.map(|service| (service, true)));
        services.extend(GREEDY.map(|service| (service, true)));
        services.extend(KEEPING.map(|service| (service, true)));
        services.extend(ATTACKED.map(|service| (service, true)));
        services.retain(|(service, _)| guest_path(service.guest).exists());
        let written = Services {
            folder,
            services,
            certificate: certified.cert.der().clone(),
        };
        fs::write(written.path(), written.text()?)?;
        Ok(written)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("soak.toml")
    }

    /// Returns the number of services, each of which listens on one address.
    pub(crate) fn count(&self) -> usize {
        self.services.len()
    }

    /// Returns how many connections the limits of the hostile services allow in all.
    pub(crate) fn hostile_connections(&self) -> usize {
        let limited = self.services.iter().filter(|(_, limited)| *limited);
        limited.count() * HOSTILE_CONNECTIONS
    }

    fn text(&self) -> Result<String> {
        let mut text = String::from("no-status = true\nadmin = \"0\"\n");
        for (service, limited) in &self.services {
            let component = guest_path(service.guest);
            writeln!(text, "\n[services.{}]", service.name)?;
            writeln!(text, "component = {}", quoted(&component))?;
            writeln!(text, "listen = [\"127.0.0.1:0\"]\n{}", service.settings)?;
            if service.guest == "echo" {
                writeln!(text, "args = [\"--quiet\"]")?;
            }
            if service.tls {
                writeln!(text, "tls-cert = [\"cert.pem\"]\ntls-key = [\"key.pem\"]")?;
            }
            if *limited {
                text.push_str(LIMITED);
            }
        }
        Ok(text)
    }

    /// Returns the name of the service that listens on each address.
    pub(crate) fn names(&self, printed: &[SocketAddr]) -> Vec<(u16, &'static str)> {
        let ports = printed.iter().map(SocketAddr::port);
        ports
            .zip(self.services.iter().map(|(service, _)| service.name))
            .collect()
    }

    /// Assigns the addresses that the server has printed to its services.
    pub(crate) fn addresses(&self, printed: &[SocketAddr]) -> Result<Addresses> {
        let named: Vec<_> = self
            .services
            .iter()
            .map(|(service, _)| service.name)
            .zip(printed.iter().copied())
            .collect();
        let of = |start: &str| -> Vec<_> {
            let those = named.iter().filter(|(name, _)| name.starts_with(start));
            those.copied().collect()
        };
        let addresses = |start| of(start).into_iter().map(|(_, address)| address).collect();
        let one = |name: &str| -> Result<SocketAddr> {
            let found = of(name).first().map(|(_, address)| *address);
            found.with_context(|| format!("no address for {name}"))
        };
        Ok(Addresses {
            good: of("good-"),
            scripted: addresses("script-"),
            hostile: addresses("hostile-"),
            greedy: addresses("greedy-"),
            keeping: addresses("keeping-"),
            attacked: vec![one("attacked-own")?, one("attacked-shared")?],
            attacked_tls: one("attacked-tls")?,
            attacked_proxy: one("attacked-proxy")?,
        })
    }
}

/// Writes a path as a literal string of TOML.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
