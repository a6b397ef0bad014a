//! Files in the folders that the host grants, whole ones at a time.
//!
//! By default there are no folders; `halfopen serve --dir FOLDER::NAME` grants one. A path begins
//! with the name of a folder, as in `data/greeting.txt` or `/data/greeting.txt`, and leads out of
//! the folder neither by `..` nor by a symbolic link.
//!
//! Both styles use the interface of WASI 0.2, which every host of WASI 0.3 has as well. The whole
//! instance waits for the disk: in a shared one, the other connections too.
//!
//! ```no_run
//! use halfopen_guest::{Events, Socket, callbacks, files};
//!
//! callbacks!(greet);
//!
//! struct Done;
//! impl Events for Done {}
//!
//! fn greet(socket: &Socket) -> Done {
//!     match files::read("data/greeting.txt") {
//!         Ok(greeting) => _ = socket.write(greeting),
//!         Err(error) => _ = socket.write(format!("no greeting: {error}\n")),
//!     }
//!     socket.end();
//!     Done
//! }
//! ```

use std::io;

use crate::bindings::files::wasi::filesystem::preopens;
use crate::bindings::files::wasi::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags,
};

/// The most bytes of one call of the host.
const PIECE: u64 = 64 * 1024;

/// Reads a whole file.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) if there is no such file or no such folder is granted;
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the path leads out of its folder, or
/// the host may not read the file; what the operating system reports.
pub fn read(path: &str) -> io::Result<Vec<u8>> {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let mut all = Vec::new();
    loop {
        let (bytes, end) = file
            .read(PIECE, all.len() as u64)
            .map_err(|code| match code {
                // What was opened for reading and cannot be read is a folder.
                ErrorCode::BadDescriptor => io::ErrorKind::IsADirectory.into(),
                code => error(code),
            })?;
        all.extend_from_slice(&bytes);
        if end || bytes.is_empty() {
            return Ok(all);
        }
    }
}

/// Writes a whole file, in place of the one that is there. Other readers may see a part of it.
///
/// # Errors
/// As [`read`]; and [`PermissionDenied`](io::ErrorKind::PermissionDenied) or
/// [`ReadOnlyFilesystem`](io::ErrorKind::ReadOnlyFilesystem) if the folder is granted for reading
/// alone.
pub fn write(path: &str, data: impl AsRef<[u8]>) -> io::Result<()> {
    let create = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let file = open(path, create, DescriptorFlags::WRITE)?;
    let mut rest = data.as_ref();
    let mut offset = 0;
    while !rest.is_empty() {
        let piece = &rest[..rest.len().min(PIECE as usize)];
        let written = file.write(piece, offset).map_err(error)?;
        offset += written;
        rest = &rest[usize::try_from(written)
            .unwrap_or(rest.len())
            .min(rest.len())..];
    }
    Ok(())
}

/// Returns the names in a folder, in no particular order.
///
/// # Errors
/// As [`read`].
pub fn list(path: &str) -> io::Result<Vec<String>> {
    let folder = open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
    let entries = folder.read_directory().map_err(error)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry().map_err(error)? {
        names.push(entry.name);
    }
    Ok(names)
}

fn open(path: &str, how: OpenFlags, access: DescriptorFlags) -> io::Result<Descriptor> {
    let folders = preopens::get_directories();
    // The longest name wins, if one folder is granted within another.
    let found = folders
        .iter()
        .filter_map(|(folder, name)| Some((folder, within(name, path)?)))
        .min_by_key(|(_, rest)| rest.len());
    let Some((folder, rest)) = found else {
        let text = format!("no folder is granted for {path:?}");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    };
    folder
        .open_at(PathFlags::SYMLINK_FOLLOW, rest, how, access)
        .map_err(error)
}

/// Returns the path within a folder, if it lies there.
fn within<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    let path = path.trim_start_matches('/');
    let folder = folder.trim_start_matches("./").trim_matches('/');
    let rest = match folder {
        "" | "." => path,
        folder => {
            let rest = path.strip_prefix(folder)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)?
        }
    };
    let rest = rest.trim_start_matches('/');
    Some(if rest.is_empty() { "." } else { rest })
}

fn error(code: ErrorCode) -> io::Error {
    let kind = match code {
        ErrorCode::NoEntry => io::ErrorKind::NotFound,
        ErrorCode::Access | ErrorCode::NotPermitted => io::ErrorKind::PermissionDenied,
        ErrorCode::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        ErrorCode::Exist => io::ErrorKind::AlreadyExists,
        ErrorCode::IsDirectory => io::ErrorKind::IsADirectory,
        ErrorCode::NotDirectory => io::ErrorKind::NotADirectory,
        ErrorCode::InsufficientSpace => io::ErrorKind::StorageFull,
        ErrorCode::Quota => io::ErrorKind::QuotaExceeded,
        _ => return io::Error::other(code.name()),
    };
    kind.into()
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn a_path_begins_with_the_name_of_its_folder() {
        for (folder, path, rest) in [
            ("data", "data/a/b", Some("a/b")),
            ("/data", "data/a", Some("a")),
            ("data", "/data//a", Some("a")),
            ("./data/", "data", Some(".")),
            (".", "a", Some("a")),
            ("/", "/a", Some("a")),
            ("data", "database", None),
            ("data", "a", None),
            ("data", "data/../a", Some("../a")),
        ] {
            assert_eq!(within(folder, path), rest, "{folder} {path}");
        }
    }
}
