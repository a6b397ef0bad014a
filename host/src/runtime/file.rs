//! Reads files that another program may be writing.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Error, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::LoadError;

/// The largest component, in bytes: 1 GiB, as in other implementations of WebAssembly.
const LARGEST: u64 = 1 << 30;

/// Reads a component's file.
///
/// # Errors
/// If it cannot be read, is no regular file, is larger than 1 GiB, or changes meanwhile.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    try_read(path, || ()).map_err(|error| LoadError::Read {
        path: path.to_owned(),
        error,
    })
}

/// Calls `meanwhile` between reading and the last look at the file.
fn try_read(path: &Path, meanwhile: impl FnOnce()) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer, and reading a device may never end.
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        let what = match before.is_dir() {
            true => "a directory",
            false => "a pipe or a device, which cannot be read again at a reload",
        };
        let error = format!("it is {what}; name a regular file");
        return Err(Error::new(ErrorKind::InvalidInput, error));
    }
    if before.len() > LARGEST {
        return Err(Error::new(
            ErrorKind::FileTooLarge,
            "it is larger than 1 GiB",
        ));
    }
    // One byte more than is expected, so that the read that finds the end needs no new room.
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0) + 1);
    Read::by_ref(&mut &file)
        .take(LARGEST)
        .read_to_end(&mut bytes)?;
    meanwhile();
    if state(&before) != state(&file.metadata()?) || bytes.len() as u64 != before.len() {
        let error = "it changed while it was read; replace it by renaming a complete file";
        return Err(Error::new(ErrorKind::ResourceBusy, error));
    }
    Ok(bytes)
}

/// What a write to a file changes.
fn state(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        assert!(error(folder.path()).contains("it is a directory; name a regular file"));
        assert!(error(&pipe).contains("it is a pipe or a device"));
        assert!(error(Path::new("/dev/zero")).contains("it is a pipe or a device"));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::File::create(&path)
            .unwrap()
            .set_len(LARGEST + 1)
            .unwrap();
        assert!(error(&path).contains("it is larger than 1 GiB"));
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        assert_eq!(try_read(&path, || ()).unwrap(), b"one");
        for after in ["two and more", ""] {
            fs::write(&path, "one").unwrap();
            let error = try_read(&path, || fs::write(&path, after).unwrap()).unwrap_err();
            assert!(error.to_string().contains("it changed while it was read"));
        }
        // A file that takes the name does not matter: the open one is complete.
        let new = folder.path().join("new");
        fs::write(&new, "new").unwrap();
        let read = try_read(&path, || fs::rename(&new, &path).unwrap());
        assert_eq!(read.unwrap(), b"");
    }
}
