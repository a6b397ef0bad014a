//! The conformance suite: every scenario on every runner.
//!
//! `--list` prints the trials, and a word runs the trials that have it in their names:
//! `cargo test --test conformance -- native-shared`.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use halfopen_tests::case::{Case, Run};
use halfopen_tests::each::{at_once, trial};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::scenarios;
use halfopen_tests::wire::can_capture;

mod conformance {
    pub(crate) mod errors;
    pub(crate) mod further;
    pub(crate) mod grants;
    pub(crate) mod hostile;
    pub(crate) mod matrix;
    pub(crate) mod node_host;
    pub(crate) mod programs;
    pub(crate) mod proxy;
    pub(crate) mod rogue;
    pub(crate) mod securing;
    pub(crate) mod server;
    pub(crate) mod state;
    pub(crate) mod topics;
}
use conformance::{
    errors, further, grants, hostile, matrix, node_host, programs, proxy, rogue, securing, server,
    state, topics,
};

/// The cases, by what they are about.
const CASES: [(&str, &[Case]); 12] = [
    ("programs", programs::CASES),
    ("errors, from the bare primitives", errors::CASES),
    ("proxies", proxy::CASES),
    ("servers that are full, stop or die", server::CASES),
    ("further interfaces of callback style", further::CASES),
    ("topics", topics::CASES),
    ("what is granted and denied", grants::CASES),
    ("state", state::CASES),
    ("TLS that a service begins", securing::CASES),
    ("hostile services", hostile::CASES),
    ("hostile services in callback style", rogue::CASES),
    ("Node as a host", node_host::CASES),
];

fn main() -> ExitCode {
    let arguments = at_once(4);
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let (installed, missing): (Vec<Runner>, Vec<Runner>) = Runner::ALL
        .iter()
        .partition(|runner| runner.is_installed(&binaries));
    let mut trials = Vec::new();
    for scenario in scenarios::all() {
        let plays = |runner: &&Runner| runner.guest(scenario.guest).is_some();
        for &runner in installed.iter().filter(plays) {
            let binaries = binaries.clone();
            trials.push(trial(named(runner, scenario.name), move || {
                scenario.run(runner, &binaries)
            }));
        }
    }
    println!(
        "{} scenarios on {} runners, {} trials",
        scenarios::all().count(),
        installed.len(),
        trials.len()
    );
    for runner in missing {
        let (name, how) = (runner.name(), runner.needs());
        assert!(
            std::env::var_os("CI").is_none(),
            "the runner {name} is not installed; {how}"
        );
        println!("!!! SKIPPED: the runner {name} is not installed; {how}");
    }
    for (about, cases) in CASES {
        let before = trials.len();
        for case in cases {
            for &runner in installed.iter().filter(|&&runner| (case.runners)(runner)) {
                let binaries = binaries.clone();
                trials.push(trial(named(runner, case.name), move || {
                    (case.run)(runner, &binaries)
                }));
            }
        }
        let count = trials.len() - before;
        println!("{} cases, {count} trials: {about}", cases.len());
    }
    if can_capture() {
        println!(
            "the packets of every script are checked as well, and what `serve` records of every scenario"
        );
    } else {
        println!(
            "!!! SKIPPED: packets cannot be captured here, which takes tcpdump and root; scripts are checked only by what sockets report"
        );
    }
    trials.push(trial("matrix".to_owned(), matrix::is_current));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn named(runner: Runner, name: &str) -> String {
    format!("{}::{name}", runner.name())
}
