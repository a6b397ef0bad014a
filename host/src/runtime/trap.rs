//! How a trap reads in the log.

use wasmtime::{Error, WasmBacktrace};

use super::Problem;

/// Returns the cause of a trap in one line, then the call stack within the component.
///
/// The call stack of the host, which wasmtime's errors may carry as well, is left out: it
/// is the same for every trap.
pub fn describe_trap(error: &Error) -> String {
    let trap = Trap::of(error);
    let cause = trap.problem.as_ref().map(ToString::to_string);
    let cause = cause.unwrap_or(trap.cause);
    format!("{cause}\n{}", trap.backtrace).trim_end().to_owned()
}

/// A trap, taken apart for the log.
pub(crate) struct Trap {
    /// The cause in wasmtime's words.
    pub(crate) cause: String,
    /// The cause, if it is one that an operator can do something about.
    pub(crate) problem: Option<Problem>,
    /// The call stack within the component; empty if there is none.
    pub(crate) backtrace: String,
}

impl Trap {
    pub(crate) fn of(error: &Error) -> Self {
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let backtrace = backtrace.map(ToString::to_string).unwrap_or_default();
        Trap {
            cause: error.root_cause().to_string(),
            problem: Problem::of(error),
            backtrace: backtrace.trim_end().to_owned(),
        }
    }
}
