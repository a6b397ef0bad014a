//! From a file to a component that can be instantiated.

use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::engine::Needs;
use crate::error::LoadError;

/// Where a component comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A file, `.wasm` or (if allowed) `.cwasm`.
    File(PathBuf),
    /// A component in memory, binary.
    Bytes(Vec<u8>),
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Source::File(path.to_owned())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Source::File(path)
    }
}

impl From<&[u8]> for Source {
    fn from(bytes: &[u8]) -> Self {
        Source::Bytes(bytes.to_owned())
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Source::Bytes(bytes)
    }
}

/// The first bytes of what can be told apart before it is compiled.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const CORE_MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

impl Source {
    /// What an instance of it has, as far as that is known.
    pub(crate) fn needs(&self) -> Result<Needs, LoadError> {
        let counted = match self {
            Source::Bytes(bytes) => Needs::of(bytes),
            Source::File(path) => Needs::of(&read_file(path)?),
        };
        // Native code, or nothing that can be served: the one is given the usual, and the
        // other is refused soon.
        Ok(counted.unwrap_or_default())
    }

    /// Reads and compiles the component, or takes it from the cache.
    ///
    /// # Errors
    /// If it cannot be read, is no component, or is precompiled and that is not
    /// allowed.
    pub fn load(&self, engine: &Engine, allow_precompiled: bool) -> Result<Component, LoadError> {
        let (path, bytes) = match self {
            Source::Bytes(bytes) => (None, bytes),
            Source::File(path) => (Some(path), &read_file(path)?),
        };
        let component = match (Engine::detect_precompiled(bytes), path) {
            (None, _) => {
                check_preamble(bytes)?;
                Component::from_binary(engine, bytes)
                    .map_err(|error| LoadError::Invalid(one_line(&error)))?
            }
            (Some(_), Some(path)) if allow_precompiled => precompiled(engine, path)?,
            (Some(_), path) => {
                let path = path.cloned().unwrap_or_default();
                return Err(LoadError::PrecompiledDenied { path });
            }
        };
        // Otherwise the first instance does it, and needs a descriptor for it when
        // there may be none left.
        component
            .initialize_copy_on_write_image()
            .map_err(LoadError::Engine)?;
        Ok(component)
    }
}

/// Compiles the component in a file to native code for this machine and
/// configuration, to be loaded where precompiled code is allowed.
///
/// # Errors
/// If it cannot be read, or is no valid component.
pub fn precompile(engine: &Engine, path: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = read(path)?;
    engine
        .precompile_component(&bytes)
        .map_err(|error| LoadError::Invalid(one_line(&error)))
}

/// Reads a component as it is, and makes sure that it is one.
///
/// # Errors
/// If the file cannot be read, or does not begin like a component.
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = read_file(path)?;
    check_preamble(&bytes)?;
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| LoadError::Read {
        path: path.to_owned(),
        error,
    })
}

/// Tells what is no component at all from what is only a bad one.
///
/// # Errors
/// If it is no binary component.
fn check_preamble(bytes: &[u8]) -> Result<(), LoadError> {
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

#[allow(unsafe_code, reason = "the operator vouches for precompiled code")]
fn precompiled(engine: &Engine, path: &Path) -> Result<Component, LoadError> {
    // SAFETY: native code is as trusted as this program itself; that is what
    // `--allow-precompiled` says, and it is off unless given.
    unsafe { Component::deserialize_file(engine, path) }
        .map_err(|error| LoadError::PrecompiledMismatch(one_line(&error)))
}

/// Checks a component's imports against the linker, and names what does not fit.
///
/// # Errors
/// If an import is missing, or of another type.
pub(crate) fn link<T: 'static>(
    linker: &Linker<T>,
    component: &Component,
) -> Result<InstancePre<T>, LoadError> {
    linker.instantiate_pre(component).map_err(|error| {
        let engine = linker.engine();
        let ty = component.component_type();
        let missing = ty
            .imports(engine)
            .map(|(name, _)| name)
            .find(|name| !provides(name));
        match missing {
            Some(import) if import.starts_with("wasi:") && wrong_version(import) => {
                LoadError::WasiVersion {
                    import: import.to_owned(),
                }
            }
            Some(import) => LoadError::MissingImport {
                import: import.to_owned(),
                hint: hint(import),
            },
            None => LoadError::WrongImport(one_line(&error)),
        }
    })
}

/// The interfaces that a component exports, by name.
pub(crate) fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    component
        .component_type()
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// A list for people.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Whether this host provides an interface, such as `wasi:cli/stdout@0.3.0`, in a
/// version that is compatible with it.
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
                    | "halfopen:tcp/listeners"
                    | "halfopen:tcp/outbound"
            )
        }
        ("wasi:io", ["0", "2", _]) => true,
        (
            "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:random" | "wasi:sockets",
            ["0", "2", _] | ["0", "3", "0"],
        ) => true,
        _ => false,
    }
}

fn wrong_version(import: &str) -> bool {
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    ["0.2.0", "0.3.0"]
        .iter()
        .any(|version| provides(&format!("{name}@{version}")))
}

fn hint(import: &str) -> &'static str {
    if import.starts_with("wasi:http/") {
        "a component for HTTP runs under `wasmtime serve`"
    } else if import.starts_with("halfopen:tcp/") {
        "it is composed or built for another version of halfopen"
    } else {
        "compose it with a component that does"
    }
}

/// The chain of causes in one line, without wasmtime's backtraces.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
