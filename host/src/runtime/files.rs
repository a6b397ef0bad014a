//! What `wasi:filesystem` denies a component, which is counted and logged.
//!
//! `wasmtime-wasi` denies by itself, and tells the component alone: the functions by which a
//! component finds its folders, and opens what lies in them, are replaced by ones that look at
//! the outcome.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem as p2;
use wasmtime_wasi::p3::bindings::filesystem as p3;

use super::store::State;
use crate::tcp::Denied;

type Store<'s> = StoreContextMut<'s, State>;

impl State {
    /// Reports that the component looks for folders, if it has none.
    fn looks_for_folders(&self) {
        let granted = self.granted();
        if granted.folders.is_empty() {
            granted.denied(&files("use files: no folder is granted"));
        }
    }

    /// Reports that the component was not permitted to open something.
    fn not_opened(&self) {
        let text = "open what lies outside of its folders, or change what it may only read";
        self.granted().denied(&files(text));
    }
}

/// What a component may not do. The text is the same for every path, which the component chooses.
fn files(text: &str) -> Denied {
    Denied::other("files", format!("the component may not {text}"))
}

/// Replaces functions of WASI 0.3.
pub(super) fn watch(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance("wasi:filesystem/preopens@0.3.0")?
        .func_wrap("get-directories", |mut store: Store<'_>, ()| {
            let state = store.data_mut();
            state.looks_for_folders();
            Ok((p3::preopens::Host::get_directories(
                &mut state.filesystem(),
            )?,))
        })?;
    type Open = (
        Resource<p3::types::Descriptor>,
        p3::types::PathFlags,
        String,
        p3::types::OpenFlags,
        p3::types::DescriptorFlags,
    );
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor, (folder, path_flags, path, open_flags, flags): Open| {
            Box::pin(async move {
                use p3::types::{ErrorCode, HostDescriptorWithStore};
                let files = accessor.with_getter::<WasiFilesystem>(State::filesystem);
                let opening = WasiFilesystem::open_at;
                let opened = opening(&files, folder, path_flags, path, open_flags, flags).await;
                Ok((match opened {
                    Ok(opened) => Ok(opened),
                    Err(error) => {
                        let code: ErrorCode = error.downcast()?;
                        if matches!(code, ErrorCode::NotPermitted | ErrorCode::ReadOnly) {
                            accessor.with(|mut store| store.data_mut().not_opened());
                        }
                        Err(code)
                    }
                },))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Replaces functions of WASI 0.2.
pub(super) fn watch_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance("wasi:filesystem/preopens@0.2.12")?
        .func_wrap("get-directories", |mut store: Store<'_>, ()| {
            let state = store.data_mut();
            state.looks_for_folders();
            Ok((p2::preopens::Host::get_directories(
                &mut state.filesystem(),
            )?,))
        })?;
    type Open = (
        Resource<p2::types::Descriptor>,
        p2::types::PathFlags,
        String,
        p2::types::OpenFlags,
        p2::types::DescriptorFlags,
    );
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>, (folder, path_flags, path, open_flags, flags): Open| {
            Box::new(async move {
                use p2::types::{ErrorCode, HostDescriptor};
                let state = store.data_mut();
                let mut files = state.filesystem();
                let opening = files.open_at(folder, path_flags, path, open_flags, flags);
                Ok((match opening.await {
                    Ok(opened) => Ok(opened),
                    Err(error) => {
                        let code: ErrorCode = error.downcast()?;
                        if matches!(code, ErrorCode::NotPermitted | ErrorCode::ReadOnly) {
                            state.not_opened();
                        }
                        Err(code)
                    }
                },))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
