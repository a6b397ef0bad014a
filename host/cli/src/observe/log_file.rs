//! The file of the log, which `--log-file` names.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::OFlags;

use crate::observe::lines::Destination;

/// What a new file permits: its user writes, and its group reads.
const MODE: u32 = 0o640;

/// A file to whose end lines are written, also if somebody else truncates it. It is opened anew
/// when it has been renamed.
pub(super) struct LogFile<C> {
    path: PathBuf,
    file: File,
    /// Says why the file cannot be opened anew.
    complain: C,
}

impl<C: Fn(&str) + Send + 'static> LogFile<C> {
    /// Opens a file, or makes it.
    pub(super) fn open(path: &Path, complain: C) -> anyhow::Result<Self> {
        let file = open(path).with_context(|| {
            let path = path.display();
            format!(
                "cannot open the log file {path}; `--log-file` needs a file that this user may \
                 write, in a folder that exists"
            )
        })?;
        Ok(LogFile {
            path: path.to_owned(),
            file,
            complain,
        })
    }
}

/// Opens a file to append to. Without waiting: a named pipe that nobody reads is an error.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

impl<C: Fn(&str) + Send + 'static> Destination for LogFile<C> {
    fn reopen(&mut self) -> bool {
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                true
            }
            Err(error) => {
                let path = self.path.display();
                (self.complain)(&format!(
                    "cannot open the log file {path} anew, and the log goes on in the one that was \
                     open: {error}"
                ));
                false
            }
        }
    }
}

impl<C> Write for LogFile<C> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_file_that_was_renamed_or_truncated_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let (complaints, heard) = channel();
        let complain = move |text: &str| complaints.send(text.to_owned()).unwrap();
        let mut log = LogFile::open(&path, complain).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        log.write_all(b"one\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        fs::rename(&path, &old).unwrap();
        log.write_all(b"two\n").unwrap();
        assert!(log.reopen());
        log.write_all(b"three\n").unwrap();
        assert_eq!(
            (read(&old), read(&path)),
            ("one\ntwo\n".into(), "three\n".into())
        );
        // As `copytruncate` of logrotate does.
        File::create(&path).unwrap();
        log.write_all(b"four\n").unwrap();
        assert_eq!(read(&path), "four\n");
        // A folder is in its place.
        fs::rename(&path, &old).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!log.reopen());
        let complaint = heard.recv().unwrap();
        assert!(
            complaint.contains("the log goes on in the one that was open"),
            "{complaint}"
        );
        log.write_all(b"five\n").unwrap();
        assert_eq!(read(&old), "four\nfive\n");
    }

    #[test]
    fn a_named_pipe_without_a_reader_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o600.into(), 0).unwrap();
        let error = LogFile::open(&path, |_: &str| ()).err().unwrap();
        assert!(
            format!("{error:#}").contains("cannot open the log file"),
            "{error:#}"
        );
    }
}
