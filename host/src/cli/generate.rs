//! `halfopen generate`: what packages ship beside the binary, from the definitions of the
//! command line.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use super::args::{Generate, Halfopen};

pub(super) fn generate(what: &Generate) -> anyhow::Result<ExitCode> {
    // Its own `command` is the one that was given.
    let mut command = <Halfopen as CommandFactory>::command();
    match what {
        Generate::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "halfopen", &mut script);
            // A reader that has gone is no error.
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
