//! Arguments and environment, as far as the host grants them.

use std::sync::OnceLock;

use crate::bindings::imports::wasi::cli::environment;

/// The arguments, without the program's name.
#[must_use]
pub fn args() -> Vec<String> {
    // They do not change, and a service may ask for each connection.
    static ARGS: OnceLock<Vec<String>> = OnceLock::new();
    let args = ARGS.get_or_init(environment::get_arguments);
    args.iter().skip(1).cloned().collect()
}

/// The value of an environment variable, if the host grants one.
#[must_use]
pub fn var(name: &str) -> Option<String> {
    environment::get_environment()
        .into_iter()
        .find_map(|(key, value)| (key == name).then_some(value))
}
