//! The file of a recording: it never grows without bound, and never ends within a block that
//! another one follows.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Only the user that the server runs as reads it: it may have what peers send.
const MODE: u32 = 0o600;

/// Where a recording is written.
///
/// A regular file gets another name once it is full (`FILE` becomes `FILE.1`, in place of an
/// earlier one), and so does a file that is there when the recording begins. A named pipe is
/// opened once it has a reader, and again for the next reader.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Regular {
        file: File,
        /// The bytes of whole blocks in the file.
        written: u64,
        /// How many there may be.
        limit: u64,
        /// Whether the last write has failed, so that there may be part of a block behind them.
        torn: bool,
    },
    /// A pipe, and its end for writing while there is a reader.
    Pipe(Option<File>),
    /// Standard output, and why it takes no more.
    Stream(File, Option<ErrorKind>),
}

/// Opens a named pipe, which waits for a reader. Checks the open file again, because another file
/// may have taken the path since.
fn open_pipe(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let pipe = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    check_pipe(&pipe.metadata()?)?;
    Ok(pipe)
}

/// Checks that nobody else reads what peers send.
fn check_pipe(pipe: &Metadata) -> io::Result<()> {
    let own = pipe.uid() == geteuid().as_raw() && pipe.mode() & 0o077 == 0;
    match pipe.file_type().is_fifo() && own {
        true => Ok(()),
        false => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "a pipe for a recording is its user's alone: make it by `mkfifo -m 600`",
        )),
    }
}

impl Output {
    /// Makes the file. `limit` is the size of one file in bytes.
    ///
    /// # Errors
    /// If it cannot be made, or the path is neither free nor a regular file or a named pipe.
    pub(crate) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let kind = match fs::metadata(path) {
            Ok(there) if there.file_type().is_fifo() => {
                check_pipe(&fs::symlink_metadata(path)?)?;
                Kind::Pipe(None)
            }
            Ok(there) if !there.is_file() => {
                return Err(io::Error::new(
                    ErrorKind::InvalidInput,
                    "it is neither a regular file nor a named pipe",
                ));
            }
            there => {
                if there.is_ok_and(|there| there.len() > 0) {
                    fs::rename(path, earlier(path))?;
                }
                Kind::regular(path, limit)?
            }
        };
        Ok(Output {
            path: path.to_owned(),
            kind,
        })
    }

    /// Writes to standard output, which has one reader and no size.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn stdout() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Output {
            path: PathBuf::new(),
            kind: Kind::Stream(stdout.into(), None),
        })
    }

    /// Makes ready for a section. A pipe waits for a reader.
    ///
    /// # Errors
    /// If a pipe cannot be opened, or standard output takes no more.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Pipe(pipe @ None) => *pipe = Some(open_pipe(&self.path)?),
            Kind::Stream(_, Some(failed)) => return Err((*failed).into()),
            _ => {}
        }
        Ok(())
    }

    /// Writes whole blocks.
    ///
    /// # Errors
    /// If they cannot be written. A regular file then has none of them, not even in part, and a
    /// later write may be successful. A pipe has to be opened again, and begins with a section.
    pub(crate) fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Regular {
                file,
                written,
                torn,
                ..
            } => {
                if *torn {
                    file.set_len(*written)?;
                    file.seek(SeekFrom::Start(*written))?;
                    *torn = false;
                }
                *torn = true;
                file.write_all(blocks)?;
                *torn = false;
                *written += blocks.len() as u64;
                Ok(())
            }
            Kind::Pipe(pipe) => {
                let Some(open) = pipe else {
                    return Err(ErrorKind::BrokenPipe.into());
                };
                let done = write_to_reader(open, blocks);
                if done.is_err() {
                    *pipe = None;
                }
                done
            }
            Kind::Stream(stream, failed) => {
                let done = write_to_reader(stream, blocks);
                *failed = done.as_ref().err().map(io::Error::kind);
                done
            }
        }
    }

    /// Whether a pipe has to be opened, and to begin with a section.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.kind, Kind::Pipe(None) | Kind::Stream(_, Some(_)))
    }

    /// Whether a file has nothing yet, so that a section has to be its first block.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.kind, Kind::Regular { written: 0, .. })
    }

    /// Whether the file has its size.
    pub(crate) fn is_full(&self) -> bool {
        matches!(&self.kind, Kind::Regular { written, limit, .. } if written >= limit)
    }

    /// Gives the full file its other name, and begins the next one.
    ///
    /// # Errors
    /// If that cannot be done, or if another process has begun a file of that name.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        let Kind::Regular { file, limit, .. } = &self.kind else {
            return Ok(());
        };
        let (ours, limit) = (file.metadata()?, *limit);
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                fs::rename(&self.path, earlier(&self.path))?;
            }
            // It was moved or removed, and the name is free.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            // It belongs to a process that has replaced this one.
            Ok(_) => {
                return Err(io::Error::new(
                    ErrorKind::AlreadyExists,
                    "another process has begun a file of that name",
                ));
            }
        }
        self.kind = Kind::regular(&self.path, limit)?;
        Ok(())
    }
}

impl Kind {
    fn regular(path: &Path, limit: u64) -> io::Result<Self> {
        // An empty file may be there already, with permissions of its own.
        let _ = fs::remove_file(path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(path)?;
        Ok(Kind::Regular {
            file,
            written: 0,
            limit,
            torn: false,
        })
    }
}

/// Writes to a pipe, if there is a reader.
fn write_to_reader(pipe: &mut File, blocks: &[u8]) -> io::Result<()> {
    match has_reader(pipe) {
        true => pipe.write_all(blocks),
        false => Err(ErrorKind::BrokenPipe.into()),
    }
}

/// Whether somebody has the other end of a pipe. A writer that does not look would not notice that
/// one reader has followed another.
fn has_reader(pipe: &File) -> bool {
    let mut pipe = [PollFd::new(pipe, PollFlags::OUT)];
    let now = Timespec::default();
    // A failure to look is left to the write.
    let _ = poll(&mut pipe, Some(&now));
    !pipe[0].revents().contains(PollFlags::ERR)
}

/// The name of the file before the current one.
pub(crate) fn earlier(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        (folder, path)
    }

    #[test]
    fn a_full_file_gets_another_name() {
        let (_folder, path) = folder();
        let mut output = Output::create(&path, 8).unwrap();
        output.open().unwrap();
        output.write(b"1234").unwrap();
        assert!(!output.is_full());
        output.write(b"5678").unwrap();
        assert!(output.is_full());
        output.rotate().unwrap();
        assert!(!output.is_full());
        output.write(b"abcd").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abcd");
        assert_eq!(fs::read(earlier(&path)).unwrap(), b"12345678");
        for path in [&path, &earlier(&path)] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, MODE);
        }
    }

    #[test]
    fn an_earlier_recording_is_kept() {
        let (_folder, path) = folder();
        fs::write(&path, "earlier").unwrap();
        Output::create(&path, 10).unwrap();
        assert_eq!(fs::read(earlier(&path)).unwrap(), b"earlier");
        assert_eq!(fs::read(&path).unwrap(), b"");
        // It is empty, and so is no recording.
        Output::create(&path, 10).unwrap();
        assert_eq!(fs::read(earlier(&path)).unwrap(), b"earlier");
    }

    #[test]
    fn a_write_that_fails_leaves_whole_blocks() {
        let (_folder, path) = folder();
        let mut output = Output::create(&path, 100).unwrap();
        output.write(b"1234").unwrap();
        // As if the disk had been full in the midst of a block.
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(b"ab").unwrap();
        if let Kind::Regular { torn, .. } = &mut output.kind {
            *torn = true;
        }
        output.write(b"5678").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12345678");
    }

    #[test]
    fn a_folder_and_a_device_are_refused() {
        for path in ["/", "/dev/null"] {
            let error = Output::create(Path::new(path), 10).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn the_file_of_a_successor_is_left_alone() {
        let (_folder, path) = folder();
        let mut output = Output::create(&path, 4).unwrap();
        output.write(b"1234").unwrap();
        let mut successor = Output::create(&path, 4).unwrap();
        successor.write(b"abcd").unwrap();
        let error = output.rotate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"abcd");
        assert_eq!(fs::read(earlier(&path)).unwrap(), b"1234");
    }

    #[test]
    fn each_reader_of_a_pipe_gets_a_beginning() {
        let (_folder, path) = folder();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let mut output = Output::create(&path, 4).unwrap();
        for _ in 0..2 {
            let reader = {
                let path = path.clone();
                thread::spawn(move || {
                    let mut pipe = File::open(path).unwrap();
                    let mut bytes = [0; 4];
                    pipe.read_exact(&mut bytes).unwrap();
                    bytes
                })
            };
            assert!(output.is_closed());
            output.open().unwrap();
            output.write(b"1234").unwrap();
            assert_eq!(&reader.join().unwrap(), b"1234");
            let error = output.write(b"5678").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }
}
