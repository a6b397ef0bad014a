//! The arguments and environment variables that the host grants.
//!
//! Both styles use the interface of WASI 0.2, which every host of WASI 0.3 has as well.

use std::sync::OnceLock;

use crate::bindings::wasi_0_2::wasi::cli0_2_0::environment;

/// Returns the arguments, without the program's name.
#[must_use]
pub fn args() -> Vec<String> {
    // The arguments never change, and a service may call this for each connection.
    static ARGS: OnceLock<Vec<String>> = OnceLock::new();
    let args = ARGS.get_or_init(environment::get_arguments);
    args.iter().skip(1).cloned().collect()
}

/// Returns the value of an environment variable; `None` if the host does not grant it.
#[must_use]
pub fn var(name: &str) -> Option<String> {
    environment::get_environment()
        .into_iter()
        .find_map(|(key, value)| (key == name).then_some(value))
}
