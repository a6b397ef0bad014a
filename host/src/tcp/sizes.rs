//! How much is moved at a time when bytes go from one connection to another.
//!
//! `tests/shuttle` has smaller ones in this place.

/// The most bytes that are received at a time to be sent on another connection.
pub(super) const BUFFER: usize = 256 * 1024;

/// The length of a read from which on it is cheaper to move the bytes that follow inside the
/// kernel than to copy them.
pub(super) const LARGE: usize = 32 * 1024;

/// The most bytes that are moved inside the kernel at a time.
pub(super) const MOVED: usize = 256 * 1024;

/// The size of the pipe through which they move. A part of a page takes as much of it as a
/// page, so it is larger than what moves: as large as any user may have it (pipe-max-size,
/// pipe(7)).
pub(super) const PIPE: usize = 1024 * 1024;
