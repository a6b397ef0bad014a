//! Builds the guests, and checks that the committed components match the sources.
//!
//! - [`guests`]: the table of guests; which of them ship
//! - [`toolchain`]: compiles them, the same way on every machine
//! - [`component`]: makes components of the output, and composes them
//! - [`manifest`]: describes the components of a folder and what they were made from
//! - [`inputs`], on [`workspace`] and [`profile`]: what that is

pub mod component;
pub mod guests;
pub mod inputs;
pub mod manifest;
pub mod profile;
pub mod toolchain;
pub mod workspace;

use std::path::{Path, PathBuf};

/// The top folder of the project.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate lies two folders below the top folder")
        .to_owned()
}
