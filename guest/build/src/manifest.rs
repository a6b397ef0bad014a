//! What is shipped, and what it was made from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_lock::{Lockfile, Package};
use halfopen_compose::Interfaces;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::component::Files;
use crate::guests::GUESTS;

/// The file's name, beside the components.
pub const NAME: &str = "manifest.json";

/// Folders and files that the components are made from, and nothing else.
const INPUTS: [&str; 20] = [
    "Cargo.toml",
    "rust-toolchain.toml",
    "guest/acceptor",
    "guest/adapter",
    "guest/broadcast",
    "guest/build/src",
    "guest/cases",
    "guest/digest",
    "guest/echo",
    "guest/hostile",
    "guest/lines",
    "guest/pass",
    "guest/primitives",
    "guest/proxy",
    "guest/raw",
    "guest/sdk",
    "guest/strain",
    "guest/whoami",
    "host/compose/src",
    "host/model/src",
];

/// The contract. Only its `.wit` files have a part in it.
const CONTRACT: &str = "wit";

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The compiler.
    pub toolchain: String,
    /// What it compiled for.
    pub target: String,
    /// The components, by file name.
    pub components: BTreeMap<String, Component>,
    /// The SHA-256 of each input, by path.
    pub inputs: BTreeMap<String, String>,
    /// The SHA-256 of the crates that the guests depend on: their names, versions and
    /// checksums in `Cargo.lock`.
    pub dependencies: String,
}

/// One shipped component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Bytes.
    pub size: usize,
    /// SHA-256.
    pub sha256: String,
    /// The interfaces that it needs.
    pub imports: Vec<String>,
    /// The interfaces that it has.
    pub exports: Vec<String>,
}

impl Manifest {
    /// The manifest for `files`, as made from what lies under `root` now.
    ///
    /// # Errors
    /// If an input cannot be read, or one of the files is no component.
    pub fn new(root: &Path, toolchain: String, target: String, files: &Files) -> Result<Self> {
        let components = files
            .iter()
            .map(|(name, bytes)| Ok((name.clone(), Component::of(bytes)?)))
            .collect::<Result<_>>()?;
        Ok(Manifest {
            toolchain,
            target,
            components,
            inputs: inputs(root)?,
            dependencies: dependencies(root)?,
        })
    }

    /// Reads it from the folder `dist`.
    ///
    /// # Errors
    /// If it is not there, or not as it should be.
    pub fn read(dist: &Path) -> Result<Self> {
        let path = dist.join(NAME);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` is damaged", path.display()))
    }

    /// Its text.
    ///
    /// # Errors
    /// None that could happen.
    pub fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Component {
    /// Describes a component.
    ///
    /// # Errors
    /// If it is none.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        let interfaces = Interfaces::of(bytes)?;
        Ok(Component {
            size: bytes.len(),
            sha256: sha256(bytes),
            imports: interfaces.imports,
            exports: interfaces.exports,
        })
    }
}

/// The SHA-256 of every input, by path.
///
/// # Errors
/// If one cannot be read.
pub fn inputs(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for input in INPUTS {
        hash_all(root, Path::new(input), &|_| true, &mut hashes)?;
    }
    let is_wit = |path: &Path| path.extension().is_some_and(|extension| extension == "wit");
    hash_all(root, Path::new(CONTRACT), &is_wit, &mut hashes)?;
    Ok(hashes)
}

fn hash_all(
    root: &Path,
    path: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    hashes: &mut BTreeMap<String, String>,
) -> Result<()> {
    let full = root.join(path);
    let cannot = || format!("cannot read `{}`", full.display());
    let kind = fs::symlink_metadata(&full)
        .with_context(cannot)?
        .file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(&full).with_context(cannot)? {
            hash_all(root, &path.join(entry?.file_name()), wanted, hashes)?;
        }
    } else if kind.is_file() && wanted(path) {
        let hash = sha256(&fs::read(&full).with_context(cannot)?);
        hashes.insert(path.to_string_lossy().into_owned(), hash);
    }
    // A link leads to the contract, which is an input of its own.
    Ok(())
}

/// The SHA-256 of what `Cargo.lock` says of all crates that the guests are made of.
///
/// # Errors
/// If it cannot be read.
pub fn dependencies(root: &Path) -> Result<String> {
    let lock = Lockfile::load(root.join("Cargo.lock")).context("cannot read `Cargo.lock`")?;
    let mut queue: VecDeque<&Package> = lock
        .packages
        .iter()
        .filter(|package| {
            GUESTS
                .iter()
                .any(|guest| guest.package() == package.name.as_str())
        })
        .collect();
    let mut lines = BTreeSet::new();
    while let Some(package) = queue.pop_front() {
        let mut line = format!("{} {}", package.name, package.version);
        if let Some(checksum) = &package.checksum {
            write!(line, " {checksum}")?;
        }
        if lines.insert(line) {
            queue.extend(lock.packages.iter().filter(|other| {
                package
                    .dependencies
                    .iter()
                    .any(|wanted| wanted.matches(other))
            }));
        }
    }
    Ok(sha256(
        lines.into_iter().collect::<Vec<_>>().join("\n").as_bytes(),
    ))
}

/// The SHA-256 of some bytes, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
