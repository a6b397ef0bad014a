//! From a file to a component that can be instantiated.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::component::{
    Declared, Interfaces, Kind, Needs, Style, check_preamble, interfaces, is_callback_style,
    one_line, provides, provides_another_version, runs,
};
use super::engine::EngineOptions;
use super::linker::linker;
use super::store::State;
use super::{LoadError, file};

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
        let component = self.compile(engine, &self.bytes()?, allow_precompiled)?;
        prepare(&component)?;
        Ok(component)
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>, LoadError> {
        Ok(match self {
            Source::Bytes(bytes) => bytes.into(),
            Source::File(path) => file::read(path)?.into(),
        })
    }

    fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        allow_precompiled: bool,
    ) -> Result<Component, LoadError> {
        Ok(match (Engine::detect_precompiled(bytes), self) {
            (None, _) => {
                check_preamble(bytes)?;
                Component::from_binary(engine, bytes)
                    .map_err(|error| LoadError::Invalid(one_line(&error)))?
            }
            (Some(_), Source::File(_)) if allow_precompiled => precompiled(engine, bytes)?,
            (Some(_), Source::File(path)) => {
                let path = Some(path.clone());
                return Err(LoadError::PrecompiledDenied { path });
            }
            (Some(_), Source::Bytes(_)) => {
                return Err(LoadError::PrecompiledDenied { path: None });
            }
        })
    }
}

/// Creates the image of a component's memories, which the first instance would create
/// otherwise. That takes a descriptor, and connections may have used up all of them by then.
fn prepare(component: &Component) -> Result<(), LoadError> {
    let prepared = component.initialize_copy_on_write_image();
    prepared.map_err(LoadError::Engine)
}

#[allow(unsafe_code, reason = "the operator vouches for precompiled code")]
fn precompiled(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    // Not `deserialize_file`, which maps the file: code that runs would change with it, and
    // a truncation would end the process with SIGBUS.
    // SAFETY: native code is as trusted as this program itself. The embedder states that by
    // allowing precompiled code, which is denied by default.
    unsafe { Component::deserialize(engine, code) }
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
    /// What makes a pool for the instances; nothing in the embedder's engine.
    pub(crate) pooling: Option<Pooling>,
}

/// What makes a pool for the instances of a component.
///
/// A pool takes some milliseconds, and instances run without as well. So a server makes it
/// while it already serves.
pub(crate) struct Pooling {
    options: EngineOptions,
    component: Component,
    binary: Option<Vec<u8>>,
    interfaces: Interfaces,
    style: Style,
}

impl Pooling {
    /// Makes an engine with a pool for this many instances, and the component in it.
    ///
    /// # Errors
    /// If wasmtime does not take back what it has compiled.
    pub(crate) fn make(
        mut self,
        instances: u32,
    ) -> Result<(Engine, InstancePre<State>), LoadError> {
        self.options.pooled_instances = instances;
        let (engine, component) = pooled(self.options, &self.component, self.binary.as_deref())?;
        let pre = instantiable(&engine, &component, &self.interfaces, self.style)?;
        Ok((engine, pre))
    }
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
    /// Reads and compiles a component, in the embedder's engine or in one that is made here.
    ///
    /// # Errors
    /// If the component cannot be loaded.
    pub(crate) fn open(self, source: &Source) -> Result<Opened, LoadError> {
        let bytes = source.bytes()?;
        let compile = |engine: &Engine| source.compile(engine, &bytes, self.allow_precompiled);
        let (engine, own, component) = match &self.engine {
            Some(engine) => (engine.clone(), None, compile(engine)?),
            None => {
                let mut options = EngineOptions {
                    cache: self.cache,
                    concurrency: !is_callback_style(&bytes),
                    ..EngineOptions::default()
                };
                let engine = options.build()?;
                match compile(&engine) {
                    // Precompiled code does not say its style. It fits one of two engines.
                    Err(mismatch @ LoadError::PrecompiledMismatch(_)) => {
                        options.concurrency = !options.concurrency;
                        let other = options.build()?;
                        let component = compile(&other).map_err(|_| mismatch)?;
                        (other, Some(options), component)
                    }
                    compiled => (engine, Some(options), compiled?),
                }
            }
        };
        Ok(Opened {
            interfaces: interfaces(&engine, &component),
            binary: binary(bytes),
            engine,
            own,
            component,
        })
    }
}

/// A component that is compiled, and not yet known to fit.
pub(crate) struct Opened {
    engine: Engine,
    /// How `engine` was made, unless it is the embedder's.
    own: Option<EngineOptions>,
    component: Component,
    interfaces: Interfaces,
    /// What it was compiled from, unless it was precompiled code.
    binary: Option<Vec<u8>>,
}

impl Opened {
    /// Returns the isolation that the component declares.
    ///
    /// # Errors
    /// If it declares what excludes each other.
    pub(crate) fn declared(&self) -> Result<Option<Declared>, LoadError> {
        self.interfaces.isolation().map_err(|error| match error {
            halfopen_compose::Error::Invalid(why) => LoadError::Invalid(why),
            other => LoadError::Invalid(other.to_string()),
        })
    }

    /// Whether the component imports what begins TLS on a connection in use.
    pub(crate) fn secures(&self) -> bool {
        let begins = |name: &String| {
            let interface = name.strip_prefix("halfopen:tcp/").unwrap_or_default();
            interface.starts_with("secure@") || interface.starts_with("socket-secure@")
        };
        self.interfaces.imports.iter().any(begins)
    }

    /// Links a component of the kind `expected`.
    ///
    /// # Errors
    /// If the component is of another kind, or needs what this host does not provide.
    pub(crate) fn link(self, expected: Kind) -> Result<Loaded, LoadError> {
        check_kind(&self.interfaces, expected)?;
        let style = match expected {
            Kind::Service => self.interfaces.style(),
            _ => None,
        };
        let style = style.unwrap_or(Style::Await);
        let pre = instantiable(&self.engine, &self.component, &self.interfaces, style)?;
        let pooling = self.own.map(|options| Pooling {
            options,
            component: self.component,
            binary: self.binary,
            interfaces: self.interfaces.clone(),
            style,
        });
        Ok(Loaded {
            engine: self.engine,
            interfaces: self.interfaces,
            pre,
            pooling,
        })
    }
}

/// Prepares the instances of a component.
fn instantiable(
    engine: &Engine,
    component: &Component,
    interfaces: &Interfaces,
    style: Style,
) -> Result<InstancePre<State>, LoadError> {
    prepare(component)?;
    let linker = linker(engine, style).map_err(LoadError::Engine)?;
    link(&linker, component, interfaces)
}

/// The bytes of a component, unless they are precompiled code.
fn binary(bytes: Cow<'_, [u8]>) -> Option<Vec<u8>> {
    let precompiled = Engine::detect_precompiled(&bytes).is_some();
    (!precompiled).then(|| bytes.into_owned())
}

/// Moves a component to an engine with a pool that has room for its instances.
///
/// Only a compiled component says what its instances need, and compiling takes an engine, so
/// there are two. A pool does not change the code.
#[allow(unsafe_code, reason = "the code comes from wasmtime")]
pub(super) fn pooled(
    mut options: EngineOptions,
    component: &Component,
    binary: Option<&[u8]>,
) -> Result<(Engine, Component), LoadError> {
    // A component that imports modules is refused when it is linked.
    options.needs = Needs::of(component, binary).unwrap_or_default();
    // Nothing is compiled in this engine.
    options.cache = false;
    let engine = options.build()?;
    let code = component.serialize().map_err(LoadError::Engine)?;
    // SAFETY: the bytes are those of a compiled component, in memory that nobody else has.
    let component = unsafe { Component::deserialize(&engine, code) };
    let component = component.map_err(|error| LoadError::Invalid(one_line(&error)))?;
    Ok((engine, component))
}

fn check_kind(interfaces: &Interfaces, expected: Kind) -> Result<(), LoadError> {
    let found = interfaces.kind();
    match (expected, found) {
        // A command is a program that does without the primitives, and a service may be a
        // program as well.
        (Kind::Program, _) if runs(interfaces) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Code is trusted, but a file may be read before it is complete.
    #[test]
    fn precompiled_code_that_is_not_complete_is_refused() {
        let options = EngineOptions {
            cache: false,
            ..EngineOptions::default()
        };
        let engine = options.build().unwrap();
        let echo = include_bytes!("../../dist/echo.wasm");
        let code = engine.precompile_component(echo).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("echo.cwasm");
        let load = |length| {
            std::fs::write(&path, &code[..length]).unwrap();
            Source::from(&*path).load(&engine, true)
        };
        load(code.len()).unwrap();
        for part in 0..100 {
            assert!(load(code.len() * part / 100).is_err(), "{part} %");
        }
        assert!(load(code.len() - 1).is_err());
    }
}
