//! Bytes that move from one socket to another inside the kernel: splice(2).

use std::cell::Cell;
use std::fs;
use std::io;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

use crate::tcp::sizes::{LARGE, PIPE};

/// A pipe of the kernel, into which splice(2) moves the pages that a socket has received, and
/// out of which it moves them into what another one sends. Nobody copies the bytes.
///
/// The pipe is that of the thread, and is lent for one poll, before and after which it is
/// empty: a connection keeps nothing in it. A pipe that is dropped with bytes is closed.
#[derive(Debug)]
pub(in crate::tcp) struct KernelPipe {
    ends: Rc<Ends>,
    held: usize,
}

#[derive(Debug)]
struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
    size: usize,
}

thread_local! {
    /// The pipe of this thread, while nobody uses it.
    static SPARE: Cell<Spare> = const { Cell::new(Spare::New) };
}

enum Spare {
    /// It has to be made.
    New,
    There(Rc<Ends>),
    /// The system has none that is large enough.
    None,
}

/// Whether the system does not splice sockets, so that nobody has to try again.
static REFUSED: AtomicBool = AtomicBool::new(false);

impl KernelPipe {
    /// Borrows the pipe of this thread; `None` if the system has none, or does not splice.
    pub(in crate::tcp) fn take() -> Option<Self> {
        if REFUSED.load(Ordering::Relaxed) {
            return None;
        }
        let ends = match SPARE.replace(Spare::New) {
            Spare::There(ends) => ends,
            Spare::New => Rc::new(Ends::open()?),
            Spare::None => {
                SPARE.set(Spare::None);
                return None;
            }
        };
        Some(KernelPipe { ends, held: 0 })
    }

    /// Whether this thread has a pipe that nobody uses.
    #[cfg(test)]
    pub(in crate::tcp) fn is_spare() -> bool {
        let spare = SPARE.replace(Spare::New);
        let there = matches!(spare, Spare::There(_));
        SPARE.set(spare);
        there
    }

    /// The most bytes that fit.
    pub(in crate::tcp) fn size(&self) -> usize {
        self.ends.size
    }

    /// The number of bytes in the pipe.
    pub(in crate::tcp) fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes that the stream has received into the pipe, which is empty.
    /// Returns how many; 0 says nothing about the stream, which has to be received from.
    ///
    /// # Errors
    /// That of the stream.
    pub(super) fn fill(&mut self, stream: &TcpStream, most: usize) -> io::Result<usize> {
        debug_assert_eq!(
            self.held, 0,
            "a full pipe would look like a stream without data"
        );
        let (into, flags) = (&self.ends.writer, SpliceFlags::NONBLOCK);
        let fill = || Ok(splice(stream, None, into, None, most, flags)?);
        self.held = moved(fill(), &REFUSED)?;
        Ok(self.held)
    }

    /// Moves bytes from the pipe to what the stream sends. Returns how many; after fewer than
    /// were [held](Self::held), an error of the stream may be lost.
    ///
    /// # Errors
    /// That of the stream.
    pub(super) fn drain(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let (from, flags) = (&self.ends.reader, SpliceFlags::NONBLOCK);
        let drain = || Ok(splice(from, None, stream, None, self.held, flags)?);
        let length = moved(drain(), &REFUSED)?;
        self.held -= length;
        Ok(length)
    }

    /// Copies what is in the pipe to the beginning of `buffer`, and empties the pipe.
    ///
    /// # Errors
    /// If that is impossible; the bytes are lost.
    pub(in crate::tcp) fn read_back(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while self.held > 0 {
            let read = rustix::io::read(&self.ends.reader, &mut buffer[length..]);
            match read.map_err(io::Error::from) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => {
                    length += more;
                    self.held -= more;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }
}

impl Drop for KernelPipe {
    fn drop(&mut self) {
        if self.held == 0 {
            SPARE.set(Spare::There(self.ends.clone()));
        }
    }
}

impl Ends {
    fn open() -> Option<Self> {
        if !ignores_sigpipe() {
            REFUSED.store(true, Ordering::Relaxed);
            return None;
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // An unprivileged user has so many pages for all pipes, and then only small pipes
        // (pipe-user-pages-soft, pipe(7)).
        let size = fcntl_setpipe_size(&writer, PIPE).unwrap_or(0);
        if size < LARGE {
            SPARE.set(Spare::None);
            return None;
        }
        Some(Ends {
            reader,
            writer,
            size,
        })
    }
}

/// Distinguishes an error of the stream from a system that moves nothing, now or ever.
fn moved(result: io::Result<usize>, refused: &AtomicBool) -> io::Result<usize> {
    result.or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::OutOfMemory => {
            Ok(0)
        }
        // EINVAL of a kernel, EPERM or ENOSYS of a filter of system calls.
        io::ErrorKind::InvalidInput
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::Unsupported => {
            refused.store(true, Ordering::Relaxed);
            Ok(0)
        }
        _ => Err(error),
    })
}

/// Whether the process ignores SIGPIPE, as a program in Rust does unless it changes that.
///
/// Writing to a connection that was reset raises the signal, which ends a process that does
/// not ignore it. send(2) can be told not to raise it; splice(2) cannot.
fn ignores_sigpipe() -> bool {
    /// SIGPIPE is signal 13, and the first bit stands for signal 1 (proc_pid_status(5)).
    const SIGPIPE: u64 = 1 << 12;
    static IGNORES: OnceLock<bool> = OnceLock::new();
    *IGNORES.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut masks = status
            .lines()
            .filter_map(|line| line.strip_prefix("SigIgn:"));
        let mask = masks
            .next()
            .map(|mask| u64::from_str_radix(mask.trim(), 16));
        matches!(mask, Some(Ok(mask)) if mask & SIGPIPE != 0)
    })
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_system_that_does_not_splice_is_no_error_of_the_stream() {
        for (errno, passes) in [
            (Errno::AGAIN, true),
            (Errno::INTR, true),
            (Errno::NOMEM, true),
            (Errno::INVAL, false),
            (Errno::PERM, false),
            (Errno::NOSYS, false),
        ] {
            let refused = AtomicBool::new(false);
            assert!(
                matches!(moved(Err(errno.into()), &refused), Ok(0)),
                "{errno}"
            );
            assert_eq!(refused.into_inner(), !passes, "{errno}");
        }
        for errno in [Errno::CONNRESET, Errno::PIPE, Errno::TIMEDOUT] {
            let refused = AtomicBool::new(false);
            assert!(moved(Err(errno.into()), &refused).is_err(), "{errno}");
            assert!(!refused.into_inner(), "{errno}");
        }
    }

    #[test]
    fn a_test_ignores_sigpipe_as_programs_in_rust_do() {
        assert!(ignores_sigpipe());
    }

    #[test]
    fn a_pipe_that_holds_something_is_not_lent_again() {
        let mut pipe = KernelPipe::take().unwrap();
        rustix::io::write(&pipe.ends.writer, b"left").unwrap();
        pipe.held = 4;
        drop(pipe);
        assert!(!KernelPipe::is_spare());
        let mut pipe = KernelPipe::take().unwrap();
        rustix::io::write(&pipe.ends.writer, b"back").unwrap();
        pipe.held = 4;
        let mut buffer = [0; 8];
        assert_eq!(pipe.read_back(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"back");
        drop(pipe);
        assert!(KernelPipe::is_spare());
    }
}
