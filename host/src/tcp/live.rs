//! What a connection holds until its end: its descriptor, its place in the reactor, and its
//! guard.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustls::Connection;
use tokio::io::Interest;

use super::ErrorCode;
use super::closing::Membership;
use super::listener::canonical;
use super::state::State;
use super::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use super::transport::Transport;
use super::waiters::Waiters;

/// The place of what a connection holds until its end.
///
/// Whoever uses the connection keeps the lock shared for one poll or one system call, and
/// asks for it once. Whoever ends the connection takes the contents out. So nobody waits for
/// the lock but the one who ends the connection, and that for one poll at most.
#[derive(Debug)]
pub(super) struct Slot(RwLock<Content>);

#[derive(Debug)]
enum Content {
    Live(Live),
    /// The connection has ended. Its local address outlives it.
    Ended(Option<SocketAddr>),
}

/// What a connection holds until its end.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) transport: Transport,
    membership: Membership,
    watch: Watch,
}

/// The shared use of what a connection holds; nothing if the connection has ended.
pub(super) struct Shared<'s>(RwLockReadGuard<'s, Content>);

impl Slot {
    pub(super) fn new(transport: Transport, membership: Membership) -> Self {
        Slot(RwLock::new(Content::Live(Live {
            transport,
            membership,
            watch: Watch::default(),
        })))
    }

    pub(super) fn share(&self) -> Shared<'_> {
        // No code panics while it holds the lock.
        Shared(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the contents out; `None` if somebody has before.
    pub(super) fn take(&self) -> Option<Live> {
        let mut content: RwLockWriteGuard<'_, _> =
            self.0.write().unwrap_or_else(PoisonError::into_inner);
        let address = match &*content {
            Content::Live(live) => live.local(),
            Content::Ended(_) => return None,
        };
        match std::mem::replace(&mut *content, Content::Ended(address)) {
            Content::Live(live) => Some(live),
            Content::Ended(_) => None,
        }
    }

    /// Begins TLS on the transport, after `sent` bytes in the clear; returns whether that was
    /// possible. Those who wait have to ask the transport again.
    pub(super) fn secure(&self, session: Connection, sent: u64) -> bool {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *content, Content::Ended(None)) {
            Content::Live(Live {
                transport,
                membership,
                watch,
            }) => {
                // It has a clone of the transport.
                drop(watch);
                let (transport, secured) = transport.secure(session, sent);
                *content = Content::Live(Live {
                    transport,
                    membership,
                    watch: Watch::default(),
                });
                secured
            }
            ended @ Content::Ended(_) => {
                *content = ended;
                false
            }
        }
    }

    /// Takes the contents out when nobody else is left; `None` if somebody has before.
    pub(super) fn take_last(&mut self) -> Option<Live> {
        let content = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(content, Content::Ended(None)) {
            Content::Live(live) => Some(live),
            Content::Ended(_) => None,
        }
    }

    /// The local address, also after the end.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match &*self.share().0 {
            Content::Live(live) => live.local(),
            Content::Ended(address) => *address,
        }
    }
}

impl Shared<'_> {
    pub(super) fn live(&self) -> Option<&Live> {
        match &*self.0 {
            Content::Live(live) => Some(live),
            Content::Ended(_) => None,
        }
    }
}

impl Live {
    fn local(&self) -> Option<SocketAddr> {
        self.transport.stream().local_addr().ok().map(canonical)
    }

    /// Waits for the reactor to report an error of the socket, and records it.
    pub(super) fn poll_failure(&self, state: &State, waiters: &Arc<Waiters>) -> Poll<ErrorCode> {
        let waker = Waker::from(waiters.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            ready!(self.watch.poll(&self.transport, &mut cx));
            // An event without an error: wait for the next one.
            if let Some(failure) = self.take_failure(state) {
                return Poll::Ready(failure);
            }
        }
    }

    /// Returns the error of the socket, if the reactor has seen one, after recording it.
    pub(super) fn take_failure(&self, state: &State) -> Option<ErrorCode> {
        let stream = self.transport.stream();
        let take = || {
            let mut state = state.lock();
            if let Some(failure) = state.failure() {
                return Ok(failure.clone());
            }
            match stream.take_error() {
                Ok(Some(error)) => Ok(state.fail(error.into())),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        stream.try_io(Interest::ERROR, take).ok()
    }

    /// Separates what closing needs.
    pub(super) fn into_parts(self) -> (Transport, Membership) {
        (self.transport, self.membership)
    }

    /// Closes the descriptor, and then ends the membership; with `reset`, sends RST first.
    pub(super) fn close(self, reset: bool) {
        let (transport, membership) = self.into_parts();
        if reset {
            transport.reset();
        }
        drop(transport.into_whole());
        drop(membership);
    }
}

/// The wait for an error of a socket, on behalf of everybody who waits for a failure.
///
/// It lies beside the transport and not in the futures that wait, because it uses the
/// transport as long as it exists. It is made when somebody waits for the first time.
#[derive(Default)]
struct Watch(Mutex<Option<Error>>);

type Error = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Watch {
    fn poll(&self, transport: &Transport, cx: &mut Context<'_>) -> Poll<()> {
        // No code panics while it holds the lock.
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let error = watch.get_or_insert_with(|| {
            let transport = transport.clone();
            Box::pin(async move {
                if transport.stream().ready(Interest::ERROR).await.is_err() {
                    // The runtime is shutting down, and all connections with it.
                    pending::<()>().await;
                }
            })
        });
        ready!(error.as_mut().poll(cx));
        *watch = None;
        Poll::Ready(())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
