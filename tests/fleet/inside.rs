//! The fleet, in the namespaces that [`crate::outside`] has made.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::patience::{eventually, set_patience};
use halfopen_tests::runner::Binaries;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::Security;
use crate::clients::Clients;
use crate::events::Play;
use crate::link::Tls;
use crate::nodes::{self, Node};
use crate::stack::{Deployed, Fleet, NAME, authority, component};
use crate::{cost, images};

/// The long connections, and the short ones a second.
const LONG: u32 = 300;
const SHORT: u32 = 200;

/// Plays all events.
pub(crate) fn run(folder: &Path, security: Security) -> Result<()> {
    let start = Instant::now();
    // An update replaces one replica after the other, and each drains.
    set_patience(Duration::from_secs(400));
    nodes::bridge()?;
    let nodes = (1..=3)
        .map(|number| Node::start(folder, number))
        .collect::<Result<Vec<_>>>()?;
    let binary = match env::var_os("HALFOPEN_FLEET_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => Binaries::find(env!("CARGO_BIN_EXE_wasmtime")).halfopen,
    };
    let versions = images::load(&nodes, &binary, folder)?;
    let fleet = Fleet {
        nodes,
        dead: Vec::new(),
        authority: (security == Security::Tls).then(authority).transpose()?,
    };
    fleet.join()?;
    fleet.deploy(&Deployed {
        version: &versions[0],
        component: component("echo"),
        number: 1,
    })?;
    println!("a fleet of 3 nodes in {} s", start.elapsed().as_secs());
    let address: SocketAddr = format!("{}:1234", fleet.first().address).parse()?;
    let tls = fleet.authority.as_ref().map(|authority| -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.path("ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok((Arc::new(config), ServerName::try_from(NAME)?))
    });
    let mut clients = Clients::new(address, tls.transpose()?);
    clients.long(LONG);
    eventually("all long connections are open", || {
        // Between two of its connections a client has none.
        Ok(clients.open() > LONG as usize * 9 / 10)
    })?;
    cost::measure(&fleet, &mut clients, SHORT)?;
    let mut play = Play {
        fleet,
        clients,
        versions: &versions,
        security,
        usual: Duration::ZERO,
        failures: Vec::new(),
    };
    let played = play.run();
    let Play {
        clients,
        failures,
        fleet,
        ..
    } = play;
    clients.stop();
    drop(fleet);
    println!("{security:?}: {} s in all", start.elapsed().as_secs());
    played?;
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
