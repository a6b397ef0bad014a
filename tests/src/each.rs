//! Test programs that do one thing on each runner.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::runner::{Binaries, Runner};

/// Runs a test program whose trials are the runners that `takes_part` selects, by their
/// names. `wasmtime` is the value of `env!("CARGO_BIN_EXE_wasmtime")`.
#[must_use]
pub fn on_each_runner(
    wasmtime: &str,
    takes_part: fn(Runner) -> bool,
    run: fn(Runner, &Binaries) -> Result<()>,
) -> ExitCode {
    let binaries = Arc::new(Binaries::find(wasmtime));
    let trials = trials(&binaries, "", takes_part, run);
    libtest_mimic::run(&at_once(2), trials.collect()).exit_code()
}

/// Reads the arguments of a test program whose trials wait for most of their time: so many of them
/// run at once for each processor, unless `--test-threads` says otherwise.
#[must_use]
pub fn at_once(for_each: usize) -> Arguments {
    let mut arguments = Arguments::from_args();
    if let Ok(processors) = thread::available_parallelism() {
        (arguments.test_threads).get_or_insert(for_each * processors.get());
    }
    arguments
}

/// Makes a trial for each runner that `takes_part` selects, named after it behind `prefix`.
pub fn trials(
    binaries: &Arc<Binaries>,
    prefix: &str,
    takes_part: fn(Runner) -> bool,
    run: fn(Runner, &Binaries) -> Result<()>,
) -> impl Iterator<Item = Trial> {
    Runner::ALL
        .iter()
        .copied()
        .filter(move |&runner| takes_part(runner) && runner.is_installed(binaries))
        .map(move |runner| {
            let binaries = binaries.clone();
            let name = format!("{prefix}{}", runner.name());
            trial(name, move || run(runner, &binaries))
        })
}

/// Makes a trial whose failure is printed as one line of causes.
pub fn trial(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}
