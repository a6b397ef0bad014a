//! Messages between a process and its successor, over a pair of Unix sockets. A message can
//! carry descriptors (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use halfopen::tls::TicketKeys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::message::Message;

/// The limit on one message, far below the send buffer of a Unix socket.
const LONGEST: usize = 64 * 1024;
/// How many descriptors a message has at most.
pub(super) const DESCRIPTORS: usize = 2;
/// How long the other process may leave unread what is sent to it.
const UNREAD: Duration = Duration::from_secs(30);

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
        let stdin = io::stdin();
        let kind = rustix::net::sockopt::socket_type(&stdin);
        ensure!(
            kind == Ok(SocketType::SEQPACKET),
            "standard input is not a socket of a process that upgrades"
        );
        Ok(Channel(stdin.as_fd().try_clone_to_owned()?))
    }

    /// The end that was handed over.
    pub(super) fn of(descriptor: OwnedFd) -> Self {
        Channel(descriptor)
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Channel(self.0.try_clone()?))
    }

    /// Sends a message. Blocks while the other process does not read, for [`UNREAD`] at most.
    pub(super) fn send(
        &self,
        message: &Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> anyhow::Result<()> {
        self.transmit(&encoded(message)?, descriptor.as_slice())
    }

    /// Sends keys, of which no copy stays behind. They follow [`Message::Tickets`].
    pub(super) fn send_keys(&self, keys: &TicketKeys) -> anyhow::Result<()> {
        self.transmit(keys.as_bytes(), &[])
    }

    fn transmit(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        loop {
            match self.transmit_now(bytes, descriptors) {
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, UNREAD)?,
                sent => return sent.context("the other process has ended"),
            }
        }
    }

    /// Sends a message with descriptors, at most [`DESCRIPTORS`], if the other process has read
    /// enough of those before.
    pub(super) fn send_now(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = encoded(message).map_err(io::Error::other)?;
        Ok(self.transmit_now(&bytes, descriptors)?)
    }

    fn transmit_now(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            rights.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let slices = [IoSlice::new(bytes)];
        // Without SIGPIPE, if the other process has gone.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match sendmsg(&self.0, &slices, &mut rights, flags) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// Waits for the next message, and for its descriptor if it has one.
    ///
    /// # Errors
    /// If the other process has ended, or sends nothing within the limit.
    pub(super) fn receive(&self, limit: Duration) -> anyhow::Result<(Message, Option<OwnedFd>)> {
        self.wait(PollFlags::IN, limit)?;
        let mut bytes = vec![0; LONGEST];
        let (length, descriptors) = self.take(&mut bytes).context("cannot receive")?;
        Ok((decoded(&bytes[..length])?, descriptors.into_iter().next()))
    }

    /// Waits for keys.
    pub(super) fn receive_keys(&self, limit: Duration) -> anyhow::Result<TicketKeys> {
        self.wait(PollFlags::IN, limit)?;
        let mut bytes = vec![0; 1024];
        let (length, _) = self.take(&mut bytes).context("cannot receive")?;
        ensure!(length > 0, GONE);
        bytes.truncate(length);
        Ok(TicketKeys::from(bytes))
    }

    /// Receives a message with its descriptors, if there is one.
    ///
    /// # Errors
    /// `UnexpectedEof` if the other process has ended.
    pub(super) fn receive_now(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut bytes = vec![0; LONGEST];
        let (length, descriptors) = self.take(&mut bytes)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message = decoded(&bytes[..length]).map_err(io::Error::other)?;
        Ok((message, descriptors))
    }

    /// Takes what has come. 0 bytes: the other process has ended.
    fn take(&self, bytes: &mut [u8]) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = loop {
            let mut slices = [IoSliceMut::new(bytes)];
            match recvmsg(&self.0, &mut slices, &mut rights, flags) {
                Err(Errno::INTR) => {}
                Ok(received) => break received.bytes,
                // It ended without reading what was sent to it.
                Err(Errno::CONNRESET) => break 0,
                Err(error) => return Err(error),
            }
        };
        let mut all = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                all.extend(descriptors);
            }
        }
        Ok((received, all))
    }

    fn wait(&self, what: PollFlags, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let rest = Timespec::try_from(rest).context("the time is too long")?;
            let mut descriptors = [PollFd::new(&self.0, what)];
            match poll(&mut descriptors, Some(&rest)) {
                Err(Errno::INTR) => {}
                Ok(0) => bail!("it was not ready within {} s", limit.as_secs_f64()),
                polled => return polled.map(drop).context("cannot wait"),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const GONE: &str = "the other process has ended";

fn encoded(message: &Message) -> anyhow::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(message)?;
    ensure!(bytes.len() <= LONGEST, "a message is too long");
    Ok(bytes)
}

fn decoded(bytes: &[u8]) -> anyhow::Result<Message> {
    ensure!(!bytes.is_empty(), GONE);
    serde_json::from_slice(bytes).context("the other process sent something unknown")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::super::message::FORMAT;
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
            generation: 1,
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
    fn two_descriptors_arrive_with_one_message() {
        let (one, other) = channels();
        let files = ["/proc/self/comm", "/proc/self/stat"].map(|path| File::open(path).unwrap());
        let descriptors = files.each_ref().map(AsFd::as_fd);
        one.send_now(&Message::Tell, &descriptors).unwrap();
        let (_, arrived) = other.receive_now().unwrap();
        let lengths: Vec<_> = arrived
            .into_iter()
            .map(|file| {
                let mut content = String::new();
                File::from(file).read_to_string(&mut content).unwrap();
                content.split_whitespace().count()
            })
            .collect();
        assert!(lengths.len() == 2 && lengths[0] < lengths[1], "{lengths:?}");
    }

    #[test]
    fn keys_arrive_whole() {
        let (one, other) = channels();
        one.send(&Message::Tickets, None).unwrap();
        one.send_keys(&TicketKeys::from(vec![7; 100])).unwrap();
        assert!(matches!(other.receive(LIMIT).unwrap().0, Message::Tickets));
        let keys = other.receive_keys(LIMIT).unwrap();
        assert_eq!(keys.as_bytes(), [7; 100]);
    }

    #[test]
    fn who_does_not_read_holds_up_nobody_for_ever() {
        let (one, _other) = channels();
        let full = loop {
            if let Err(error) = one.send_now(&Message::Tell, &[]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let error = one
            .wait(PollFlags::OUT, Duration::from_millis(1))
            .unwrap_err();
        assert!(error.to_string().contains("not ready within"), "{error}");
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
