//! `cargo guests`: builds and composes the shipped components.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use halfopen_guest_build::component::{Files, assemble};
use halfopen_guest_build::manifest::{self, Manifest};
use halfopen_guest_build::toolchain::{TARGET, Toolchain};
use halfopen_guest_build::{dist, root};

/// Builds all guests, composes the standalone ones, and writes them to guest/dist with
/// their manifest.
#[derive(Debug, Parser)]
#[command(name = "cargo guests", bin_name = "cargo guests")]
struct Arguments {
    /// Write nothing; rebuild, and compare with what is there.
    #[arg(long, conflicts_with_all = ["output", "target"])]
    check: bool,
    /// What to compile for: the shipped ones are for wasm32-unknown-unknown;
    /// wasm32-wasip2 works as well.
    #[arg(long, default_value = TARGET)]
    target: String,
    /// Where to write them instead of guest/dist.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// The toolchain; the first of these that can be had, if not given.
    #[arg(long, value_name = "rustup|debian", value_parser = toolchain)]
    toolchain: Option<Toolchain>,
}

fn toolchain(name: &str) -> Result<Toolchain, String> {
    match name {
        "rustup" => Ok(Toolchain::Rustup),
        "debian" => Ok(Toolchain::Debian),
        _ => Err("there are `rustup` and `debian`".to_owned()),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let root = root();
    let toolchain = match arguments.toolchain {
        Some(toolchain) => toolchain,
        None => Toolchain::find(&arguments.target)?,
    };
    // A folder of their own: cargo keeps apart what other flags have made, and the
    // lock on the usual one may be held by whoever runs this.
    let target_dir = root.join("target/guests");
    let compiled = toolchain.compile(&root, &arguments.target, &target_dir)?;
    let compiled = assemble(|package| compiled.read(package))?;
    let manifest = Manifest::new(&root, toolchain.version()?, arguments.target, &compiled)?;
    if arguments.check {
        return check(&compiled, &manifest);
    }
    let output = arguments.output.unwrap_or_else(dist);
    write(&output, &compiled, &manifest)
}

fn write(folder: &Path, files: &Files, manifest: &Manifest) -> Result<()> {
    let cannot = || format!("cannot write to `{}`", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).with_context(cannot)?;
        eprintln!("{:>8} bytes  {name}", bytes.len());
    }
    fs::write(folder.join(manifest::NAME), manifest.text()?).with_context(cannot)
}

fn check(files: &Files, manifest: &Manifest) -> Result<()> {
    let folder = dist();
    let shipped = Manifest::read(&folder)?;
    if shipped.toolchain != manifest.toolchain {
        eprintln!(
            "!!! SKIPPED: the shipped components were built by `{}`, and this is `{}`; the bytes cannot be compared. The guests compile and compose here.",
            shipped.toolchain, manifest.toolchain
        );
        return Ok(());
    }
    let mut differ = Vec::new();
    for (name, bytes) in files {
        match fs::read(folder.join(name)) {
            Ok(shipped) if shipped == *bytes => eprintln!("same  {name}"),
            Ok(_) => differ.push(name.as_str()),
            Err(_) => differ.push(name.as_str()),
        }
    }
    if shipped != *manifest {
        differ.push(manifest::NAME);
    }
    if !differ.is_empty() {
        bail!(
            "not what the sources give: {}; run `cargo guests` and commit guest/dist",
            differ.join(", ")
        );
    }
    Ok(())
}
