//! From a file to a component that can be instantiated.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::LoadError;
use super::component::{
    Interfaces, Kind, Needs, check_preamble, interfaces, one_line, provides,
    provides_another_version, read_file,
};
use super::engine::EngineOptions;
use super::linker::linker;
use super::store::State;

/// Where a component comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A file: a binary component or, where that is allowed, precompiled code.
    File(PathBuf),
    /// A binary component in memory.
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

impl Source {
    /// Reads the component and compiles it, or takes the compiled code from the cache.
    ///
    /// # Errors
    /// If the file cannot be read, does not hold a component, or holds precompiled code
    /// and `allow_precompiled` is false.
    pub fn load(&self, engine: &Engine, allow_precompiled: bool) -> Result<Component, LoadError> {
        self.compile(engine, &self.bytes()?, allow_precompiled)
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>, LoadError> {
        Ok(match self {
            Source::Bytes(bytes) => bytes.into(),
            Source::File(path) => read_file(path)?.into(),
        })
    }

    fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        allow_precompiled: bool,
    ) -> Result<Component, LoadError> {
        let component = match (Engine::detect_precompiled(bytes), self) {
            (None, _) => {
                check_preamble(bytes)?;
                Component::from_binary(engine, bytes)
                    .map_err(|error| LoadError::Invalid(one_line(&error)))?
            }
            (Some(_), Source::File(path)) if allow_precompiled => precompiled(engine, path)?,
            (Some(_), Source::File(path)) => {
                let path = Some(path.clone());
                return Err(LoadError::PrecompiledDenied { path });
            }
            (Some(_), Source::Bytes(_)) => {
                return Err(LoadError::PrecompiledDenied { path: None });
            }
        };
        // The first instance would create the image otherwise. That takes a descriptor, and
        // connections may have used up all of them by then.
        component
            .initialize_copy_on_write_image()
            .map_err(LoadError::Engine)?;
        Ok(component)
    }
}

#[allow(unsafe_code, reason = "the operator vouches for precompiled code")]
fn precompiled(engine: &Engine, path: &Path) -> Result<Component, LoadError> {
    // SAFETY: native code is as trusted as this program itself. The embedder states that by
    // allowing precompiled code, which is denied by default.
    unsafe { Component::deserialize_file(engine, path) }
        .map_err(|error| LoadError::PrecompiledMismatch(one_line(&error)))
}

/// How a builder turns a source into something to instantiate.
#[derive(Clone, Debug)]
pub(crate) struct Loading {
    /// The embedder's own engine.
    pub(crate) engine: Option<Engine>,
    /// Whether an engine that is made here keeps compiled code on disk.
    pub(crate) cache: bool,
    pub(crate) allow_precompiled: bool,
}

/// A component that is ready to be instantiated.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) interfaces: Interfaces,
    pub(crate) pre: InstancePre<State>,
}

impl Default for Loading {
    fn default() -> Self {
        Loading {
            engine: None,
            cache: true,
            allow_precompiled: false,
        }
    }
}

impl Loading {
    /// Loads a component of the kind `expected`, with a pool for `pooled_instances` of it
    /// unless that is 0 or the embedder has an engine.
    ///
    /// # Errors
    /// If the component cannot be loaded, is of another kind, or needs what this host does
    /// not provide.
    pub(crate) fn load(
        self,
        source: &Source,
        expected: Kind,
        pooled_instances: u32,
    ) -> Result<Loaded, LoadError> {
        let bytes = source.bytes()?;
        let engine = match self.engine {
            Some(engine) => engine,
            None => EngineOptions {
                cache: self.cache,
                pooled_instances,
                // Precompiled code cannot be counted and gets the usual; other bytes are
                // refused below.
                needs: Needs::of(&bytes).unwrap_or_default(),
            }
            .build()?,
        };
        let component = source.compile(&engine, &bytes, self.allow_precompiled)?;
        let interfaces = interfaces(&engine, &component);
        check_kind(&interfaces, expected)?;
        let linker = linker(&engine).map_err(LoadError::Engine)?;
        let pre = link(&linker, &component, &interfaces)?;
        Ok(Loaded {
            engine,
            interfaces,
            pre,
        })
    }
}

fn check_kind(interfaces: &Interfaces, expected: Kind) -> Result<(), LoadError> {
    let found = interfaces.kind();
    match (expected, found) {
        // A command is a program that does without the primitives.
        (Kind::Program, Kind::Command) => Ok(()),
        _ if found == expected => Ok(()),
        _ => Err(LoadError::WrongKind {
            expected,
            interfaces: interfaces.clone(),
        }),
    }
}

/// Checks a component's imports against the linker.
///
/// # Errors
/// If an import is missing, or of another type; the error names it.
fn link<T: 'static>(
    linker: &Linker<T>,
    component: &Component,
    interfaces: &Interfaces,
) -> Result<InstancePre<T>, LoadError> {
    linker.instantiate_pre(component).map_err(|error| {
        let missing = interfaces.imports.iter().find(|name| !provides(name));
        match missing.cloned() {
            Some(import) if import.starts_with("wasi:") && provides_another_version(&import) => {
                LoadError::WasiVersion { import }
            }
            Some(import) => LoadError::MissingImport { import },
            None => LoadError::WrongImport(one_line(&error)),
        }
    })
}
