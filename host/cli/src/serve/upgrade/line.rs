//! The channel between a process that drains and the newest one, for as long as both run.

use std::io;
use std::os::fd::AsFd;
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

    /// Sends a message, once there is room for it.
    pub(super) async fn send(&self, message: &Message) -> io::Result<()> {
        let send = || self.channel.send_now(message);
        self.reactor.async_io(Interest::WRITABLE, send).await
    }

    /// Waits for the next message. Cancel safe.
    ///
    /// # Errors
    /// If the other process has ended, or says something unknown.
    pub(super) async fn receive(&self) -> io::Result<Message> {
        let receive = || self.channel.receive_now();
        self.reactor.async_io(Interest::READABLE, receive).await
    }
}
