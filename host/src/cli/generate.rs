//! `halfopen generate`: what packages ship beside the binary, from the definitions of the
//! command line.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};

use super::args::{Generate, Halfopen};

pub(super) fn generate(what: &Generate) -> anyhow::Result<ExitCode> {
    let mut command = Halfopen::command_line();
    match what {
        Generate::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "halfopen", &mut script);
            // A reader that has gone is no error.
            let _ = std::io::stdout().write_all(&script);
        }
        Generate::Man { folder } => {
            std::fs::create_dir_all(folder)
                .and_then(|()| pages(&command, folder))
                .with_context(|| format!("cannot write to `{}`", folder.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A page for the command, and one for each of its subcommands.
fn pages(command: &Command, folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(command.clone(), folder)
}

impl Halfopen {
    /// All of the command line, for those who describe it.
    fn command_line() -> Command {
        <Halfopen as CommandFactory>::command()
    }
}
