//! The sockets of halfopen on a scripted kernel, under a scheduler that tries out the orders
//! in which threads can act.
//!
//! The files of `host/src/tcp` that make up a socket, and those of `host/src/events`, are
//! compiled here as they are. What is below them is replaced: `tokio`, `rustix` and `socket2` are
//! this crate, whose modules have the few items that those files use, on a kernel in memory
//! ([`net`]); and the locks and atomics of `tcp::sync` and `events::sync` are those of shuttle, so
//! that each of their operations is a point at which another thread may go on.
//!
//! The bound on what this shows: the scheduler runs one thread at a time, so it finds wrong
//! orders of operations, and not wrong memory orderings.

// The files of `halfopen` have unit tests of their own, for the real kernel; `cargo test
// --lib` would compile them here.
#![cfg(not(test))]
#![allow(
    clippy::large_enum_variant,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "what stands for other crates looks like them, and the locks of shuttle are large"
)]

extern crate self as rustix;
extern crate self as socket2;
extern crate self as tokio;

pub mod events;
mod fd;
mod io;
mod ioctl;
pub mod net;
mod pipe;
mod runtime;
mod sync;
mod task;
pub mod tcp;
mod time;

use std::net::Shutdown;
use std::time::Duration;

/// A socket whose options are set.
#[derive(Debug)]
pub struct SockRef<'s>(&'s net::TcpStream);

impl<'s> From<&'s net::TcpStream> for SockRef<'s> {
    fn from(stream: &'s net::TcpStream) -> Self {
        SockRef(stream)
    }
}

impl SockRef<'_> {
    /// Ends the sending direction, like shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> std::io::Result<()> {
        assert_eq!(how, Shutdown::Write, "no other shutdown is scripted");
        self.0.kernel().shut_down()
    }

    /// Has no effect: close(2) after connect(2) to AF_UNSPEC sends nothing more.
    pub fn set_linger(&self, _: Option<Duration>) -> std::io::Result<()> {
        Ok(())
    }
}
