//! Every scenario on every way of running. Run with `--list` to see them, and with a
//! word to run those that have it in their name.

#![allow(clippy::print_stdout, reason = "a test tells what it did")]

use std::process::ExitCode;
use std::sync::Arc;

use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::scenarios;
use halfopen_tests::wire::can_capture;
use libtest_mimic::{Arguments, Failed, Trial};

mod conformance {
    pub(crate) mod hostile;
    pub(crate) mod programs;
    pub(crate) mod proxy;
}
use conformance::{hostile, programs, proxy};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let mut trials = Vec::new();
    for scenario in scenarios::all() {
        for runner in Runner::SERVICE {
            let binaries = binaries.clone();
            trials.push(trial(runner, scenario.name, move || {
                scenario.run(runner, &binaries)
            }));
        }
    }
    let services = trials.len();
    trials.extend(programs::trials(&binaries));
    let programs = trials.len() - services;
    trials.extend(proxy::trials(&binaries));
    let proxies = trials.len() - services - programs;
    trials.extend(hostile::trials(&binaries));
    let hostile = trials.len() - services - programs - proxies;
    println!(
        "{} scenarios × {} runners for services, and {programs} trials of programs, {proxies} of proxies, {hostile} of hostile services",
        scenarios::all().count(),
        Runner::SERVICE.len(),
    );
    if can_capture() {
        println!("every script is checked on the wire as well");
    } else {
        println!(
            "!!! SKIPPED: packets cannot be captured here (it takes tcpdump and root), so the scripts are checked by what sockets see only"
        );
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(
    runner: Runner,
    name: &str,
    run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    Trial::test(format!("{}::{name}", runner.name()), move || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}
