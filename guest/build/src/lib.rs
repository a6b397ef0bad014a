//! Builds the components that are shipped with halfopen, and tells whether those that
//! lie in `guest/dist` were made from the sources that lie beside them.

pub mod component;
pub mod guests;
pub mod manifest;
pub mod toolchain;

use std::path::{Path, PathBuf};

/// The top folder of the project.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate lies two folders below the top one")
        .to_owned()
}

/// Where the shipped components are.
#[must_use]
pub fn dist() -> PathBuf {
    root().join("guest/dist")
}
