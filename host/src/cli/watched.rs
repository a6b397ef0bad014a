//! Files, and whether they have changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Some files, and how they were when they were looked at before.
pub(super) struct Watched {
    files: Vec<(PathBuf, Option<State>)>,
    /// A change that may not be finished yet.
    changing: bool,
}

/// What changes with a file: when it was written, how long it is, which it is.
type State = (SystemTime, u64, u64);

impl Watched {
    pub(super) fn new(files: impl Iterator<Item = PathBuf>) -> Self {
        Watched {
            files: files.map(|path| (path.clone(), state(&path))).collect(),
            changing: false,
        }
    }

    /// Whether one has changed, and none has since it was looked at before.
    pub(super) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = state(path);
            changed |= now != *before;
            *before = now;
        }
        let finished = self.changing && !changed;
        self.changing = changed;
        finished
    }
}

fn state(path: &Path) -> Option<State> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
