//! HAProxy in the fleet: what it says over its socket, and what it logs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use halfopen_tests::patience::PATIENCE;

use crate::nodes::Node;

/// A server, as HAProxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) up: bool,
}

/// The servers that have an address.
pub(crate) fn backends(node: &Node, container: &str) -> Result<Vec<Backend>> {
    Ok(parse(&order(node, container, "show stat typed")?))
}

/// Sends an order to HAProxy's socket, and returns the answer.
fn order(node: &Node, container: &str, order: &str) -> Result<String> {
    let socket = node.inside(container, "/run/haproxy/admin.sock")?;
    let mut admin = UnixStream::connect(&socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    admin.set_read_timeout(Some(PATIENCE))?;
    writeln!(admin, "{order}")?;
    let mut answer = String::new();
    admin.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The ports of the clients whose connections are with a server, by the server's name.
pub(crate) fn clients(node: &Node, container: &str, server: &str) -> Result<BTreeSet<u16>> {
    let sessions = order(node, container, "show sess")?;
    let server = format!("srv={server}");
    let there = sessions
        .lines()
        .filter(|line| line.split(' ').any(|word| word == server));
    let ports = there.filter_map(|line| {
        let source = line.split(' ').find_map(|word| word.strip_prefix("src="))?;
        source.rsplit_once(':')?.1.parse().ok()
    });
    Ok(ports.collect())
}

/// Reads lines such as `S.3.1.73.addr.1:CGS:str:10.200.0.4:1234`: the number of a server, the name
/// of a field, and its value.
fn parse(answer: &str) -> Vec<Backend> {
    let mut servers: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for line in answer.lines() {
        let mut parts = line.splitn(4, ':');
        let path: Vec<&str> = parts.next().unwrap_or_default().split('.').collect();
        if let (["S", _, server, _, name, _], Some(value)) = (&path[..], parts.nth(2)) {
            servers.entry(server).or_default().insert(name, value);
        }
    }
    let backends = servers.values().filter_map(|fields| {
        let (address, _) = fields.get("addr")?.rsplit_once(':')?;
        Some(Backend {
            name: fields.get("svname")?.to_string(),
            address: address.to_owned(),
            up: fields.get("status")?.starts_with("UP"),
        })
    });
    backends.collect()
}

/// What HAProxy has logged: a line for each connection that did not end well.
pub(crate) fn log(node: &Node, container: &str) -> Result<Vec<String>> {
    let log = node.docker(&["logs", container])?;
    Ok(log.lines().map(ToOwned::to_owned).collect())
}

/// The address of the server that each client's connection was with, by the client's port.
pub(crate) fn servers(log: &[String]) -> BTreeMap<u16, String> {
    let mut servers = BTreeMap::new();
    for line in log {
        let field = |name: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(name));
            word.and_then(|word| word.rsplit_once(':'))
        };
        let (Some((_, port)), Some((server, _))) = (field("client="), field("server=")) else {
            continue;
        };
        let address = server.rsplit('/').next().unwrap_or(server);
        if let Ok(port) = port.parse() {
            servers.insert(port, address.to_owned());
        }
    }
    servers
}
