//! How a trap reads in the log.

use wasmtime::{Error, WasmBacktrace};

use super::Problem;
use super::backtrace::describe;

/// Returns the cause of a trap in one line, then the call stack within the component: its own
/// functions, and how many there are of the standard library and the runtime.
/// `advice` says what to do about a problem that an operator can solve, or nothing.
///
/// The call stack of the host, which wasmtime's errors may carry as well, is left out: it
/// is the same for every trap.
pub fn describe_trap(error: &Error, advice: impl Fn(&Problem) -> String) -> String {
    let trap = Trap::of(error);
    let explain = |problem: &Problem| problem.with_advice(&advice(problem));
    let described = format!("{}\n{}", trap.cause(explain), trap.backtrace);
    described.trim_end().to_owned()
}

/// A trap, taken apart for the log.
pub(crate) struct Trap {
    /// The cause in wasmtime's words.
    words: String,
    /// The cause, if it is one that an operator can do something about.
    problem: Option<Problem>,
    /// The call stack within the component; empty if there is none.
    pub(crate) backtrace: String,
}

impl Trap {
    pub(crate) fn of(error: &Error) -> Self {
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let backtrace = backtrace.map(describe).unwrap_or_default();
        Trap {
            words: error.root_cause().to_string(),
            problem: Problem::of(error),
            backtrace,
        }
    }

    /// Returns the cause in one line; `explain` words a problem.
    pub(crate) fn cause(&self, explain: impl Fn(&Problem) -> String) -> String {
        self.problem
            .as_ref()
            .map_or_else(|| self.words.clone(), explain)
    }
}
