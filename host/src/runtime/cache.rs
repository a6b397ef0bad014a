//! The cache of compiled code, which is trusted like this program itself.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use wasmtime::{Cache, CacheConfig};

/// The reason why the cache is not used.
#[derive(Debug, thiserror::Error)]
enum Untrusted {
    #[error("`{}` belongs to user {owner}; remove it: `rm -r {}`", path.display(), path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("other users can write to `{}`; remove it: `rm -r {}`", path.display(), path.display())]
    Writable { path: PathBuf },
    #[error("`{}` is neither a file nor a folder; remove it: `rm {}`", path.display(), path.display())]
    Kind { path: PathBuf },
    #[error("other users can replace what is in `{}`; forbid it with `chmod go-w {}`, or set XDG_CACHE_HOME to a folder that only this user can write to", path.display(), path.display())]
    Above { path: PathBuf },
    #[error("cannot read `{}`: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{0:#}")]
    Config(wasmtime::Error),
}

/// Opens the cache, if only this user, and root, can write to it. Otherwise says why not,
/// once for each reason.
pub(super) fn open() -> Option<Cache> {
    match try_open() {
        Ok(cache) => Some(cache),
        Err(error) => {
            static LAST: Mutex<String> = Mutex::new(String::new());
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            let error = error.to_string();
            if *last != error {
                tracing::warn!("compiled code is not kept, and every start compiles: {error}");
                *last = error;
            }
            None
        }
    }
}

fn try_open() -> Result<Cache, Untrusted> {
    // Creates the folder, and returns its path without symbolic links.
    let config = CacheConfig::from_file(None).map_err(Untrusted::Config)?;
    if let Some(folder) = config.directory() {
        check(folder, rustix::process::geteuid().as_raw())?;
    }
    Cache::new(config).map_err(Untrusted::Config)
}

/// Checks that nobody but `user` and root can change a file in `folder`, or could have made
/// one.
fn check(folder: &Path, user: u32) -> Result<(), Untrusted> {
    let trusted = |metadata: &Metadata| [user, 0].contains(&metadata.uid());
    let above: Vec<_> = folder.ancestors().skip(1).collect();
    let mut closed = false;
    for path in above.into_iter().rev() {
        let metadata = metadata(path)?;
        // Where the sticky bit is set, as in /tmp, only the owner of a name can replace it.
        let sticky = metadata.mode() & 0o1000 != 0;
        if !closed && (!trusted(&metadata) || (is_open(&metadata) && !sticky)) {
            let path = path.to_owned();
            return Err(Untrusted::Above { path });
        }
        // Others get no further than a folder that they may not search, chmod(2).
        closed |= metadata.mode() & 0o011 == 0;
    }
    let metadata = metadata(folder)?;
    if trusted(&metadata) && is_open(&metadata) && !closed && is_empty(folder) {
        // It is new, and made with a lax umask(2).
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(folder, private).map_err(|error| read(folder, error))?;
    }
    check_within(folder, user, closed)
}

/// Checks a folder or a file of the cache. `closed` means that others cannot reach it.
fn check_within(path: &Path, user: u32, closed: bool) -> Result<(), Untrusted> {
    let metadata = metadata(path)?;
    let owner = metadata.uid();
    if ![user, 0].contains(&owner) {
        let path = path.to_owned();
        return Err(Untrusted::Owner { path, owner });
    }
    if !metadata.is_dir() && !metadata.is_file() {
        let path = path.to_owned();
        return Err(Untrusted::Kind { path });
    }
    if is_open(&metadata) && !closed {
        let path = path.to_owned();
        return Err(Untrusted::Writable { path });
    }
    if metadata.is_dir() {
        let closed = closed || metadata.mode() & 0o011 == 0;
        for entry in fs::read_dir(path).map_err(|error| read(path, error))? {
            let entry = entry.map_err(|error| read(path, error))?;
            match check_within(&entry.path(), user, closed) {
                // Another process that uses the cache has cleaned up.
                Err(Untrusted::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                checked => checked?,
            }
        }
    }
    Ok(())
}

/// Whether the group or everybody may write.
fn is_open(metadata: &Metadata) -> bool {
    metadata.mode() & 0o022 != 0
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn metadata(path: &Path) -> Result<Metadata, Untrusted> {
    fs::symlink_metadata(path).map_err(|error| read(path, error))
}

fn read(path: &Path, error: io::Error) -> Untrusted {
    let path = path.to_owned();
    Untrusted::Read { path, error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A user who has no files here.
    const OTHER: u32 = 54321;

    struct Folder {
        /// Others cannot replace it: /tmp has the sticky bit.
        temporary: tempfile::TempDir,
        cache: PathBuf,
        file: PathBuf,
    }

    /// A cache with a file in it.
    fn folder() -> Folder {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        mode(&root, 0o755);
        let cache = root.join("cache");
        fs::create_dir(&cache).unwrap();
        mode(&cache, 0o755);
        let file = cache.join("code");
        fs::write(&file, "code").unwrap();
        mode(&file, 0o644);
        Folder {
            temporary,
            cache,
            file,
        }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn check_it(folder: &Folder) -> Result<(), String> {
        let user = rustix::process::geteuid().as_raw();
        check(&folder.cache, user).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cache_of_this_user_is_trusted() {
        assert_eq!(check_it(&folder()), Ok(()));
    }

    #[test]
    fn a_cache_that_others_can_write_to_is_not() {
        for open in [0o777, 0o1777, 0o775, 0o757] {
            let folder = folder();
            mode(&folder.cache, open);
            let error = check_it(&folder).unwrap_err();
            assert!(error.contains("other users can write to"), "{error}");
            assert!(error.contains("remove it: `rm -r /"), "{error}");
        }
        let folder = folder();
        mode(&folder.file, 0o666);
        let error = check_it(&folder).unwrap_err();
        assert!(error.contains("cache/code`; remove it"), "{error}");
    }

    #[test]
    fn a_folder_above_it_counts_as_well() {
        let folder = folder();
        mode(folder.temporary.path(), 0o777);
        let error = check_it(&folder).unwrap_err();
        assert!(error.contains("`chmod go-w /"), "{error}");
        mode(folder.temporary.path(), 0o1777);
        assert_eq!(check_it(&folder), Ok(()));
    }

    #[test]
    fn what_others_cannot_reach_they_cannot_write() {
        let folder = folder();
        mode(folder.temporary.path(), 0o700);
        mode(&folder.cache, 0o777);
        mode(&folder.file, 0o666);
        assert_eq!(check_it(&folder), Ok(()));
    }

    #[test]
    fn a_new_cache_is_closed_to_others() {
        let folder = folder();
        fs::remove_file(&folder.file).unwrap();
        mode(&folder.cache, 0o775);
        assert_eq!(check_it(&folder), Ok(()));
        assert_eq!(metadata(&folder.cache).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_the_cache_is_not_trusted() {
        let folder = folder();
        symlink("/etc/passwd", folder.cache.join("link")).unwrap();
        let error = check_it(&folder).unwrap_err();
        assert!(error.contains("neither a file nor a folder"), "{error}");
    }

    #[test]
    fn what_belongs_to_another_user_is_not_trusted() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI runs as root");
            eprintln!("!!! not checked, because only root can give files away");
            return;
        }
        let folder = folder();
        std::os::unix::fs::chown(&folder.file, Some(OTHER), None).unwrap();
        let error = check_it(&folder).unwrap_err();
        assert!(
            error.contains("cache/code` belongs to user 54321"),
            "{error}"
        );
        // For its owner, it is.
        std::os::unix::fs::chown(folder.temporary.path(), Some(OTHER), None).unwrap();
        std::os::unix::fs::chown(&folder.cache, Some(OTHER), None).unwrap();
        check(&folder.cache, OTHER).unwrap();
        let error = check_it(&folder).unwrap_err();
        assert!(error.contains("can replace what is in"), "{error}");
    }
}
