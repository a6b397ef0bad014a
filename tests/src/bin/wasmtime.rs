//! The stock `wasmtime` command line, built from the `wasmtime-cli` crate.
//!
//! It has the two commands that the tests use, `run` (the default) and `compile`, with the
//! flags, the defaults and the output of the released binary.

use clap::Parser;
use wasmtime_cli::commands::{CompileCommand, RunCommand};

#[derive(Parser)]
#[command(name = "wasmtime", version, args_conflicts_with_subcommands = true)]
struct Wasmtime {
    #[command(subcommand)]
    subcommand: Option<Subcommand>,
    #[command(flatten)]
    run: RunCommand,
}

#[derive(Parser)]
enum Subcommand {
    /// Runs a WebAssembly component.
    Run(RunCommand),
    /// Compiles a WebAssembly component.
    Compile(CompileCommand),
}

fn main() -> wasmtime::Result<()> {
    let cli = Wasmtime::parse();
    match cli.subcommand.unwrap_or(Subcommand::Run(cli.run)) {
        Subcommand::Run(command) => command.execute(),
        Subcommand::Compile(command) => command.execute(),
    }
}
