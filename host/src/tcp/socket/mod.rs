//! One connected TCP socket.
//!
//! The guest's handle, the stream that the guest reads, the stream that the guest writes
//! and a native [`pump`](super::pump) each hold an `Arc<Socket>`. When the last of them is
//! dropped, the connection is closed gently (rule C2).
//!
//! A connection may end before: it fails, is reset, or both directions end. Its descriptor
//! and its guard then go at once, whoever still holds the socket (rule C5); see `ended`.
//!
//! # Locks
//! In the order in which they are taken: the [`Slot`] (shared, except by whoever ends the
//! connection), a lock of the transport, the [`State`]. The [`Waiters`] have a lock of their
//! own, under which nothing else is locked. A guard is dropped and a task is woken under no
//! lock.

mod ended;
#[cfg(test)]
mod moved;
mod parting;
pub(in crate::tcp) mod securing;
mod sending;
mod splicing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use socket2::SockRef;
use tokio::runtime::Handle;

use super::activity::Activity;
use super::closing::{self, Guard, Membership};
use super::live::{Live, Slot};
use super::registry::{Member, Registry, Traffic};
use super::state::State;
use super::sync::atomic::AtomicBool;
use super::sync::{Arc, OnceLock, Weak};
use super::transport::{Stream, Transport};
use super::turn::poll_turn;
use super::waiters::{Wait, Waiters};
use super::{Ending, ErrorCode, Meter, PeerTls, Timeouts};
use crate::events::{Connection as Open, Kind, Track};

/// What a host attaches to a connection that it opens.
pub(crate) struct Attachment {
    /// Counts the connection's bytes and records its end.
    pub(crate) meter: Arc<Meter>,
    /// The peer's TLS session; `None` if there is none, or if it is not known.
    pub(crate) peer_session: Option<Box<PeerTls>>,
    /// Dropped when the connection has ended, whoever still holds its socket.
    pub(crate) guard: Guard,
}

/// A connected socket, shared by everything that uses the connection.
#[derive(Debug)]
pub(crate) struct Socket {
    slot: Slot,
    state: State,
    waiters: Arc<Waiters>,
    /// The registry of the store, for counting transfers.
    registry: Registry,
    remote: Option<SocketAddr>,
    peer_session: Option<Box<PeerTls>>,
    /// The session that the service has begun itself, after its handshake.
    own_session: OnceLock<Box<PeerTls>>,
    /// The runtime that closes the connection, after its store or caller is gone.
    runtime: Handle,
    me: Weak<Socket>,
    /// Whether a task sends what a writer has given up.
    flushing: AtomicBool,
    /// Whether a task will end the connection, which has failed.
    lingering: AtomicBool,
}

impl Socket {
    /// Takes over a connected stream, in the current tokio runtime, and enters it into
    /// `registry` and `outer`.
    ///
    /// # Errors
    /// If the runtime cannot register the stream.
    pub(super) fn open(
        stream: Stream,
        remote: Option<SocketAddr>,
        registry: &Registry,
        outer: Option<&Registry>,
        attachment: Option<Attachment>,
    ) -> io::Result<Arc<Self>> {
        let transport = Transport::open(stream)?;
        let remote = remote.or_else(|| transport.stream().peer_addr().ok());
        let (meter, peer_session, guard) = match attachment {
            Some(attachment) => (
                Some(attachment.meter),
                attachment.peer_session,
                Some(attachment.guard),
            ),
            None => (None, None, None),
        };
        Ok(Arc::new_cyclic(|socket: &Weak<Socket>| {
            let membership = Membership {
                registration: registry.register(socket.clone()),
                outer: outer.map(|outer| outer.register(socket.clone())),
                _guard: guard,
            };
            Socket {
                slot: Slot::new(transport, membership),
                state: State::new(meter),
                waiters: Arc::default(),
                registry: registry.clone(),
                remote,
                peer_session,
                own_session: OnceLock::new(),
                runtime: Handle::current(),
                me: socket.clone(),
                flushing: AtomicBool::new(false),
                lingering: AtomicBool::new(false),
            }
        }))
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.slot.local()
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The peer's TLS session, if it is known.
    pub(super) fn peer_session(&self) -> Option<&PeerTls> {
        let own = self.own_session.get();
        own.or(self.peer_session.as_ref()).map(|session| &**session)
    }

    /// Sets an option of the socket.
    ///
    /// # Errors
    /// Those of `set`; `invalid-state` after the end of the connection.
    pub(super) fn set_option(
        &self,
        set: impl FnOnce(SockRef<'_>) -> io::Result<()>,
    ) -> Result<(), ErrorCode> {
        match self.slot.share().live() {
            Some(live) => Ok(set(SockRef::from(live.transport.stream()))?),
            None => Err(ErrorCode::InvalidState),
        }
    }

    /// The error of the connection, if it has failed.
    pub(super) fn failure(&self) -> Option<ErrorCode> {
        self.state.lock().failure().cloned()
    }

    /// Reports an event of the connection.
    pub(super) fn report(&self, kind: impl FnOnce() -> Kind) {
        if let Some(meter) = self.state.meter() {
            meter.track().report(kind);
        }
    }

    /// Reports that an instance of the service has the connection.
    pub(crate) fn served(&self, instance: u64) {
        if let Some(meter) = self.state.meter() {
            meter.track().served(instance);
        }
    }

    /// Notes why the connection is about to be reset.
    pub(crate) fn note(&self, note: impl FnOnce() -> String) {
        if let Some(meter) = self.state.meter() {
            meter.track().note(note);
        }
    }

    /// Counts one transfer of data between the guest and the connection.
    pub(super) fn count_transfer(&self) {
        self.registry.count_transfer();
    }

    /// Polls what the connection holds, and lets the task wait, also for the end of the
    /// connection. `None` if the connection has ended.
    fn poll_live<T>(
        &self,
        cx: &mut Context<'_>,
        wait: Wait,
        poll: impl FnOnce(&Live, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        let shared = self.slot.share();
        let Some(live) = shared.live() else {
            return Poll::Ready(None);
        };
        let polled = poll(live, cx);
        if polled.is_pending() {
            // Whoever ends the connection takes the contents first, and wakes then.
            self.waiters.add(wait, cx.waker());
        }
        polled.map(Some)
    }

    // --- Receiving -------------------------------------------------------------

    /// Waits until there is something to receive: data, the end or an error.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_turn(cx));
        let readable =
            |live: &Live, cx: &mut Context<'_>| live.transport.poll_readable(cx, &self.state);
        if let Some(Err(_)) = ready!(self.poll_live(cx, Wait::Receive, readable)) {
            self.settle();
        }
        Poll::Ready(())
    }

    /// Receives into `buffer`, which must not be empty; 0 is the peer's FIN.
    ///
    /// Takes from tokio's cooperative budget, so that one fast peer cannot starve the
    /// others.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        ready!(poll_turn(cx));
        let receive = |live: &Live, cx: &mut Context<'_>| {
            live.transport.poll_receive(cx, buffer, &self.state)
        };
        Poll::Ready(match ready!(self.poll_live(cx, Wait::Receive, receive)) {
            Some(Ok(0)) => self.receive_end().map(|()| 0),
            Some(Ok(length)) => {
                if let Some(meter) = self.state.meter() {
                    meter.add_received(length, buffer.get(..length));
                }
                Ok(length)
            }
            Some(Err(error)) => {
                // Everything that had arrived before is received.
                self.release();
                Err(error)
            }
            // The connection has ended: it has failed, or the peer's FIN has come.
            None => self.failure().map_or(Ok(0), Err),
        })
    }

    /// Records that EOF was read.
    ///
    /// # Errors
    /// If the connection has failed. All data has been received then, too.
    fn receive_end(&self) -> Result<(), ErrorCode> {
        let mut state = self.state.lock();
        let received = state.receive_end();
        let ended = received.is_err() || state.over();
        drop(state);
        if ended {
            self.release();
        }
        received
    }
}

impl Member for Socket {
    fn count(&self, traffic: &mut Traffic) {
        let state = self.state.lock();
        if state.over() {
            traffic.closing += 1;
        } else if state.half_open() {
            traffic.half_open += 1;
        } else {
            traffic.open += 1;
        }
        drop(state);
        if let Some(meter) = self.state.meter()
            && !meter.is_of_guest()
        {
            let (received, sent) = meter.bytes();
            traffic.received += received;
            traffic.sent += sent;
        }
    }

    fn activity(&self) -> Option<Activity> {
        let meter = self.state.meter()?;
        let state = self.state.lock();
        if state.over() || state.failure().is_some() {
            return None;
        }
        let (began, last_byte) = meter.activity();
        Some(Activity { last_byte, began })
    }

    fn abort(&self, ending: Ending) {
        self.abort(ending);
    }

    fn track(&self) -> Option<&Track> {
        self.state.meter().map(Meter::track)
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.remote
    }

    fn look(&self) {
        let Some(meter) = self.state.meter() else {
            return;
        };
        if meter.track().scope().is_none() {
            return;
        }
        let finished = {
            let state = self.state.lock();
            state.finished() && !state.over() && state.failure().is_none()
        };
        let (waits, acknowledged) = {
            let shared = self.slot.share();
            let transport = shared.live().map(|live| &live.transport);
            // The lock of the state is not held: the FIN was queued before.
            let acknowledged = |transport: &Transport| finished && transport.is_acknowledged();
            (
                transport.is_some_and(Transport::holds_unread),
                transport.is_some_and(acknowledged),
            )
        };
        meter.track().look(waits, meter.bytes().0);
        if acknowledged {
            meter.track().acknowledged();
        }
    }

    fn seen(&self) -> Option<Open> {
        let meter = self.state.meter()?;
        let track = meter.track();
        let scope = track.scope()?;
        let (received_end, sent_end) = {
            let state = self.state.lock();
            (state.received_end(), state.finished())
        };
        let (received, sent) = meter.bytes();
        let known = track.connection();
        Some(Open {
            peer: self.remote,
            local: self.local(),
            began: scope.at(meter.began()),
            received,
            sent,
            received_end,
            sent_end,
            acknowledged: sent_end && known.acknowledged,
            ..known
        })
    }

    fn enforce(&self, timeouts: &Timeouts, now: Instant) {
        self.notice_end();
        let Some(meter) = self.state.meter() else {
            return;
        };
        let over = self.state.lock().over();
        let delivery = |sent| self.slot.share().live()?.transport.delivery(sent);
        if let Some(limit) = meter.overdue(timeouts, now, over, delivery) {
            meter.note_limit(limit, timeouts);
            self.abort(Ending::Limit(limit));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(live) = self.slot.take_last() {
            let (transport, membership) = live.into_parts();
            closing::close(transport, membership, &self.state, &self.runtime);
        }
        // Tasks that send for the connection have to find that it has gone.
        self.waiters.wake_all();
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("meter", &self.meter)
            .field("peer_session", &self.peer_session)
            .finish_non_exhaustive()
    }
}
