//! What a request and a connection cost HAProxy and the replicas, in processor time. The model in
//! `tests/bench/SCALING.md` rests on it.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clients::Clients;
use crate::stack::Fleet;

/// How long each load is measured.
const MEASURED: Duration = Duration::from_secs(15);

/// What was used, and what for.
struct Used {
    balancer: f64,
    replicas: f64,
    requests: f64,
    connections: f64,
}

/// Measures requests on long connections, and then with short ones beside them, at a rate.
pub(crate) fn measure(fleet: &Fleet, clients: &mut Clients, rate: u32) -> Result<()> {
    let long = used(fleet, clients)?;
    clients.short(rate);
    let both = used(fleet, clients)?;
    println!("processor time, in \u{b5}s  a request  a connection beside its request");
    let requests = long.requests;
    let (both_requests, connections) = (both.requests, both.connections);
    for (name, long, both) in [
        ("HAProxy", long.balancer, both.balancer),
        ("replicas", long.replicas, both.replicas),
    ] {
        let request = long / requests;
        let connection = (both - request * both_requests) / connections;
        println!("{name:<22} {request:>10.0}  {connection:>10.0}");
    }
    Ok(())
}

fn used(fleet: &Fleet, clients: &Clients) -> Result<Used> {
    let counts = clients.counts().begin();
    let before = times(fleet)?;
    thread::sleep(MEASURED);
    let after = times(fleet)?;
    let micros = |after: Duration, before| after.saturating_sub(before).as_secs_f64() * 1e6;
    Ok(Used {
        balancer: micros(after.0, before.0),
        replicas: micros(after.1, before.1),
        requests: counts.requests() as f64,
        connections: counts.connections() as f64,
    })
}

/// The processor time of HAProxy, and that of all replicas.
fn times(fleet: &Fleet) -> Result<(Duration, Duration)> {
    let balancer = time(&fleet.first().process(&fleet.balancer()?)?)?;
    let mut all = Duration::ZERO;
    for replica in fleet.replicas()? {
        all += time(&fleet.nodes[replica.node].process(&replica.container)?)?;
    }
    Ok((balancer, all))
}

/// The processor time of a process and its children, by its folder in `/proc`.
fn time(process: &Path) -> Result<Duration> {
    let number = process.file_name().context("a process has a number")?;
    let children = fs::read_to_string(process.join("task").join(number).join("children"))?;
    let beside = children
        .split_whitespace()
        .map(|child| process.with_file_name(child));
    let mut sum = 0;
    for process in [process.to_owned()].into_iter().chain(beside) {
        for task in fs::read_dir(process.join("task"))? {
            let spent = fs::read_to_string(task?.path().join("schedstat"))?;
            let spent = spent.split(' ').next().unwrap_or_default();
            sum += spent.parse::<u64>().with_context(|| spent.to_owned())?;
        }
    }
    Ok(Duration::from_nanos(sum))
}
