//! What a trap looks like in the log.

use std::fmt::Write as _;
use std::io;

use rustix::io::Errno;
use wasmtime::{Error, WasmBacktrace};

/// The cause in one line, then where in the component it happened.
///
/// The host's own call stack, which wasmtime's errors can carry as well, is left
/// out: it is the same for every trap.
pub fn describe_trap(error: &Error) -> String {
    let mut text = error.root_cause().to_string();
    if error
        .root_cause()
        .downcast_ref()
        .and_then(io::Error::raw_os_error)
        == Some(Errno::NOMEM.raw_os_error())
    {
        text += " (each instance takes some mappings: raise `sysctl vm.max_map_count`, lower \
                 `--max-connections`, or use `--isolation shared`)";
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let _ = write!(text, "\n{backtrace}");
    }
    text.trim_end().to_owned()
}
