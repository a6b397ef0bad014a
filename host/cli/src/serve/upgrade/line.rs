//! The channel between a process that drains and the newest one, for as long as both run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::channel::Channel;
use super::message::Message;

/// A [`Channel`] that nobody waits for with a thread.
#[derive(Debug)]
pub(super) struct Line {
    channel: Channel,
    /// The same socket, as the reactor knows it. Nothing is read from it or written to it.
    reactor: UnixStream,
}

impl Line {
    pub(super) fn new(channel: Channel) -> io::Result<Self> {
        let socket = net::UnixStream::from(channel.as_fd().try_clone_to_owned()?);
        socket.set_nonblocking(true)?;
        Ok(Line {
            reactor: UnixStream::from_std(socket)?,
            channel,
        })
    }

    /// Sends a message, once there is room for it. Cancel safe.
    pub(super) async fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message with descriptors. Cancel safe.
    pub(super) async fn send_with(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let send = || self.channel.send_now(message, descriptors);
        self.reactor.async_io(Interest::WRITABLE, send).await
    }

    /// Waits for the next message, and its descriptors. Cancel safe.
    ///
    /// # Errors
    /// If the other process has ended, or says something unknown.
    pub(super) async fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let receive = || self.channel.receive_now();
        self.reactor.async_io(Interest::READABLE, receive).await
    }
}
