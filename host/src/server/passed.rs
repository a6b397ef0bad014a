//! Connections that go on from one process to another, while their bytes only pass through.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::tcp::Parted;

/// A connection that a server has parted with, and the one to which its bytes pass, if that is
/// another one.
///
/// On drop, the server that has parted with it goes on with it, unless it [has left](Self::left).
/// One that has come from another process is reset.
pub struct Passed {
    peer: SocketAddr,
    age: Duration,
    parted: Option<Parted>,
    home: Option<Home>,
    /// Lets the server that has parted with it wait until it is another process's.
    leaving: Option<TaskTrackerToken>,
}

/// Goes on with a connection in the server that has parted with it.
pub(super) type Home = Arc<dyn Fn(Passed) + Send + Sync>;

impl Passed {
    /// A connection that came from another process: `peer` as the service knew it, the time since
    /// it was accepted, its stream, and that of the connection that the service had made itself.
    #[must_use]
    pub fn new(
        peer: SocketAddr,
        age: Duration,
        accepted: TcpStream,
        other: Option<TcpStream>,
    ) -> Self {
        let parted = Parted { accepted, other };
        Passed {
            peer,
            age,
            parted: Some(parted),
            home: None,
            leaving: None,
        }
    }

    /// A connection that leaves a server, which goes on with it if it has to.
    pub(super) fn leaving(
        peer: SocketAddr,
        age: Duration,
        parted: Parted,
        home: Home,
        leaving: TaskTrackerToken,
    ) -> Self {
        Passed {
            peer,
            age,
            parted: Some(parted),
            home: Some(home),
            leaving: Some(leaving),
        }
    }

    /// The peer, as the service knew it.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The time since the connection was accepted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// The descriptors that another process needs: of the connection that was accepted, and of
    /// the one that the service has made itself. Closing the last copy of one resets it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let parted = self.parted.iter();
        parted.flat_map(|parted| {
            let other = parted.other.as_ref().map(AsFd::as_fd);
            [Some(parted.accepted.as_fd()), other].into_iter().flatten()
        })
    }

    /// The descriptors are another process's: this one does not go on.
    pub fn left(mut self) {
        self.parted = None;
    }

    /// Takes the streams out, and what lets the server wait that has parted with them.
    pub(super) fn take(mut self) -> Option<(Parted, Option<TaskTrackerToken>)> {
        Some((self.parted.take()?, self.leaving.take()))
    }
}

/// The connections that leave a server. On drop, those that nobody has taken go on where they were.
#[derive(Debug)]
pub struct Leaving(mpsc::Receiver<Passed>);

impl Leaving {
    pub(super) fn new(queue: mpsc::Receiver<Passed>) -> Self {
        Leaving(queue)
    }

    /// Waits for the next connection that leaves; `None` once others are asked. Cancel safe.
    pub async fn next(&mut self) -> Option<Passed> {
        self.0.recv().await
    }

    /// Polls for the next connection that leaves.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Passed>> {
        self.0.poll_recv(cx)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let (_, nobody) = mpsc::channel(1);
        let mut rest = std::mem::replace(&mut self.0, nobody);
        rest.close();
        // Also those that are about to enter the queue: a receiver that is dropped would leave
        // them in there.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { while rest.recv().await.is_some() {} });
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        let (Some(home), Some(parted)) = (self.home.take(), self.parted.take()) else {
            return;
        };
        // Otherwise the process ends, and resets it.
        if Handle::try_current().is_ok() {
            home(Passed {
                peer: self.peer,
                age: self.age,
                parted: Some(parted),
                home: None,
                leaving: self.leaving.take(),
            });
        }
    }
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passed")
            .field("peer", &self.peer)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Whoever has a place in the queue may come after the end of the [`Leaving`].
    #[tokio::test]
    async fn who_comes_too_late_goes_home() {
        let (queue, leaving) = mpsc::channel(4);
        let home = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = || {
            let address = listener.local_addr().unwrap();
            let accepted = TcpStream::connect(address).unwrap();
            let mut passed = Passed::new(address, Duration::ZERO, accepted, None);
            let home = home.clone();
            passed.home = Some(Arc::new(move |_| _ = home.fetch_add(1, Ordering::Relaxed)));
            passed
        };
        let leaving = Leaving::new(leaving);
        queue.send(passed()).await.unwrap();
        let place = queue.clone().reserve_owned().await.unwrap();
        drop(leaving);
        assert!(queue.is_closed());
        drop(place.send(passed()));
        while home.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        passed().left();
        assert_eq!(home.load(Ordering::Relaxed), 2);
    }
}
