//! What happens to the fleet while the clients count.

use std::collections::BTreeSet;
use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::eventually;

use crate::Security;
use crate::clients::{Clients, LIFE};
use crate::counts::Counts;
use crate::images::Version;
use crate::link::Cut;
use crate::stack::{Deployed, Fleet, Replica, component};

/// For how long a node is cut off.
const PARTED: Duration = Duration::from_secs(10);

/// While servers go, how long a client waits at most whose own is well, or that comes anew, beyond
/// what it waits when nothing happens. `haproxy.cfg` says how it comes to less.
const OTHERS: Duration = Duration::from_secs(2);

/// The upgrades in place, one after the other.
const UPGRADES: usize = 3;

/// What an event may cost.
enum Price {
    /// Nothing at all.
    Nothing,
    /// The connections of the replicas with these addresses; the others wait no longer than
    /// [`OTHERS`].
    Only(Vec<String>),
}

/// The fleet, its clients, and what they have counted.
pub(crate) struct Play<'a> {
    pub(crate) fleet: Fleet,
    pub(crate) clients: Clients,
    pub(crate) versions: &'a [Version; 2],
    pub(crate) security: Security,
    /// The longest wait when nothing happened: what the machine adds to every wait.
    pub(crate) usual: Duration,
    pub(crate) failures: Vec<String>,
}

impl Play<'_> {
    /// All events, one after the other. Prints a row for each.
    pub(crate) fn run(&mut self) -> Result<()> {
        println!("{}", Counts::head());
        self.event("nothing", Price::Nothing, |_| {
            // Longer than a long connection lasts.
            thread::sleep(Duration::from_secs(15));
            Ok(())
        })?;
        self.usual = self.clients.counts().get().stall(&BTreeSet::new());
        self.event("5 a node is drained", Price::Nothing, drain)?;
        self.event("1 a new component", Price::Nothing, |play| {
            play.fleet.deploy(&Deployed {
                version: &play.versions[0],
                component: component("pass"),
                number: 2,
            })
        })?;
        self.event("2 a new binary", Price::Nothing, |play| {
            play.fleet.deploy(&Deployed {
                version: &play.versions[1],
                component: component("pass"),
                number: 2,
            })
        })?;
        let replica = self.fleet.elsewhere()?;
        self.event("6 upgrades in place", Price::Nothing, |play| {
            upgrade(&play.fleet, &replica)
        })?;
        self.loss("4 a node cut off for 10 s", part)?;
        self.loss("3 a node dies", kill)
    }

    /// An event that takes a node with its part of the connections.
    fn loss(
        &mut self,
        name: &str,
        happen: impl FnOnce(&mut Fleet, usize) -> Result<()>,
    ) -> Result<()> {
        if !is_chosen(name) {
            return Ok(());
        }
        let node = self.fleet.busy(self.clients.open() / 6)?;
        let price = Price::Only(self.fleet.addresses(node)?);
        self.event(name, price, |play| happen(&mut play.fleet, node))
    }

    fn event(
        &mut self,
        name: &str,
        price: Price,
        happen: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if !is_chosen(name) {
            return Ok(());
        }
        let earlier = self.fleet.log()?.len();
        let mut there = match &price {
            Price::Nothing => BTreeSet::new(),
            Price::Only(addresses) => self.fleet.clients(addresses)?,
        };
        let counts = self.clients.counts().begin();
        happen(self).with_context(|| name.to_owned())?;
        // Whoever waits for a server that has gone learns of it.
        let happened = Instant::now();
        eventually("each client has had an answer or a loss", || {
            Ok(self.clients.waiting_since(happened) == 0)
        })?;
        // Who came to them just before the event is known by HAProxy's log.
        if let Price::Only(addresses) = &price {
            let logged = self.fleet.logged(earlier)?.into_iter();
            let theirs = logged.filter(|(_, server)| addresses.contains(server));
            there.extend(theirs.map(|(port, _)| port));
        }
        println!("{}", counts.row(name, &there));
        if let Err(error) = self.check(&price, &there, &counts, earlier) {
            println!("!!! {name}: {error:#}");
            self.failures.push(format!("{name}: {error:#}"));
        }
        Ok(())
    }

    fn check(
        &self,
        price: &Price,
        there: &BTreeSet<u16>,
        counts: &Counts,
        earlier: usize,
    ) -> Result<()> {
        let losses = counts.losses();
        ensure!(
            counts.cut(Cut::Wrong) == 0 && counts.cut(Cut::Silent) == 0,
            "{losses:?}"
        );
        let addresses = match price {
            Price::Nothing => {
                let servers = self.servers(counts, earlier)?;
                ensure!(losses.is_empty(), "{servers}: {losses:?}");
                return Ok(());
            }
            Price::Only(addresses) => addresses,
        };
        ensure!(counts.cut(Cut::Refused) == 0, "{losses:?}");
        ensure!(
            !there.is_empty() && !losses.is_empty(),
            "the event has harmed nobody: was it one?"
        );
        // HAProxy logs what did not end well, a moment after the clients see it.
        let mut strangers = Vec::new();
        eventually("HAProxy has logged each cut connection", || {
            let logged = self.fleet.logged(earlier)?;
            let others = losses.iter().filter(|loss| !there.contains(&loss.port));
            let servers: Vec<_> = others.map(|loss| logged.get(&loss.port)).collect();
            strangers = servers.iter().copied().flatten().cloned().collect();
            strangers.retain(|server| !addresses.contains(server));
            Ok(servers.iter().all(Option::is_some))
        })?;
        ensure!(
            strangers.is_empty(),
            "connections of {strangers:?} were cut"
        );
        let bound = OTHERS + self.usual;
        ensure!(
            counts.stall(there) <= bound,
            "somebody waited for {:?}, more than {bound:?}",
            counts.stall(there)
        );
        // In the clear, HAProxy makes FIN of RST.
        ensure!(
            self.security == Security::Clear || counts.cut(Cut::Truncated) == 0,
            "{} answers ended as if they were complete",
            counts.cut(Cut::Truncated)
        );
        Ok(())
    }

    /// Which servers had the connections that were cut.
    fn servers(&self, counts: &Counts, earlier: usize) -> Result<String> {
        let logged = self.fleet.logged(earlier)?;
        let losses = counts.losses();
        let servers = losses.iter().map(|loss| {
            let server = logged.get(&loss.port).map_or("unknown", String::as_str);
            format!("{}: {server}", loss.port)
        });
        Ok(servers.take(20).collect::<Vec<_>>().join(", "))
    }
}

/// Whether an event is one of those that are asked for.
fn is_chosen(name: &str) -> bool {
    // The number of the event, if it has one.
    let number = name.split(' ').next().unwrap_or_default();
    let is_left_out = |chosen: String| number.parse::<u8>().is_ok() && !chosen.contains(number);
    !env::var("HALFOPEN_FLEET_EVENTS").is_ok_and(is_left_out)
}

/// Stops what runs on a node, which is then available again.
fn drain(play: &mut Play<'_>) -> Result<()> {
    let fleet = &play.fleet;
    let replica = fleet.elsewhere()?;
    let node = &fleet.nodes[replica.node].name;
    let first = fleet.first();
    first.docker(&["node", "update", "--availability", "drain", node])?;
    fleet.settles(|other| Ok(other.node != replica.node))?;
    first.docker(&["node", "update", "--availability", "active", node])?;
    Ok(())
}

/// Upgrades a replica in place, several times, and waits until the earlier processes have ended.
fn upgrade(fleet: &Fleet, replica: &Replica) -> Result<()> {
    let ctl = |order: &[&str]| -> Result<String> {
        let command = [
            "/usr/bin/halfopen",
            "ctl",
            "--control",
            "/run/halfopen/control",
        ];
        let arguments = [&["exec", &replica.container], &command[..], order].concat();
        fleet.nodes[replica.node].docker(&arguments)
    };
    let mut processes = vec![process(&ctl(&["status", "--json"])?)?];
    for _ in 0..UPGRADES {
        ctl(&["upgrade"])?;
        processes.push(process(&ctl(&["status", "--json"])?)?);
    }
    let mut different = processes.clone();
    different.dedup();
    ensure!(different.len() == UPGRADES + 1, "{processes:?}");
    // The container's first process stays, without connections when the last of them has ended.
    eventually("the earlier processes have ended", || {
        let status: serde_json::Value = serde_json::from_str(&ctl(&["status", "--json"])?)?;
        let alive = status["generations"].as_array().context("no generations")?;
        let alive: Vec<_> = alive
            .iter()
            .filter_map(|one| one["process"].as_u64())
            .collect();
        Ok(alive.first() == Some(&1) && alive.last() == processes.last() && alive.len() == 2)
    })?;
    thread::sleep(LIFE);
    Ok(())
}

/// The process in a status.
fn process(status: &str) -> Result<u64> {
    let status: serde_json::Value = serde_json::from_str(status)?;
    status["process"]
        .as_u64()
        .with_context(|| status.to_string())
}

/// Takes a node off the network for a while, and waits until all is well again.
fn part(fleet: &mut Fleet, node: usize) -> Result<()> {
    let node = &fleet.nodes[node];
    let start = Instant::now();
    node.part()?;
    thread::sleep(PARTED.saturating_sub(start.elapsed()));
    node.join()?;
    eventually("the nodes are a swarm again", || Ok(fleet.all_are_ready()))?;
    fleet.settles(|_| Ok(true))
}

/// Ends a node, and waits until the others have its work.
fn kill(fleet: &mut Fleet, node: usize) -> Result<()> {
    fleet.nodes[node].die()?;
    fleet.dead.push(node);
    fleet.settles(|_| Ok(true))
}
