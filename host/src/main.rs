//! The `halfopen` command. Start-up only; each subcommand has a module of its own.

mod cli;

use std::process::ExitCode;

/// An instance is some dozens of small allocations; what is freed by one connection serves
/// the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
