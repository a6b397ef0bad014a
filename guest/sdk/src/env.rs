//! Arguments and environment, as far as the host grants them.

use crate::bindings::imports::wasi::cli::environment;

/// The arguments, without the program's name.
#[must_use]
pub fn args() -> Vec<String> {
    let mut args = environment::get_arguments();
    if !args.is_empty() {
        args.remove(0);
    }
    args
}

/// The value of an environment variable, if the host grants one.
#[must_use]
pub fn var(name: &str) -> Option<String> {
    environment::get_environment()
        .into_iter()
        .find_map(|(key, value)| (key == name).then_some(value))
}
