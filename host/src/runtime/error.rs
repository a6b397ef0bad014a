//! Why a component cannot be run.

use std::io;
use std::path::PathBuf;

use halfopen_compose::{Interfaces, Kind};

/// The reason why a component could not be loaded, as one line of text.
///
/// The text states facts. A command adds the help that names its own flags.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A folder that is granted cannot be read.
    #[error("cannot grant the folder `{}`: {error}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The bytes are not WebAssembly.
    #[error("not a WebAssembly component: it does not begin with `\\0asm`")]
    NotWasm,
    /// The bytes are a core module, not a component.
    #[error("a core WebAssembly module, not a component")]
    CoreModule,
    /// The bytes are damaged, or use a feature that is not supported.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// The component is of a kind that this builder does not take.
    #[error("a component of another world: expected {}; this one exports {}", wanted(*expected), interfaces.exports_listed())]
    WrongKind {
        /// The kind that the builder takes: [`Kind::Service`] or [`Kind::Program`].
        expected: Kind,
        /// The interfaces of the component, which determine its kind.
        interfaces: Interfaces,
    },
    /// The component imports a version of WASI that this host does not have.
    #[error("wrong WASI version: it imports `{import}`, and this host has WASI 0.3.0 and 0.2.x")]
    WasiVersion {
        /// The name of the import.
        import: String,
    },
    /// The component imports an interface that this host does not have.
    #[error("missing import: it needs `{import}`, which this host does not provide")]
    MissingImport {
        /// The name of the import.
        import: String,
    },
    /// The component imports an interface of this host with another type.
    #[error("an import does not fit: {0}")]
    WrongImport(String),
    /// The source holds native code, which the builder does not allow: it could do
    /// anything.
    #[error(
        "{} holds precompiled native code, which is not sandboxed before it runs",
        path.as_ref().map_or_else(|| "it".to_owned(), |path| format!("`{}`", path.display()))
    )]
    PrecompiledDenied {
        /// The file; `None` if the bytes came from memory.
        path: Option<PathBuf>,
    },
    /// The native code is for another version of wasmtime, machine or configuration.
    #[error("precompiled code that does not fit this host: {0}")]
    PrecompiledMismatch(String),
    /// An instance for one connection cannot be kept running.
    #[error("only an instance that connections share can be kept running")]
    KeptWithoutSharing,
    /// The engine cannot be set up.
    #[error("cannot set up wasmtime: {0:#}")]
    Engine(wasmtime::Error),
}

/// What a builder takes, for people.
fn wanted(expected: Kind) -> &'static str {
    match expected {
        Kind::Service => {
            "a service, which exports `halfopen:tcp/events@0.1.0` or `halfopen:tcp/handler@0.1.0`"
        }
        _ => "a program, which exports `wasi:cli/run` of WASI 0.3.0 or 0.2",
    }
}
