//! Opens files. Within a process, one file is one store.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::database::{database, failed, prepare_file};
use super::slot::Durability;
use super::store::FileStore;
use super::writer::Writer;
use crate::state::OpenError;

/// The files of this process, by device and inode.
static OPEN: LazyLock<Mutex<HashMap<(u64, u64), Entry>>> = LazyLock::new(Mutex::default);

struct Entry {
    store: Weak<FileStore>,
    /// The thread that closes the file at its end.
    writer: JoinHandle<()>,
}

/// Opens a file, or makes it. Returns the store of a file that this process has open.
pub(in crate::state) fn open(
    path: &Path,
    durability: Durability,
) -> Result<Arc<FileStore>, OpenError> {
    let (file, key) = prepare_file(path)?;
    // Kept throughout, so that a file is not opened twice.
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = all.remove(&key) {
        if let Some(store) = entry.store.upgrade() {
            all.insert(key, entry);
            return match store.durability == durability {
                true => Ok(store),
                false => Err(OpenError::OtherDurability {
                    path: path.to_owned(),
                }),
            };
        }
        // The last store is gone, and its writer may not have finished.
        let _ = entry.writer.join();
    }
    let path = absolute(path);
    let database = Arc::new(Mutex::new(Some(Arc::new(database(&path, file)?))));
    let (sender, orders) = channel();
    let writer = Writer::new(path.clone(), durability, database.clone(), orders);
    let thread = thread::Builder::new().name("state".to_owned());
    let writer = thread
        .spawn(move || writer.run())
        .map_err(|error| failed(&path, error))?;
    let store = Arc::new(FileStore {
        path,
        durability,
        database,
        writer: sender,
    });
    let entry = Entry {
        store: Arc::downgrade(&store),
        writer,
    };
    all.retain(|_, entry| !entry.writer.is_finished());
    all.insert(key, entry);
    Ok(store)
}

/// Waits, by blocking the thread, until every file whose stores are dropped is closed, for at most
/// `limit`. A process that ends before leaves a file that is repaired when it is opened again.
pub fn wait_closed(limit: Duration) {
    let begun = Instant::now();
    let closed = || {
        let all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().all(|entry| entry.writer.is_finished())
    };
    while !closed() && begun.elapsed() < limit {
        thread::sleep(Duration::from_millis(1));
    }
}

/// The path from the root, so that the file is found again after a failure.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
