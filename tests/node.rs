//! The scripts of the scenarios against halfopen and against Node: bytes, order, ends and
//! printed lines must be the same, except where a scenario says that they differ, and why.
//! Needs `node`.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use halfopen_tests::each::trial;
use halfopen_tests::runner::{Binaries, Runner, root};
use halfopen_tests::scenario::{Node, Play, Scenario, Step, Transcript, anonymous, play};
use halfopen_tests::scenarios;
use halfopen_tests::server::{Server, command};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let version = Command::new("node").arg("--version").output();
    let Ok(version) = version else {
        eprintln!(
            "`node` is missing, and this suite skips nothing: install Node.js to compare with it"
        );
        return ExitCode::FAILURE;
    };
    let mut trials = Vec::new();
    for scenario in scenarios::all() {
        if let Play::Script(script, lines) = scenario.play
            && scenario.node != Node::None
        {
            let binaries = binaries.clone();
            trials.push(trial(scenario.name.to_owned(), move || {
                compare(scenario, script, lines.len(), &binaries)
            }));
        }
    }
    println!(
        "{} scenarios against Node {}",
        trials.len(),
        String::from_utf8_lossy(&version.stdout).trim()
    );
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn compare(scenario: &Scenario, script: &[Step], lines: usize, binaries: &Binaries) -> Result<()> {
    let ours = Runner::NativeConnection.start(binaries, scenario.guest, scenario.arguments)?;
    let ours = observe(&ours, script, lines)?;
    let mut node = command(
        "node",
        [root().join(format!("tests/node/{}.mjs", scenario.guest))],
    );
    node.args(scenario.arguments);
    let mut node = Server::start(node, 1)?;
    if scenario.node != Node::Same {
        // Lines that halfopen prints may never come from Node. That a line comes too late
        // is a difference as well.
        node.patience = Duration::from_secs(2);
    }
    let node = observe(&node, script, lines)?;
    match scenario.node {
        Node::Same => ensure!(ours == node, "halfopen: {ours:#?}\nNode: {node:#?}"),
        Node::Differs(why) if ours == node => {
            bail!("Node should differ ({why}), and does the same: {ours:#?}")
        }
        Node::Differs(_) | Node::None => {}
    }
    Ok(())
}

/// Plays a script, and returns what the clients saw and what the server printed.
fn observe(server: &Server, script: &[Step], lines: usize) -> Result<(Transcript, Vec<String>)> {
    let played = play(server, script)?;
    server.printed(lines);
    // A line that must not come has a moment to come.
    thread::sleep(Duration::from_millis(100));
    let printed = anonymous(server.printed(0), &played.addresses);
    Ok((played.seen, printed))
}
