//! A short soak: everything hostile at once for half a minute, and well-behaved clients beside it.
//! `target/debug/soak --minutes 120` is the long one.

#![allow(clippy::print_stdout, reason = "a test prints what it measured")]

use std::time::Duration;

use anyhow::{Result, ensure};
use halfopen_tests::runner::Binaries;
use halfopen_tests::soak::Soak;

#[test]
fn well_behaved_clients_notice_nothing() -> Result<()> {
    let soak = Soak {
        host: Binaries::find(env!("CARGO_BIN_EXE_wasmtime")).halfopen,
        time: Duration::from_secs(30),
        clients: 200,
        seed: fastrand::u64(..),
    };
    let figures = soak.run()?;
    let text = figures.markdown()?;
    println!("{text}");
    ensure!(figures.violations().is_empty(), "{text}");
    Ok(())
}
