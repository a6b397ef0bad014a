//! What the SDK uses of WASI, in the version that the style of the component has.
//!
//! A component must not import what its host does not have, and the linker keeps every
//! function that something may call. So the code that both styles share calls WASI through
//! pointers, which the code that starts a style sets.

use std::sync::OnceLock;

/// One of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// The functions of WASI, in one of its versions.
pub(crate) struct Wasi {
    /// Prints one line, which ends with a newline.
    pub(crate) print: fn(Output, String),
}

static WASI: OnceLock<&Wasi> = OnceLock::new();

/// Sets the version. Only the first call counts.
pub(crate) fn set(wasi: &'static Wasi) {
    WASI.get_or_init(|| wasi);
}

/// Returns the functions; `None` before the component has started.
pub(crate) fn get() -> Option<&'static Wasi> {
    WASI.get().copied()
}
