//! What a component is and what it needs, before anything of it runs.

use std::path::Path;

pub use halfopen_compose::{Declared, Interfaces, Kind, Style};
use wasmtime::Engine;
use wasmtime::component::Component;

pub use super::needs::Needs;
use super::{EngineOptions, LoadError, file};

/// The first bytes of a binary component, and of a core module.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const CORE_MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Reads a binary component from a file.
///
/// # Errors
/// If the file cannot be read, or does not begin like a component.
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = file::read(path)?;
    check_preamble(&bytes)?;
    Ok(bytes)
}

/// Checks that bytes begin like a binary component.
///
/// # Errors
/// If they do not; the error tells a core module and a text file from a damaged component.
pub(super) fn check_preamble(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes.first_chunk::<8>() {
        Some(&COMPONENT) => Ok(()),
        Some(&CORE_MODULE) => Err(LoadError::CoreModule),
        Some(other) if other.starts_with(b"\0asm") => Err(LoadError::Invalid(format!(
            "a binary format of version {:02x?}, which is not known",
            &other[4..]
        ))),
        _ => Err(LoadError::NotWasm),
    }
}

/// Compiles the component in a file to native code for this machine.
///
/// The configuration of the engine is part of the result, and [`EngineOptions::concurrency`]
/// has to suit the component: only an engine with the same configuration takes the code, and
/// only where precompiled code is allowed. `None` makes the engine that a
/// [`Server`](crate::Server) or [`Program`](crate::Program) would make.
///
/// [`EngineOptions::concurrency`]: crate::EngineOptions::concurrency
///
/// # Errors
/// If the file cannot be read, or holds no valid component.
pub fn precompile(engine: Option<&Engine>, path: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = read(path)?;
    let own;
    let engine = match engine {
        Some(engine) => engine,
        None => {
            let options = EngineOptions {
                concurrency: !is_callback_style(&bytes),
                ..EngineOptions::default()
            };
            own = options.build()?;
            &own
        }
    };
    engine
        .precompile_component(&bytes)
        .map_err(|error| LoadError::Invalid(one_line(&error)))
}

/// Returns whether a component exports `wasi:cli/run` in a version of this host, so that a
/// [`Program`](crate::Program) can be made of it, whatever else it exports.
#[must_use]
pub fn runs(interfaces: &Interfaces) -> bool {
    interfaces
        .exports
        .iter()
        .any(|name| name.starts_with("wasi:cli/run@0.3.0") || name.starts_with("wasi:cli/run@0.2."))
}

/// The exports of a service that works without connections, where it is
/// [kept running](crate::ServerBuilder::keep_running).
const ALONE: [&str; 2] = [
    "halfopen:tcp/starting@0.1.0",
    "halfopen:tcp/background@0.1.0",
];

/// Returns whether a service works without connections.
#[must_use]
pub fn works_alone(interfaces: &Interfaces) -> bool {
    let exports = &interfaces.exports;
    exports.iter().any(|name| ALONE.contains(&name.as_str()))
}

/// Returns whether this host provides an interface, such as `wasi:cli/stdout@0.3.0`, in a
/// compatible version.
#[must_use]
pub fn provides(import: &str) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let version: Vec<&str> = version.split('.').collect();
    match (
        name.split_once('/').map_or(name, |(package, _)| package),
        &version[..],
    ) {
        ("halfopen:tcp", ["0", "1", _]) => {
            matches!(
                name,
                "halfopen:tcp/types"
                    | "halfopen:tcp/connections"
                    | "halfopen:tcp/options"
                    | "halfopen:tcp/peer"
                    | "halfopen:tcp/secure"
                    | "halfopen:tcp/listeners"
                    | "halfopen:tcp/outbound"
                    | "halfopen:tcp/sockets"
                    | "halfopen:tcp/connecting"
                    | "halfopen:tcp/naming"
                    | "halfopen:tcp/piping"
                    | "halfopen:tcp/timers"
                    | "halfopen:tcp/socket-peer"
                    | "halfopen:tcp/topics"
                    | "halfopen:tcp/subscribing"
                    | "halfopen:tcp/topic-streams"
                    | "halfopen:tcp/socket-secure"
            )
        }
        ("wasi:io", ["0", "2", _]) => true,
        ("wasi:keyvalue", ["0", "2", "0-draft2"]) => {
            matches!(
                name,
                "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch"
            )
        }
        (
            "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:random" | "wasi:sockets",
            ["0", "2", _] | ["0", "3", "0"],
        ) => true,
        _ => false,
    }
}

/// Returns whether a component asks for state, `wasi:keyvalue`.
#[must_use]
pub fn asks_for_state(interfaces: &Interfaces) -> bool {
    let asks = |import: &String| import.starts_with("wasi:keyvalue/");
    interfaces.imports.iter().any(asks)
}

/// Returns whether this host provides another version of an interface.
pub(super) fn provides_another_version(import: &str) -> bool {
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    ["0.2.0", "0.3.0"]
        .iter()
        .any(|version| provides(&format!("{name}@{version}")))
}

/// Returns whether a binary component is a service in callback style. What is damaged is none,
/// and fails when it is compiled.
pub(super) fn is_callback_style(component: &[u8]) -> bool {
    Interfaces::unvalidated(component)
        .is_ok_and(|interfaces| interfaces.style() == Some(Style::Callback))
}

/// Reads the interfaces of a compiled component. Precompiled code has no sections that
/// [`Interfaces::of`] could read, so wasmtime's description of its type serves for both.
pub(super) fn interfaces(engine: &Engine, component: &Component) -> Interfaces {
    let ty = component.component_type();
    let mut interfaces = Interfaces {
        imports: ty
            .imports(engine)
            .map(|(name, _)| name.to_owned())
            .collect(),
        exports: ty
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .collect(),
    };
    interfaces.imports.sort();
    interfaces.exports.sort();
    interfaces
}

/// Formats an error's chain of causes as one line, without wasmtime's backtraces.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: &[u8] = include_bytes!("../../dist/echo.wasm");

    #[test]
    fn precompiled_code_has_the_kind_of_its_component() {
        let engine = EngineOptions::default().build().unwrap();
        let component = Component::from_binary(&engine, ECHO).unwrap();
        let compiled = interfaces(&engine, &component);
        let binary = Interfaces::of(ECHO).unwrap();
        assert_eq!(compiled.kind(), Kind::Service);
        assert_eq!(compiled.kind(), binary.kind());
        assert_eq!(compiled.exports, binary.exports);
    }
}
