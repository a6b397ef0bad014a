//! The manifest of a set: its components, and what they were made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use halfopen_compose::Interfaces;
use serde::{Deserialize, Serialize};

use crate::component::Files;
use crate::guests::Set;
use crate::inputs::{Inputs, sha256};

/// The file name of a manifest, beside the components.
pub const NAME: &str = "manifest.json";

/// The content of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The compiler's version.
    pub toolchain: String,
    /// The target that it compiled for.
    pub target: String,
    /// The components, by file name.
    pub components: BTreeMap<String, Component>,
    /// What the components were made from.
    #[serde(flatten)]
    pub inputs: Inputs,
}

/// The description of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its size in bytes.
    pub size: usize,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
}

impl Manifest {
    /// Describes the components `files` of a set, made from the sources under `root`.
    ///
    /// # Errors
    /// If an input cannot be read, or a file is not a component.
    pub fn new(
        root: &Path,
        set: Set,
        toolchain: String,
        target: String,
        files: &Files,
    ) -> Result<Self> {
        let components = files
            .iter()
            .map(|(name, bytes)| Ok((name.clone(), Component::of(bytes)?)))
            .collect::<Result<_>>()?;
        Ok(Manifest {
            toolchain,
            target,
            components,
            inputs: Inputs::of(root, set)?,
        })
    }

    /// Reads the manifest in `folder`.
    ///
    /// # Errors
    /// If there is no manifest, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` is damaged", path.display()))
    }

    /// The manifest as the text of its file.
    ///
    /// # Errors
    /// Never, in practice.
    pub fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Component {
    /// Describes a component.
    ///
    /// # Errors
    /// If `bytes` is not a component.
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
