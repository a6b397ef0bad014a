//! Folders of the host that a component may use.

use std::path::PathBuf;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::LoadError;

/// A folder that is granted.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    host: PathBuf,
    /// The name under which the component finds it.
    guest: String,
    read_only: bool,
}

impl Folder {
    /// A folder for reading and writing.
    pub(super) fn new(host: PathBuf, guest: String) -> Self {
        Folder {
            host,
            guest,
            read_only: false,
        }
    }

    pub(super) fn read_only(self) -> Self {
        Folder {
            read_only: true,
            ..self
        }
    }

    /// Checks that the folder can be read.
    ///
    /// # Errors
    /// If it is missing, is no folder, or this process may not read it.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        match std::fs::read_dir(&self.host) {
            Ok(_) => Ok(()),
            Err(error) => Err(LoadError::Folder {
                path: self.host.clone(),
                error,
            }),
        }
    }

    /// Opens the folder for one instance.
    ///
    /// # Errors
    /// If it has gone since [`check`](Self::check); the text says so.
    pub(super) fn open(&self, wasi: &mut WasiCtxBuilder) -> Result<(), String> {
        let perms = match self.read_only {
            true => FsPerms::ReadOnly,
            false => FsPerms::ReadWrite,
        };
        match wasi.preopened_dir(&self.host, &self.guest, perms) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "the component cannot use the folder `{}`, which was granted: {}",
                self.host.display(),
                error.root_cause()
            )),
        }
    }
}
