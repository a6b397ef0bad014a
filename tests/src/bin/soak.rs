//! Runs a soak, and prints its figures. The exit status is 1 if anything happened that must
//! not happen.

#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use halfopen_tests::soak::Soak;

/// Tests one server with random scripts, hostile guests and hostile peers at once, beside
/// well-behaved clients
#[derive(Debug, Parser)]
struct Args {
    /// How long the soak goes on
    #[arg(long, default_value_t = 120)]
    minutes: u64,
    /// The `halfopen` binary [default: the one beside this program]
    #[arg(long)]
    host: Option<PathBuf>,
    /// Well-behaved clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u8).range(1..=250))]
    clients: u8,
    /// The seed of everything random [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Writes the figures to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let beside = std::env::current_exe()?.with_file_name("halfopen");
    let soak = Soak {
        host: args.host.unwrap_or(beside),
        time: Duration::from_secs(60 * args.minutes),
        clients: args.clients,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    let figures = soak.run()?;
    println!("{}", figures.markdown()?);
    if let Some(path) = args.json {
        let json = serde_json::to_string_pretty(&figures.json())?;
        fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if figures.violations().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
