//! How much is moved at a time: so little that a few bytes are many moves.

pub(super) const BUFFER: usize = 8;
pub(super) const LARGE: usize = 4;
pub(super) const MOVED: usize = 8;
pub(super) const PIPE: usize = 16;
