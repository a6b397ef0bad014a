//! Connections whose bytes only pass through, from one process to the next.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use halfopen::{Passed, ServerHandle};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::line::Line;
use super::message::Message;

/// How long to wait when too many descriptors are on the way.
const CROWDED: Duration = Duration::from_millis(50);

/// A connection that another process has handed over. Dropping it resets the connection.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) service: String,
    pub(crate) passed: Passed,
}

/// Where connections go that other processes hand over.
pub(crate) type Arrivals = mpsc::UnboundedSender<Arrived>;

/// The connections that leave this process, as long as the newest one takes them.
#[derive(Default)]
pub(super) struct Leaving(Vec<OfServer>);

struct OfServer {
    service: String,
    leaving: halfopen::Leaving,
}

impl Leaving {
    /// Lets connections of these services leave, and no others.
    pub(super) fn let_leave<'s>(
        &mut self,
        services: &[String],
        servers: impl Iterator<Item = (&'s String, &'s Arc<ServerHandle>)>,
    ) {
        // Whoever waits in the line of before finds the new one.
        self.stop();
        let taken = servers.filter(|(service, _)| services.contains(service));
        self.0 = taken
            .map(|(service, server)| OfServer {
                service: service.clone(),
                leaving: server.hand_over(),
            })
            .collect();
    }

    /// Lets no more connections leave. Those in line go on in this process.
    pub(super) fn stop(&mut self) {
        self.0.clear();
    }

    /// Waits for the next connection that leaves. Cancel safe.
    pub(super) async fn next(&mut self) -> Departure {
        poll_fn(|cx| {
            for one in &mut self.0 {
                if let Poll::Ready(Some(passed)) = one.leaving.poll_next(cx) {
                    return Poll::Ready(Departure {
                        message: Message::Passed {
                            service: one.service.clone(),
                            peer: passed.peer(),
                            age: passed.age().as_millis().try_into().unwrap_or(u64::MAX),
                        },
                        passed,
                    });
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A connection that leaves. On drop, it goes on in this process.
pub(super) struct Departure {
    message: Message,
    passed: Passed,
}

impl Departure {
    /// Hands the connection over.
    ///
    /// # Errors
    /// If the other process does not take it. It goes on in this one.
    pub(super) async fn depart(self, line: &Line) -> io::Result<()> {
        let descriptors: Vec<_> = self.passed.descriptors().collect();
        loop {
            match line.send_with(&self.message, &descriptors).await {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                    sleep(CROWDED).await;
                }
                sent => {
                    sent?;
                    break;
                }
            }
        }
        drop(descriptors);
        self.passed.left();
        Ok(())
    }
}

/// Takes a connection in, if the message is about one and has its descriptors.
pub(super) fn arrived(message: &Message, descriptors: Vec<OwnedFd>) -> Option<Arrived> {
    let Message::Passed { service, peer, age } = message else {
        return None;
    };
    let mut streams = descriptors.into_iter().map(TcpStream::from);
    let (accepted, other) = (streams.next()?, streams.next());
    Some(Arrived {
        service: service.clone(),
        passed: Passed::new(*peer, Duration::from_millis(*age), accepted, other),
    })
}
