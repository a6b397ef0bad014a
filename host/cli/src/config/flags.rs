//! Keys and variables as flags for clap to parse.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};

/// The flag for a key with a value.
pub(super) fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value.into());
    flag
}

/// The reason in clap's message, on one line. The caller names the key instead of the flag.
pub(super) fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    // The message begins with the flag and its value, as in "invalid value 'x' for
    // '--watch': why".
    if let Some((_, why)) = first.split_once("': ") {
        return why.to_owned();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            format!("write one of: {}", values.join(", "))
        }
        _ => first.to_owned(),
    }
}
