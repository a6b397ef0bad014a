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
    pub(crate) mod errors;
    pub(crate) mod hostile;
    pub(crate) mod matrix;
    pub(crate) mod node_host;
    pub(crate) mod programs;
    pub(crate) mod proxy;
    pub(crate) mod server;
}
use conformance::{errors, hostile, matrix, node_host, programs, proxy, server};

const NO_NODE_HOST: &str =
    "the runner node-jco is not installed; `npm ci --prefix tests/node` does it";

/// Plays something on one way of running.
type Run = fn(Runner, &Binaries) -> anyhow::Result<()>;

/// Something that is not a script of one client's.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    /// The rules of `wit/SEMANTICS.md` that it proves.
    rules: &'static [&'static str],
    runners: &'static [Runner],
    /// Why it is not played on the others.
    elsewhere: &'static str,
    run: Run,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let mut trials = Vec::new();
    for scenario in scenarios::all() {
        for runner in Runner::SERVICE {
            if !runner.is_there(&binaries) {
                continue;
            }
            let binaries = binaries.clone();
            trials.push(trial(runner, scenario.name, move || {
                scenario.run(runner, &binaries)
            }));
        }
    }
    let runners = Runner::SERVICE.map(|runner| runner.is_there(&binaries));
    println!(
        "{} scenarios × {} runners for services",
        scenarios::all().count(),
        runners.iter().filter(|&&there| there).count(),
    );
    if runners.contains(&false) {
        assert!(std::env::var_os("CI").is_none(), "{NO_NODE_HOST}");
        println!("!!! SKIPPED: {NO_NODE_HOST}");
    }
    for (what, cases) in [
        ("programs", programs::CASES),
        ("errors, and of the bare primitives", errors::CASES),
        ("proxies", proxy::CASES),
        ("the server's own life", server::CASES),
        ("hostile services", hostile::CASES),
        ("Node as a host", node_host::CASES),
    ] {
        let before = trials.len();
        for case in cases {
            for &runner in case.runners {
                if !runner.is_there(&binaries) {
                    continue;
                }
                let binaries = binaries.clone();
                trials.push(trial(runner, case.name, move || {
                    (case.run)(runner, &binaries)
                }));
            }
        }
        let count = trials.len() - before;
        println!("{} scenarios, {count} trials, of {what}", cases.len());
    }
    if can_capture() {
        println!("every script is checked on the wire as well");
    } else {
        println!(
            "!!! SKIPPED: packets cannot be captured here (it takes tcpdump and root), so the scripts are checked by what sockets see only"
        );
    }
    trials.push(Trial::test("matrix", || {
        matrix::is_current().map_err(|error| Failed::from(format!("{error:#}")))
    }));
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
