//! The arguments and environment variables that the host grants.

use std::sync::OnceLock;

use crate::wasi;

/// Returns the arguments, without the program's name.
#[must_use]
pub fn args() -> Vec<String> {
    // The arguments never change, and a service may call this for each connection.
    static ARGS: OnceLock<Vec<String>> = OnceLock::new();
    let Some(wasi) = wasi::get() else {
        return Vec::new();
    };
    let args = ARGS.get_or_init(wasi.arguments);
    args.iter().skip(1).cloned().collect()
}

/// Returns the value of an environment variable; `None` if the host does not grant it.
#[must_use]
pub fn var(name: &str) -> Option<String> {
    let variables = wasi::get().map(|wasi| (wasi.variables)());
    variables
        .into_iter()
        .flatten()
        .find_map(|(key, value)| (key == name).then_some(value))
}
