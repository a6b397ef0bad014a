//! The arguments of a composed service.

use crate::Adapter;
use crate::exports::wasi::cli0_3_0::environment::Guest;
use crate::wasi::cli0_3_0::environment;

impl Guest for Adapter {
    fn get_environment() -> Vec<(String, String)> {
        environment::get_environment()
    }

    /// Returns the program's name and the arguments after the first `--`; the arguments
    /// before it are the acceptor's.
    fn get_arguments() -> Vec<String> {
        let mut arguments = environment::get_arguments().into_iter();
        let name = arguments.next();
        name.into_iter()
            .chain(arguments.skip_while(|argument| argument != "--").skip(1))
            .collect()
    }

    fn get_initial_cwd() -> Option<String> {
        environment::get_initial_cwd()
    }
}
