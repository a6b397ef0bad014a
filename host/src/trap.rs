//! What a trap looks like in the log.

use std::fmt::Write as _;

use wasmtime::{Error, WasmBacktrace};

/// The cause in one line, then where in the component it happened.
///
/// The host's own call stack, which wasmtime's errors can carry as well, is left
/// out: it is the same for every trap.
pub fn describe_trap(error: &Error) -> String {
    let mut text = error.root_cause().to_string();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let _ = write!(text, "\n{backtrace}");
    }
    text.trim_end().to_owned()
}
