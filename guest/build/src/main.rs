//! `cargo guests`: builds and composes the guests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use halfopen_guest_build::component::{Files, assemble};
use halfopen_guest_build::guests::Set;
use halfopen_guest_build::manifest::{self, Manifest};
use halfopen_guest_build::root;
use halfopen_guest_build::toolchain::{TARGET, Toolchain};

/// Builds all guests, composes the standalone components, and writes them with their
/// manifests: parts and examples to guest/dist, the tests' guests to tests/guests/dist.
#[derive(Debug, Parser)]
#[command(name = "cargo guests", bin_name = "cargo guests")]
struct Arguments {
    /// Build, and compare the result with the committed files instead of writing it.
    #[arg(long, conflicts_with_all = ["output", "target"])]
    check: bool,
    /// The target to compile for. The committed components are compiled for
    /// wasm32-unknown-unknown; wasm32-wasip2 works too.
    #[arg(long, default_value = TARGET)]
    target: String,
    /// Write to FOLDER and FOLDER/tests instead of guest/dist and tests/guests/dist.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// The toolchain to compile with (default: the first of these that has the target).
    #[arg(long, value_enum)]
    toolchain: Option<Toolchain>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let root = root();
    let toolchain = match arguments.toolchain {
        Some(toolchain) => toolchain,
        None => Toolchain::find(&arguments.target)?,
    };
    // A target folder of its own: a cargo process that runs this command may hold the
    // lock on the usual one.
    let target_dir = root.join("target/guests");
    let compiled = toolchain.compile(&root, &arguments.target, &target_dir)?;
    let version = toolchain.version()?;
    for (set, files) in assemble(|package| compiled.read(package))? {
        let target = arguments.target.clone();
        let manifest = Manifest::new(&root, set, version.clone(), target, &files)?;
        let folder = root.join(set.folder());
        if arguments.check {
            check(set, &folder, &files, &manifest)?;
            continue;
        }
        let folder = match (&arguments.output, set) {
            (None, _) => folder,
            (Some(output), Set::Shipped) => output.clone(),
            (Some(output), Set::Tests) => output.join("tests"),
        };
        write(&folder, &files, &manifest)?;
    }
    Ok(())
}

fn write(folder: &Path, files: &Files, manifest: &Manifest) -> Result<()> {
    let cannot = || format!("cannot write to `{}`", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(cannot)?;
        eprintln!("{:>8} bytes  {}", bytes.len(), path.display());
    }
    fs::write(folder.join(manifest::NAME), manifest.text()?).with_context(cannot)
}

fn check(set: Set, folder: &Path, files: &Files, manifest: &Manifest) -> Result<()> {
    let committed = Manifest::read(folder)?;
    if committed.toolchain != manifest.toolchain {
        eprintln!(
            "!!! SKIPPED: the components in {set} were built by `{}`, and this is `{}`; the bytes cannot be compared. The guests compile and compose here.",
            committed.toolchain, manifest.toolchain
        );
        return Ok(());
    }
    let mut differ = Vec::new();
    for (name, bytes) in files {
        if fs::read(folder.join(name)).is_ok_and(|committed| committed == *bytes) {
            eprintln!("same  {set}/{name}");
        } else {
            differ.push(name.as_str());
        }
    }
    if committed != *manifest {
        differ.push(manifest::NAME);
    }
    if !differ.is_empty() {
        bail!(
            "{set} does not match the sources: {} differ; run `cargo guests` and commit {set}",
            differ.join(", ")
        );
    }
    Ok(())
}
