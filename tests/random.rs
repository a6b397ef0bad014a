//! Random scripts over real sockets: what the server does, what the client sends, and when
//! each of them ends, with stalls in between. These laws must hold: no byte is lost, doubled
//! or added; each direction ends once, by FIN, after its last byte; a reset is one error;
//! `close` comes once, and last.
//!
//! The trials `calls::…` play a service in callback style that makes random calls, see
//! `random/calls.rs`. The trial `network` plays scripts behind a bad network, see `network.rs`.
//!
//! A trial for each runner, by its name. Each of them goes on for 6 s, or for
//! `HALFOPEN_RANDOM_SECONDS`. The seed is printed; `HALFOPEN_SEED` repeats it.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

mod network;
mod random {
    pub(crate) mod calls;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use halfopen_tests::each::{at_once, trial, trials};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::script::Script;

fn main() -> ExitCode {
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let scripts = trials(&binaries, "", Runner::is_exact, play);
    let calls = trials(&binaries, "calls::", Runner::is_exact, play_calls);
    let network = trial(network::NAME.to_owned(), network::play);
    let trials = [network].into_iter().chain(scripts).chain(calls);
    libtest_mimic::run(&at_once(2), trials.collect()).exit_code()
}

fn play_calls(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (time, seed) = settings()?;
    let played = random::calls::play(runner, binaries, time, seed);
    let count = played.with_context(|| format!("{}, HALFOPEN_SEED={seed}", runner.name()))?;
    println!(
        "{}: {count} connections with random calls in {} s without a violation; \
         HALFOPEN_SEED={seed}",
        runner.name(),
        time.as_secs()
    );
    Ok(())
}

fn play(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (time, seed) = settings()?;
    let closed = runner.start(binaries, "cases", &[])?;
    let half_open = runner.start(binaries, "cases", &["--allow-half-open"])?;
    let mut servers = [(&closed, false, 0), (&half_open, true, 0)];
    let obeys_at_end = runner.guest("cases") == Some("orders");
    let mut random = Rng::with_seed(seed);
    let deadline = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < deadline {
        let (server, allow_half_open, printed) = &mut servers[random.usize(..2)];
        let script = Script::random(&mut random, *allow_half_open, obeys_at_end);
        let played = script.play(server.address(), &mut random, || {
            let lines = server.printed(*printed + 1);
            let line = lines.get(*printed).context("the service prints nothing")?;
            *printed += 1;
            Ok(line.clone())
        });
        played.with_context(|| {
            format!(
                "{}, HALFOPEN_SEED={seed}, script {count}, half-open {allow_half_open}: {script:?}",
                runner.name()
            )
        })?;
        count += 1;
    }
    println!(
        "{}: {count} random scripts in {} s without a violation; HALFOPEN_SEED={seed}",
        runner.name(),
        time.as_secs()
    );
    Ok(())
}

/// How long a trial goes on, and its seed.
fn settings() -> Result<(Duration, u64)> {
    let seconds = from_env("HALFOPEN_RANDOM_SECONDS")?.unwrap_or(6);
    let seed = from_env("HALFOPEN_SEED")?.unwrap_or_else(|| fastrand::u64(..));
    Ok((Duration::from_secs(seconds), seed))
}

fn from_env(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(
            text.parse().with_context(|| format!("{name}={text}"))?,
        )),
        Err(_) => Ok(None),
    }
}
