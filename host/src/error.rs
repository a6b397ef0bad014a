//! Why a component cannot be run.

use std::io;
use std::path::PathBuf;

use crate::tls::TlsError;

/// Why a component could not be loaded. The text is one line, with the cause and
/// what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The bytes are no WebAssembly at all.
    #[error(
        "not a WebAssembly component: it does not begin with `\\0asm`; build one with `cargo build --target wasm32-wasip2`"
    )]
    NotWasm,
    /// A core module was given.
    #[error(
        "a core WebAssembly module, not a component; build it for the target wasm32-wasip2, or make a component of it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The bytes are damaged, or use a feature that is not supported.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// A component for something else.
    #[error("a component of another world: {expected}; this one exports {found}")]
    WrongWorld {
        /// What would have been accepted.
        expected: &'static str,
        /// What it exports instead.
        found: String,
    },
    /// A version of WASI that this host does not have.
    #[error(
        "wrong WASI version: it imports `{import}`, and this host has WASI 0.3.0 and 0.2.x; rebuild the component with a current toolchain"
    )]
    WasiVersion {
        /// The import.
        import: String,
    },
    /// An import that the host does not have.
    #[error("missing import: it needs `{import}`, which this host does not provide; {hint}")]
    MissingImport {
        /// The import.
        import: String,
        /// What could be done.
        hint: &'static str,
    },
    /// An import whose name is known and whose type is not the host's.
    #[error("an import does not fit: {0}")]
    WrongImport(String),
    /// Native code, which is run only on request: it could do anything.
    #[error("`{}` holds precompiled native code, which is not sandboxed before it runs; if you compiled it yourself, add `--allow-precompiled`", path.display())]
    PrecompiledDenied {
        /// The file.
        path: PathBuf,
    },
    /// Native code of another wasmtime, machine or configuration.
    #[error(
        "precompiled code that does not fit this host: {0}; compile it again with `halfopen compile`"
    )]
    PrecompiledMismatch(String),
    /// The files of TLS.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] TlsError),
    /// The engine itself.
    #[error("cannot set up wasmtime: {0:#}")]
    Engine(wasmtime::Error),
}
