//! The events of every scripted scenario are checked: for each connection they begin with `accepted`,
//! end with `closed`, and agree with each other (`tests/src/events.rs`).

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::Runner;
use halfopen_tests::scenario::{Play, Scenario, Step, play};
use halfopen_tests::scenarios;
use halfopen_tests::server::Server;
use rustix::process::Signal;

use super::host::{BINARIES, folder};
use super::watching::attach;

/// Scenarios at once.
const AT_ONCE: usize = 4;

#[test]
fn of_an_instance_for_each_connection() -> Result<()> {
    every_scenario(Runner::NativeConnection)
}

#[test]
fn of_a_shared_instance() -> Result<()> {
    every_scenario(Runner::NativeShared)
}

#[test]
fn of_workers() -> Result<()> {
    every_scenario(Runner::NativeWorkers)
}

fn every_scenario(runner: Runner) -> Result<()> {
    let all: Vec<_> = scenarios::all().filter_map(scripted).collect();
    ensure!(all.len() > 10, "only {} scenarios are scripts", all.len());
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some((scenario, script)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            watch(runner, scenario, script).with_context(|| scenario.name)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = [(); AT_ONCE].map(|()| scope.spawn(work));
        let mut results = workers.map(|worker| worker.join().expect("it does not panic"));
        results
            .iter_mut()
            .try_for_each(|result| std::mem::replace(result, Ok(())))
    })
}

fn scripted(scenario: &'static Scenario) -> Option<(&'static Scenario, &'static [Step])> {
    match scenario.play {
        Play::Script(script, _) | Play::ScriptOrSilence(script, _) if !scenario.listens => {
            Some((scenario, script))
        }
        _ => None,
    }
}

fn watch(runner: Runner, scenario: &Scenario, script: &[Step]) -> Result<()> {
    let folder = folder()?;
    let control = folder.path().join("control");
    let flags = ["--control", control.to_str().context("not UTF-8")?];
    let listen = ["127.0.0.1:0"];
    let command = runner.service_with(
        &BINARIES,
        scenario.guest,
        &listen,
        &flags,
        scenario.arguments,
    );
    let server = Server::start(command, 1)?;
    let watcher = attach(&control)?;
    // What clients see is checked elsewhere.
    drop(play(&server, script)?);
    let connects = script
        .iter()
        .filter(|step| matches!(step, Step::Connect(_)));
    let missing = Cell::new(connects.count());
    let mut events = watcher.until(|event| {
        missing.set(missing.get() - usize::from(event["event"] == "accepted"));
        missing.get() == 0
    })?;
    let stopping = thread::spawn(move || server.stop(Signal::TERM));
    events.extend(watcher.rest()?);
    stopping.join().expect("it does not panic")?;
    let ids = |kind: &str| -> Vec<u64> {
        let events = events.iter().filter(|event| event["event"] == kind);
        let mut ids: Vec<_> = events.filter_map(|event| event["id"].as_u64()).collect();
        ids.sort_unstable();
        ids
    };
    ensure!(ids("accepted") == ids("closed"), "{events:#?}");
    Ok(())
}
