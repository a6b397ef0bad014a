//! What the components of a set are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::guests::{Guest, Set};
use crate::profile;
use crate::workspace::{Workspace, find};

/// This crate, which compiles and composes.
const TOOL: &str = env!("CARGO_PKG_NAME");

/// The values of `[workspace.package]` that reach the compiler.
const PACKAGE: [&str; 3] = ["edition", "rust-version", "version"];

/// The hashes of everything that the components of a set depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The SHA-256 of each file, by path, and of each part of the root `Cargo.toml` that
    /// concerns the guests.
    #[serde(rename = "inputs")]
    pub sources: BTreeMap<String, String>,
    /// The SHA-256 of the names, versions and checksums in `Cargo.lock` of all packages
    /// that the guests depend on.
    pub dependencies: String,
}

impl Inputs {
    /// Hashes the inputs of `set` as they are under `root` now.
    ///
    /// # Errors
    /// If an input cannot be read.
    pub fn of(root: &Path, set: Set) -> Result<Self> {
        let workspace = Workspace::read(root)?;
        let packages = || set.sources().map(Guest::package);
        let locked: Vec<_> = workspace.locked(packages()).into_iter().collect();
        Ok(Inputs {
            sources: sources(root, &workspace, packages().collect())?,
            dependencies: sha256(locked.join("\n").as_bytes()),
        })
    }
}

fn sources(
    root: &Path,
    workspace: &Workspace,
    packages: Vec<String>,
) -> Result<BTreeMap<String, String>> {
    let mut hashes = settings(workspace, &packages)?;
    for member in workspace.reachable(packages)? {
        let manifest = format!("{}/Cargo.toml", member.folder);
        hash_all(root, &manifest, "", &mut hashes)?;
        hash_all(root, &format!("{}/src", member.folder), "", &mut hashes)?;
    }
    for member in workspace.reachable([TOOL.to_owned()])? {
        hash_all(root, &format!("{}/src", member.folder), "", &mut hashes)?;
    }
    hash_all(root, "rust-toolchain.toml", "", &mut hashes)?;
    hash_all(root, "wit", ".wit", &mut hashes)?;
    Ok(hashes)
}

/// The hashes of the parts of the root `Cargo.toml` that concern `packages`. A change of
/// anything else in this file does not change the components.
fn settings(workspace: &Workspace, packages: &[String]) -> Result<BTreeMap<String, String>> {
    let manifest = &workspace.manifest;
    let mut hashes = BTreeMap::new();
    let mut insert = |name: String, json: String| {
        hashes.insert(format!("Cargo.toml {name}"), sha256(json.as_bytes()));
    };
    let profile = profile::guest(manifest)?;
    insert(
        "[profile.guest]".to_owned(),
        serde_json::to_string(profile)?,
    );
    let package = PACKAGE.map(|key| find(manifest, &["workspace", "package", key]));
    insert(
        "[workspace.package]".to_owned(),
        serde_json::to_string(&package)?,
    );
    let members = workspace.reachable(packages.iter().cloned())?;
    let dependencies = members.iter().flat_map(|member| &member.dependencies);
    let inherited: BTreeSet<_> = dependencies
        .filter_map(|(name, inherited)| inherited.then_some(name))
        .collect();
    for name in inherited {
        let value = find(manifest, &["workspace", "dependencies", name]);
        insert(
            format!("[workspace.dependencies] {name}"),
            serde_json::to_string(&value)?,
        );
    }
    Ok(hashes)
}

/// Hashes a file, or the files of a folder and its subfolders whose names end in
/// `ending`. Links are not followed: those to `wit` lead to an input of its own.
fn hash_all(
    root: &Path,
    path: &str,
    ending: &str,
    hashes: &mut BTreeMap<String, String>,
) -> Result<()> {
    let full = root.join(path);
    let cannot = || format!("cannot read `{}`", full.display());
    let kind = fs::symlink_metadata(&full)
        .with_context(cannot)?
        .file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(&full).with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name();
            let inner = format!("{path}/{}", name.to_string_lossy());
            hash_all(root, &inner, ending, hashes)?;
        }
    } else if kind.is_file() && path.ends_with(ending) {
        let bytes = fs::read(&full).with_context(cannot)?;
        hashes.insert(path.to_owned(), sha256(&bytes));
    }
    Ok(())
}

/// The SHA-256 of `bytes`, in hexadecimal.
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
