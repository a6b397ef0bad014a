//! Writes output files: a file is complete or not there. Checks input files before they are
//! read again.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

/// Writes a file, or replaces the file of that name.
///
/// The content goes to a new file in the same folder, which then takes the name
/// (rename(2)). Whoever has the old file open keeps it as it was, and a command that is
/// killed, or that finds the disk full, leaves the old file in place. The new file has the
/// permissions of the old one and, where the system allows it, its owner.
///
/// A symbolic link is followed. A path that is no regular file, such as `/dev/stdout` or a
/// pipe, is written to.
///
/// # Errors
/// If the file or its folder cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    try_write(path, content).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Checks that a file can be read again, which a pipe cannot: opening it waits for somebody to
/// write to it. A file that is not there is left to whoever reads it, whose error says more.
///
/// # Errors
/// If the path names a pipe, a device or a folder.
pub(crate) fn check_regular(path: &Path) -> anyhow::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => bail!(
            "cannot read `{}` again: it is not a regular file, but a pipe, a device or a folder",
            path.display()
        ),
        _ => Ok(()),
    }
}

fn try_write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let old = match fs::metadata(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let target = match &old {
        Some(old) if old.is_file() => fs::canonicalize(path).ok(),
        None if !path.is_symlink() => Some(path.to_owned()),
        _ => None,
    };
    match target {
        Some(target) => replace(&target, content, old.as_ref()),
        // No regular file, one that no longer has a name, or a link to a file to be made.
        None => Ok(fs::write(path, content)?),
    }
}

/// Gives a name, which `old` may have, to a new file.
fn replace(path: &Path, content: &[u8], old: Option<&Metadata>) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = new_file(folder)
        .with_context(|| format!("cannot make a new file in `{}`", folder.display()))?;
    new.write_all(content)?;
    if let Some(old) = old {
        // Only root may give a file away; what another user writes belongs to that user.
        let _ = fchown(new.as_file(), Some(old.uid()), Some(old.gid()));
        // After the change of owner, which clears set-user-ID bits.
        new.as_file().set_permissions(old.permissions())?;
    }
    // The content reaches the disk before the name does.
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    // Some file systems cannot do that for a folder. The file is complete either way.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Makes a file in `folder`, with the permissions that other new files get (umask(2)). It
/// is removed on drop, unless it has been persisted.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".halfopen-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The names in a folder.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&path).unwrap();
        let mut open = File::open(&path).unwrap();
        write(&path, b"new").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(after.permissions(), before.permissions());
        assert_ne!(after.ino(), before.ino());
        assert_eq!(io::read_to_string(&mut open).unwrap(), "old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_new_file_has_the_permissions_of_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        write(&path, b"new").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other));
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        fs::remove_file(&file).unwrap();
        write(&link, b"made").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "made");
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        write(Path::new("/dev/null"), b"new").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        // A link of proc(5), whose text is no path.
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        write(Path::new(&path), b"new").unwrap();
        drop(writer);
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "new");
        let folder = tempfile::tempdir().unwrap();
        let error = write(folder.path(), b"new").unwrap_err();
        assert!(format!("{error:#}").contains("Is a directory"), "{error:#}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        // The kernel refuses to write here, also to root.
        let error = write(Path::new("/proc/halfopen"), b"new").unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.starts_with("cannot write `/proc/halfopen`: "),
            "{error}"
        );
    }
}
