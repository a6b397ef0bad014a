//! The `halfopen` command. Start-up only; each subcommand has a module of its own.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
