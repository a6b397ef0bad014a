//! Standard output and standard error, shared by many guests line by line.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;

use super::delivery::{self, Message};

/// How many batches of lines may wait for a slow reader before guests have to wait.
const QUEUE: usize = 256;

/// A destination that guests print to, such as this process's standard output.
///
/// The output of each guest is passed on in whole lines, so that lines of different
/// connections never mix. A thread writes them: a slow reader slows the guests that print,
/// and nothing else. While a reader does not read at all for a second, lines are dropped, and
/// a line that counts them is printed later. A reader that has gone is not an error, nor is a
/// full disk; what cannot be written is lost.
///
/// Clones print to the same destination.
#[derive(Clone, Debug)]
pub struct Output {
    sender: PollSender<Message>,
}

impl Output {
    /// Starts to write to `destination`, in threads of its own.
    #[must_use]
    pub fn new(destination: impl Write + Send + 'static) -> Output {
        let (sender, receiver) = mpsc::channel(QUEUE);
        delivery::start(receiver, destination);
        Output {
            sender: PollSender::new(sender),
        }
    }

    /// Prints to this process's standard output.
    #[must_use]
    pub fn stdout() -> Output {
        Output::new(io::stdout())
    }

    /// Prints to this process's standard error.
    #[must_use]
    pub fn stderr() -> Output {
        Output::new(io::stderr())
    }

    /// Prints lines if they need not wait. Returns whether they were accepted.
    pub(super) fn try_print(&self, lines: Bytes) -> bool {
        let sender = self.sender.get_ref();
        sender.is_some_and(|sender| sender.try_send(Message::Print(lines)).is_ok())
    }

    /// Returns a sender that waits while the queue is full.
    pub(super) fn sender(&self) -> PollSender<Message> {
        self.sender.clone()
    }

    /// Prints a line of the host's own.
    pub async fn line(&self, line: &str) {
        self.send(Message::Print(format!("{line}\n").into())).await;
    }

    /// Waits until everything that was printed so far has been written, for at most
    /// `limit`: a reader that has stopped reading does not keep the process alive.
    pub async fn flush(&self, limit: Duration) {
        let written = async {
            let (done, written) = oneshot::channel();
            self.send(Message::Flush(done)).await;
            // Fails only if the writing thread has gone.
            let _ = written.await;
        };
        // A timeout is not an error, as documented.
        let _ = tokio::time::timeout(limit, written).await;
    }

    async fn send(&self, message: Message) {
        if let Some(sender) = self.sender.get_ref() {
            // Fails only after the writing thread has gone, with the process.
            let _ = sender.send(message).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_up_a_flush_only_for_so_long() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::new(Stuck);
        output.line("a line").await;
        output.flush(Duration::from_millis(10)).await;
    }
}
