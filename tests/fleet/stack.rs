//! The stack of `host/packaging/swarm` on the fleet, and what its nodes say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::root;
use halfopen_tests::tls::Authority;

use crate::balancer::{self, Backend};
use crate::images::{HAPROXY, Version};
use crate::nodes::{Node, done};

/// The replicas of the stack.
pub(crate) const REPLICAS: usize = 3;

/// The stack's name, and those of its services.
const STACK: &str = "fleet";
const SERVICE: &str = "fleet_halfopen";
const BALANCER: &str = "fleet_balancer";

/// After how many retransmissions a server has gone: after 6 s, which is less than the stack's
/// default, and than the time for which the test cuts a node off.
const RETRIES: &str = "4";

/// What the stack serves.
#[derive(Debug)]
pub(crate) struct Deployed<'a> {
    pub(crate) version: &'a Version,
    pub(crate) component: PathBuf,
    /// The number in the component's name.
    pub(crate) number: u32,
}

/// A container of halfopen.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    /// The index of its node.
    pub(crate) node: usize,
    pub(crate) container: String,
    /// Its address in the network of the stack.
    pub(crate) address: String,
}

/// The fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    /// Those that have been killed.
    pub(crate) dead: Vec<usize>,
    pub(crate) authority: Option<Authority>,
}

impl Fleet {
    /// The node that has HAProxy, and gives orders.
    pub(crate) fn first(&self) -> &Node {
        &self.nodes[0]
    }

    /// Joins the nodes into a swarm, all of them as managers.
    pub(crate) fn join(&self) -> Result<()> {
        let first = self.first();
        first.docker(&["swarm", "init", "--advertise-addr", &first.address])?;
        let token = first.docker(&["swarm", "join-token", "--quiet", "manager"])?;
        for node in &self.nodes[1..] {
            let address = &node.address;
            let to = format!("{}:2377", first.address);
            let arguments = ["--advertise-addr", address, "--token", token.trim(), &to];
            node.docker(&[&["swarm", "join"], &arguments[..]].concat())?;
        }
        first.docker(&[
            "node",
            "update",
            "--label-add",
            "halfopen.balancer=true",
            &first.name,
        ])?;
        Ok(())
    }

    /// Deploys the stack, and waits until each replica is what it should be.
    pub(crate) fn deploy(&self, deployed: &Deployed<'_>) -> Result<()> {
        let mut deploy = self.first().command(["stack", "deploy"]);
        deploy
            .current_dir(root().join("host/packaging/swarm"))
            .args(["--resolve-image", "never", "--compose-file", "stack.yml"])
            .env("HALFOPEN_IMAGE", deployed.version.image)
            .env("HAPROXY_IMAGE", HAPROXY)
            .env("HALFOPEN_SERVICE", &deployed.component)
            .env("HALFOPEN_SERVICE_VERSION", deployed.number.to_string())
            .env("HALFOPEN_SERVICE_ARGS", "--quiet")
            .env("HALFOPEN_RETRIES", RETRIES);
        if let Some(authority) = &self.authority {
            deploy
                .args(["--compose-file", "tls.yml"])
                .env("HALFOPEN_TLS_CERT", authority.path("fleet.pem"))
                .env("HALFOPEN_TLS_KEY", authority.path("fleet.key"))
                .env(
                    "HALFOPEN_FLAGS",
                    "--tls-cert /run/secrets/tls.pem --tls-key /run/secrets/tls.key",
                );
        }
        done(deploy.arg(STACK))?;
        let component = fs::read(&deployed.component)?;
        let binary = fs::metadata(&deployed.version.binary)?.len();
        self.settles(|replica| {
            let node = &self.nodes[replica.node];
            let at = |path: &str| node.inside(&replica.container, path);
            Ok(fs::read(at("/service.wasm")?)? == component
                && fs::metadata(at("/usr/bin/halfopen")?)?.len() == binary)
        })
    }

    /// Waits until there are as many replicas as there should be, each of them one that should be,
    /// HAProxy knows all of them, and no other ones are left.
    pub(crate) fn settles(&self, is_right: impl Fn(&Replica) -> Result<bool>) -> Result<()> {
        eventually("the fleet has settled", || {
            let format = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
            let inspect = ["service", "inspect", "--format", format, SERVICE];
            // Managers do not answer while they choose a leader, because one of them has gone.
            let Ok(status) = self.first().docker(&inspect) else {
                return Ok(false);
            };
            let status = status.trim();
            ensure!(
                ["", "updating", "completed"].contains(&status),
                "the update: {status}: {}",
                self.tasks()?
            );
            if status == "updating" {
                return Ok(false);
            }
            self.is_settled(&is_right)
        })
        .with_context(|| self.tasks().unwrap_or_default())
    }

    /// Whether the replicas are those that [`Fleet::settles`] waits for.
    fn is_settled(&self, is_right: impl Fn(&Replica) -> Result<bool>) -> Result<bool> {
        // A container may end while it is asked about.
        let Ok(replicas) = self.replicas() else {
            return Ok(false);
        };
        let mut all = replicas.iter();
        if replicas.len() != REPLICAS || !all.all(|replica| is_right(replica).unwrap_or(false)) {
            return Ok(false);
        }
        let up = self.backends()?;
        let mut known: Vec<_> = up.iter().filter(|server| server.up).collect();
        known.sort_by(|one, other| one.address.cmp(&other.address));
        let mut wanted: Vec<_> = replicas.iter().map(|replica| &replica.address).collect();
        wanted.sort();
        Ok(known.into_iter().map(|server| &server.address).eq(wanted))
    }

    /// Waits until a node other than HAProxy's has more than so many connections of clients, and
    /// returns its index. Swarm may take a node for dead that was cut off, and move its replicas when
    /// it is back, so which node that is, and whether it is, is asked each time.
    pub(crate) fn busy(&self, many: usize) -> Result<usize> {
        let mut found = None;
        eventually("a node has its part of the connections", || {
            if !self.all_are_ready() || !self.is_settled(|_| Ok(true))? {
                return Ok(false);
            }
            for node in (1..self.nodes.len()).filter(|node| !self.dead.contains(node)) {
                let addresses = self.addresses(node);
                let clients = addresses.and_then(|addresses| self.clients(&addresses));
                if clients.is_ok_and(|clients| clients.len() > many) {
                    found = Some(node);
                }
            }
            Ok(found.is_some())
        })
        .with_context(|| self.tasks().unwrap_or_default())?;
        found.context("a node was found")
    }

    /// Whether each node that lives takes part in the swarm, and in the managers' votes.
    pub(crate) fn all_are_ready(&self) -> bool {
        let format = "{{.Status}} {{.ManagerStatus}}";
        let listed = self.first().docker(&["node", "ls", "--format", format]);
        listed.is_ok_and(|listed| {
            let ready = ["Ready Leader", "Ready Reachable"];
            let ready = listed.lines().filter(|line| ready.contains(line)).count();
            ready + self.dead.len() == self.nodes.len()
        })
    }

    /// What Swarm says of the tasks, for an error.
    fn tasks(&self) -> Result<String> {
        let format =
            "{{.Name}} {{.Image}} {{.Node}} {{.DesiredState}} {{.CurrentState}} {{.Error}}";
        let arguments = ["stack", "ps", "--no-trunc", "--format", format, STACK];
        self.first().docker(&arguments)
    }

    /// All containers of halfopen that run, also those that drain.
    pub(crate) fn replicas(&self) -> Result<Vec<Replica>> {
        let mut replicas = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if self.dead.contains(&number) {
                continue;
            }
            for container in containers(node, SERVICE)? {
                let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
                let address = node.docker(&["inspect", "--format", format, &container])?;
                replicas.push(Replica {
                    node: number,
                    container,
                    address: address.trim().to_owned(),
                });
            }
        }
        Ok(replicas)
    }

    /// A replica that is not on HAProxy's node.
    pub(crate) fn elsewhere(&self) -> Result<Replica> {
        let mut replicas = self.replicas()?.into_iter();
        let found = replicas.find(|replica| replica.node != 0);
        found.context("no replica is on another node than HAProxy")
    }

    /// The addresses of the replicas on a node.
    pub(crate) fn addresses(&self, node: usize) -> Result<Vec<String>> {
        let there = self.replicas()?.into_iter();
        let there = there.filter(|replica| replica.node == node);
        Ok(there.map(|replica| replica.address).collect())
    }

    /// The ports of the clients whose connections are with servers at these addresses.
    pub(crate) fn clients(&self, addresses: &[String]) -> Result<BTreeSet<u16>> {
        let container = self.balancer()?;
        let mut ports = BTreeSet::new();
        for server in self.backends()? {
            if addresses.contains(&server.address) {
                let clients = balancer::clients(self.first(), &container, &server.name)?;
                ports.extend(clients);
            }
        }
        Ok(ports)
    }

    /// The container of HAProxy.
    pub(crate) fn balancer(&self) -> Result<String> {
        let container = containers(self.first(), BALANCER)?.into_iter().next();
        container.context("HAProxy does not run")
    }

    /// The servers that HAProxy knows.
    pub(crate) fn backends(&self) -> Result<Vec<Backend>> {
        match self.balancer() {
            Ok(container) => balancer::backends(self.first(), &container),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The lines of HAProxy's log.
    pub(crate) fn log(&self) -> Result<Vec<String>> {
        balancer::log(self.first(), &self.balancer()?)
    }

    /// The servers of the connections that did not end well after so many lines of HAProxy's log, by
    /// the client's port.
    pub(crate) fn logged(&self, after: usize) -> Result<BTreeMap<u16, String>> {
        Ok(balancer::servers(self.log()?.get(after..).unwrap_or(&[])))
    }
}

/// The containers of a service that run on a node.
fn containers(node: &Node, service: &str) -> Result<Vec<String>> {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let listed = node.docker(&["ps", "--quiet", "--no-trunc", "--filter", &filter])?;
    Ok(listed.lines().map(ToOwned::to_owned).collect())
}

/// A certificate for the fleet, and the authority that clients trust.
pub(crate) fn authority() -> Result<Authority> {
    let authority = Authority::new()?;
    authority.sign("fleet", NAME)?;
    Ok(authority)
}

/// The name in the certificate.
pub(crate) const NAME: &str = "fleet.example";

/// The component before the update, and the one after it: an echo in each style.
pub(crate) fn component(name: &str) -> PathBuf {
    Path::new(&root()).join(format!("guest/dist/{name}.wasm"))
}
