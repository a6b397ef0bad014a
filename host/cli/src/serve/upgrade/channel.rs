//! Messages between a process and its successor, over a pair of Unix sockets. A message can
//! carry a descriptor (`SCM_RIGHTS`, unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// The version of the messages. A successor that knows others refuses.
pub(super) const FORMAT: u32 = 1;

/// The limit on one message, far below the send buffer of a Unix socket.
const LONGEST: usize = 64 * 1024;

/// What the two processes say to each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// The first message to the successor.
    Begin { format: u32, process: u32 },
    /// A listening socket of a service, with its descriptor. Without `listen`, systemd made it.
    Listener {
        service: String,
        listen: Option<String>,
    },
    /// The listening socket of the admin address, with its descriptor.
    Admin { address: String },
    /// The listening socket of the control path, with its descriptor.
    Control { path: String },
    /// A process that drains or is about to, with a descriptor of it (pidfd_open(2)).
    Generation { process: u32 },
    /// Everything has been handed over.
    End,
    /// The successor has loaded its services, and accepts nothing yet.
    Prepared,
    /// The successor may accept.
    Take,
    /// The successor accepts.
    Ready,
    /// The successor gives up.
    Failed { reason: String },
}

/// One end of the pair.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Makes a channel. The second end is for the successor's standard input.
    pub(super) fn pair() -> anyhow::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("cannot make a pair of sockets")?;
        Ok((Channel(ours), theirs))
    }

    /// The end that this process has as its standard input.
    ///
    /// # Errors
    /// If standard input is something else.
    pub(super) fn on_stdin() -> anyhow::Result<Channel> {
        let stdin = std::io::stdin();
        let kind = rustix::net::sockopt::socket_type(&stdin);
        ensure!(
            kind == Ok(SocketType::SEQPACKET),
            "standard input is not a socket of a process that upgrades"
        );
        Ok(Channel(stdin.as_fd().try_clone_to_owned()?))
    }

    pub(super) fn send(
        &self,
        message: &Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        ensure!(bytes.len() <= LONGEST, "a message is too long");
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            rights.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        loop {
            // Without SIGPIPE, if the other process has gone.
            match sendmsg(
                &self.0,
                &[IoSlice::new(&bytes)],
                &mut rights,
                SendFlags::NOSIGNAL,
            ) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).context("the other process has ended"),
            }
        }
    }

    /// Waits for the next message, and for its descriptor if it has one.
    ///
    /// # Errors
    /// If the other process has ended, or sends nothing within the limit.
    pub(super) fn receive(&self, limit: Duration) -> anyhow::Result<(Message, Option<OwnedFd>)> {
        self.wait(limit)?;
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut slices, &mut rights, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Ok(received) => break received.bytes,
                // ECONNRESET: it ended without reading what was sent to it.
                Err(Errno::CONNRESET) => break 0,
                Err(error) => return Err(error).context("cannot receive"),
            }
        };
        if received == 0 {
            bail!("the other process has ended");
        }
        let message = serde_json::from_slice(&bytes[..received])
            .context("the other process sent something unknown")?;
        let descriptor = rights.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok((message, descriptor))
    }

    fn wait(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let rest = Timespec::try_from(rest).context("the time is too long")?;
            let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut descriptors, Some(&rest)) {
                Err(Errno::INTR) => {}
                Ok(0) => bail!("it was not ready within {} s", limit.as_secs_f64()),
                polled => return polled.map(drop).context("cannot wait"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn channels() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel(theirs))
    }

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (one, other) = channels();
        let begin = Message::Begin {
            format: FORMAT,
            process: 1,
        };
        one.send(&begin, None).unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        one.send(&Message::Prepared, Some(file.as_fd())).unwrap();
        let (message, descriptor) = other.receive(LIMIT).unwrap();
        assert!(matches!(message, Message::Begin { process: 1, .. }));
        assert!(descriptor.is_none());
        let (message, descriptor) = other.receive(LIMIT).unwrap();
        assert!(matches!(message, Message::Prepared));
        let mut content = String::new();
        File::from(descriptor.unwrap())
            .read_to_string(&mut content)
            .unwrap();
        assert!(content.ends_with('\n'));
    }

    #[test]
    fn the_end_of_the_other_process_is_an_error() {
        let (one, other) = channels();
        one.send(&Message::Prepared, None).unwrap();
        drop(other);
        let error = one.receive(LIMIT).unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        assert!(one.send(&Message::Take, None).is_err());
    }

    #[test]
    fn silence_is_an_error_after_the_limit() {
        let (one, _other) = channels();
        let error = one.receive(Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains("not ready within"), "{error}");
    }
}
