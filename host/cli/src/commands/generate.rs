//! `halfopen generate`: the files that packages ship beside the binary, made from the
//! definitions of the command line.

use std::ffi::OsString;
use std::fs::DirEntry;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Generate, Halfopen};
use crate::files;

pub(crate) fn generate(what: &Generate) -> anyhow::Result<ExitCode> {
    let mut command = Halfopen::command();
    match what {
        Generate::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "halfopen", &mut script);
            // A closed pipe, as with `| head`, is not an error.
            let _ = io::stdout().write_all(&script);
        }
        Generate::Man { folder } => {
            for (name, page) in pages(command).context("cannot make the manual pages")? {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make `{}`", folder.display()))?;
                files::write(&folder.join(name), &page)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The manual pages of a command and its subcommands, with the names of their files.
fn pages(command: clap::Command) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    // `clap_mangen` writes the pages of subcommands to files only.
    let folder = tempfile::tempdir()?;
    clap_mangen::generate_to(command, &folder)?;
    let entries = std::fs::read_dir(&folder)?;
    let page = |entry: DirEntry| Ok((entry.file_name(), std::fs::read(entry.path())?));
    entries.map(|entry| entry.and_then(page)).collect()
}
