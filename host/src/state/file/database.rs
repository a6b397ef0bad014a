//! Opens a database.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageError};

use super::tables::prepare;
use crate::state::OpenError;

/// What the database keeps in memory. The kernel keeps more.
const CACHE: usize = 64 << 20;

/// How a database begins (redb, `docs/design.md`).
const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Permissions of a new file: nobody but this user reads it.
const MODE: u32 = 0o600;

/// Opens a file again after a failure.
pub(super) fn again(path: &Path) -> Result<Database, OpenError> {
    let (file, _) = prepare_file(path)?;
    database(path, file)
}

/// Opens or makes the file, and looks whether it could be a database.
pub(super) fn prepare_file(path: &Path) -> Result<(File, (u64, u64)), OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .map_err(|error| failed(path, error))?;
    let metadata = file.metadata().map_err(|error| failed(path, error))?;
    let not = |why: &str| OpenError::NotState {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    if !metadata.is_file() {
        return Err(not("it is no regular file"));
    }
    if metadata.len() > 0 {
        let mut begin = Vec::new();
        let read = (&file).take(MAGIC.len() as u64).read_to_end(&mut begin);
        read.map_err(|error| failed(path, error))?;
        if begin != MAGIC {
            return Err(not("it is a file of another kind"));
        }
    }
    Ok((file, (metadata.dev(), metadata.ino())))
}

/// Opens a database and checks its tables.
pub(super) fn database(path: &Path, file: File) -> Result<Database, OpenError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    let shown = path.display().to_string();
    let said = AtomicBool::new(false);
    builder.set_repair_callback(move |_| {
        if !said.swap(true, Ordering::Relaxed) {
            tracing::info!("the state `{shown}` was not closed properly, and is repaired");
        }
    });
    let opened = FileBackend::new(file).and_then(|file| builder.create_with_backend(file));
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
            path: path.to_owned(),
        },
        DatabaseError::Storage(StorageError::Io(error)) => failed(path, error),
        error => OpenError::NotState {
            path: path.to_owned(),
            why: error.to_string(),
        },
    })?;
    let prepared = (|| {
        let transaction = database.begin_write()?;
        let prepared = prepare(&transaction)?;
        match prepared {
            Ok(()) => transaction.commit()?,
            Err(_) => transaction.abort()?,
        }
        Ok::<_, redb::Error>(prepared)
    })();
    let why = match prepared {
        Ok(Ok(())) => return Ok(database),
        Ok(Err(why)) => why,
        Err(redb::Error::Io(error)) => return Err(failed(path, error)),
        Err(error) => error.to_string(),
    };
    Err(OpenError::NotState {
        path: path.to_owned(),
        why,
    })
}

pub(super) fn failed(path: &Path, error: io::Error) -> OpenError {
    OpenError::File {
        path: path.to_owned(),
        error,
    }
}
