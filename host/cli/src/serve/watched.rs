//! Detects changes of files on disk, by polling.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files, and their state at the last check.
pub(crate) struct Watched {
    files: Vec<(PathBuf, Option<State>)>,
    /// The last check found a change, which may still be in progress.
    changing: bool,
}

/// The modification time, length and inode of a file: a change alters at least one.
type State = (SystemTime, u64, u64);

impl Watched {
    pub(crate) fn new<'p>(files: impl Iterator<Item = &'p PathBuf>) -> Self {
        Watched {
            files: files.map(|path| (path.clone(), state(path))).collect(),
            changing: false,
        }
    }

    /// Checks the files. True once per change, at the first check that finds nothing new
    /// after it: by then the file is probably written completely.
    pub(crate) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = state(path);
            changed |= now != *before;
            *before = now;
        }
        let settled = self.changing && !changed;
        self.changing = changed;
        settled
    }
}

/// The state of a file; `None` if it does not exist.
fn state(path: &Path) -> Option<State> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
