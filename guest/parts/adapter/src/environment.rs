//! The environment of a composed service: that of the program, without the acceptor's
//! arguments.

use crate::Adapter;
use crate::exports::wasi::{cli0_2_0, cli0_3_0};
use crate::wasi::cli0_3_0::environment;

impl cli0_3_0::environment::Guest for Adapter {
    fn get_environment() -> Vec<(String, String)> {
        environment::get_environment()
    }

    fn get_arguments() -> Vec<String> {
        arguments()
    }

    fn get_initial_cwd() -> Option<String> {
        environment::get_initial_cwd()
    }
}

/// For services in callback style, which use WASI 0.2.
impl cli0_2_0::environment::Guest for Adapter {
    fn get_environment() -> Vec<(String, String)> {
        environment::get_environment()
    }

    fn get_arguments() -> Vec<String> {
        arguments()
    }

    fn initial_cwd() -> Option<String> {
        environment::get_initial_cwd()
    }
}

/// Returns the program's name and the arguments after the first `--`; the arguments before
/// it are the acceptor's.
fn arguments() -> Vec<String> {
    let mut arguments = environment::get_arguments().into_iter();
    let name = arguments.next();
    name.into_iter()
        .chain(arguments.skip_while(|argument| argument != "--").skip(1))
        .collect()
}
