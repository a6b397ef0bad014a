//! The call stack of a trap, without what is the same in every one: a panic in Rust is some
//! twenty functions deep in the standard library and the runtime.

use std::fmt::Write;

use wasmtime::{FrameInfo, WasmBacktrace};

/// The most functions that are listed.
const LISTED: usize = 12;

/// The crates whose functions are no guest's own: Rust's libraries and allocators, and what
/// carries the SDK.
const CRATES: [&str; 21] = [
    "__rustc",
    "alloc",
    "compiler_builtins",
    "core",
    "dlmalloc",
    "futures",
    "futures_channel",
    "futures_core",
    "futures_executor",
    "futures_io",
    "futures_sink",
    "futures_task",
    "futures_util",
    "halfopen_guest",
    "hashbrown",
    "memchr",
    "panic_abort",
    "panic_unwind",
    "std",
    "wit_bindgen",
    "wit_bindgen_rt",
];

/// Describes the call stack: the guest's own functions, innermost first, and how many others
/// there are. Where none is known to be the guest's own, as in a component without names, the
/// innermost ones are listed.
pub(super) fn describe(backtrace: &WasmBacktrace) -> String {
    let frames: Vec<_> = backtrace.frames().iter().map(Frame::of).collect();
    list(&frames)
}

/// One function on the call stack.
struct Frame {
    /// Its name without the hash that the compiler adds; `None` if the component has no names.
    name: Option<String>,
    /// Where it is: a line, if the component has debug information, or else an offset into
    /// the module, or the number of the function.
    place: String,
}

impl Frame {
    fn of(frame: &FrameInfo) -> Self {
        let symbol = frame.symbols().first();
        let name = symbol.and_then(|symbol| symbol.name());
        let name = name.or_else(|| frame.func_name());
        let place = match (symbol, frame.module_offset()) {
            (Some(symbol), _) if symbol.file().is_some() => {
                let file = symbol.file().unwrap_or_default();
                match symbol.line() {
                    Some(line) => format!("{file}:{line}"),
                    None => file.to_owned(),
                }
            }
            (_, Some(offset)) => format!("{offset:#x}"),
            (_, None) => format!("function {}", frame.func_index()),
        };
        Frame {
            name: name.map(|name| format!("{:#}", rustc_demangle::demangle(name))),
            place,
        }
    }

    fn is_own(&self) -> bool {
        self.name.as_deref().is_some_and(is_own)
    }
}

/// Returns whether a function is the guest's own: a path that begins with none of [`CRATES`].
/// An implementation, `<shop::Cart as core::fmt::Display>::fmt`, belongs to its type.
fn is_own(name: &str) -> bool {
    let path = name.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
    let path = path.strip_prefix("dyn ").unwrap_or(path);
    let path = path.strip_prefix("mut ").unwrap_or(path);
    // Functions of C, and those that linkers make, have no path.
    let Some((first, _)) = path.split_once("::") else {
        return false;
    };
    // Rust can print the hash of a crate after its name: `std[d123b7a1a2ed1472]`.
    let first = first.split_once('[').map_or(first, |(name, _)| name);
    !CRATES.contains(&first)
}

fn list(frames: &[Frame]) -> String {
    if frames.is_empty() {
        return String::new();
    }
    let mut own: Vec<_> = frames.iter().filter(|frame| frame.is_own()).collect();
    if own.is_empty() {
        own = frames.iter().collect();
    }
    own.truncate(LISTED);
    let mut list = "wasm backtrace:".to_owned();
    for frame in &own {
        let name = frame.name.as_deref().unwrap_or("<unknown>");
        // Writing to a string never fails.
        let _ = write!(list, "\n    {name} ({})", frame.place);
    }
    match frames.len() - own.len() {
        0 => {}
        more => {
            let _ = write!(
                list,
                "\n    and {more} more, in the standard library and the runtime"
            );
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[Option<&str>]) -> Vec<Frame> {
        let frame = |name: &Option<&str>| Frame {
            name: name.map(|name| format!("{:#}", rustc_demangle::demangle(name))),
            place: "0x10".to_owned(),
        };
        names.iter().map(frame).collect()
    }

    #[test]
    fn only_the_guests_own_functions_are_listed() {
        let stack = frames(&[
            Some("abort"),
            Some("std[d123b7a1a2ed1472]::process::abort"),
            Some("_ZN4core9panicking9panic_fmt17h0123456789abcdefE"),
            Some("_ZN5shout5parse17h727029e349c24bafE"),
            Some("<shout::Shout as halfopen_guest::events::Events>::data"),
            Some(
                "<futures_util::stream::FuturesUnordered<Fut> as futures_core::Stream>::poll_next",
            ),
            Some("halfopen_guest::task::Tasks::poll"),
        ]);
        assert_eq!(
            list(&stack),
            "wasm backtrace:\n    \
             shout::parse (0x10)\n    \
             <shout::Shout as halfopen_guest::events::Events>::data (0x10)\n    \
             and 5 more, in the standard library and the runtime"
        );
    }

    #[test]
    fn without_names_the_innermost_are_listed() {
        let stack = frames(&[None; 20]);
        let text = list(&stack);
        assert_eq!(text.lines().count(), 1 + LISTED + 1, "{text}");
        assert!(text.contains("\n    <unknown> (0x10)"), "{text}");
        assert_eq!(list(&[]), "");
    }
}
