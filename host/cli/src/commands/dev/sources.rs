//! Detects changes of the sources in a folder, by polling.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders that tools write to. Those whose names begin with a dot are left out as well.
const BUILT: [&str; 5] = ["build", "node_modules", "target", "__pycache__", "venv"];

/// The most files to look at; a folder that has more is not one of sources alone.
const MOST: usize = 10_000;

/// The sources in a folder, as they were at the last look.
pub(super) struct Sources {
    folder: PathBuf,
    files: BTreeMap<PathBuf, State>,
    /// The last look found a change, which may still be in progress.
    changing: bool,
}

/// The modification time, length and inode of a file: a change alters at least one.
type State = (SystemTime, u64, u64);

impl Sources {
    pub(super) fn of(folder: &Path) -> Self {
        Sources {
            folder: folder.to_owned(),
            files: look(folder),
            changing: false,
        }
    }

    /// Looks at the sources. True once per change, at the first look that finds nothing new after
    /// it: by then the editor has probably written everything.
    pub(super) fn changed(&mut self) -> bool {
        let now = look(&self.folder);
        let changed = now != self.files;
        self.files = now;
        let settled = self.changing && !changed;
        self.changing = changed;
        settled
    }
}

fn look(folder: &Path) -> BTreeMap<PathBuf, State> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What cannot be read is left out; the build says what is wrong.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Editors write copies that begin with a dot or end in a tilde.
            if name.starts_with('.') || name.ends_with('~') || BUILT.contains(&&*name) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if let Ok(modified) = metadata.modified() {
                let state = (modified, metadata.len(), metadata.ino());
                files.insert(entry.path(), state);
            }
        }
        if files.len() > MOST {
            break;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_what_is_built_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("src")).unwrap();
        fs::create_dir(path("build")).unwrap();
        fs::write(path("src/service.c"), "one").unwrap();
        let mut sources = Sources::of(folder.path());
        assert!(!sources.changed());
        fs::write(path("src/service.c"), "three").unwrap();
        assert_eq!([1, 2, 3].map(|_| sources.changed()), [false, true, false]);
        fs::write(path("build/service.wasm"), "").unwrap();
        fs::write(path("src/.service.c.swp"), "").unwrap();
        assert_eq!([1, 2, 3].map(|_| sources.changed()), [false; 3]);
        fs::remove_file(path("src/service.c")).unwrap();
        assert_eq!([1, 2, 3].map(|_| sources.changed()), [false, true, false]);
    }
}
