//! `halfopen generate`: the files that packages ship beside the binary, made from the
//! definitions of the command line.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Generate, Halfopen};

pub(crate) fn generate(what: &Generate) -> anyhow::Result<ExitCode> {
    let mut command = Halfopen::command();
    match what {
        Generate::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "halfopen", &mut script);
            // A closed pipe, as with `| head`, is not an error.
            let _ = std::io::stdout().write_all(&script);
        }
        Generate::Man { folder } => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(command, folder))
                .with_context(|| format!("cannot write to `{}`", folder.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
