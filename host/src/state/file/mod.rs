//! A store in a file: a redb database.
//!
//! One thread of each file writes. It takes all changes that wait, applies them in one
//! transaction, and answers them once that is on the disk: while it waits for the disk, the next
//! changes gather. Reads are of the last transaction, on threads that may block.

mod database;
mod open;
mod slot;
mod store;
mod tables;
mod writer;

pub(super) use open::open;
pub use open::wait_closed;
pub use slot::Durability;
pub(super) use store::FileStore;
