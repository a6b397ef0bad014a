//! One socket of a service in callback style: its connection, and what is due.

mod piped;
mod securing;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use halfopen_model::{Destroy, Event, Machine, Source, Step, Written};

pub(super) use piped::Passed;

use super::clock::Watch;
use super::queue::Queue;
use super::ready::Signal;
use super::securing::Securing;
use crate::events::Kind;
use crate::tcp::flow::Flow;
use crate::tcp::waiters::Wait;
use crate::tcp::{Connection, Ending, ErrorCode, PeerTls, Socket};

/// An event that is due, and what comes with it.
#[derive(Debug)]
pub(super) enum Due {
    Connection,
    /// The chunk is in the buffer that was passed, and has this length.
    Data(usize),
    /// The chunk has waited, because the socket was paused.
    HeldData(Vec<u8>),
    End,
    Drain,
    Secured,
    Timeout,
    Error(ErrorCode),
    Close {
        had_error: bool,
    },
}

/// Resolves when a connection that the service makes exists, or has failed. The lock makes it
/// `Sync`; it is never taken.
type Connecting = Mutex<Pin<Box<dyn Future<Output = Result<Connection, ErrorCode>> + Send>>>;

/// One socket of an instance.
pub(super) struct Entry {
    /// `None` until the socket is connected, and once it has closed.
    socket: Option<Arc<Socket>>,
    connecting: Option<Box<Connecting>>,
    machine: Machine<ErrorCode>,
    /// The data that is written and that the kernel has not taken.
    queue: Queue,
    /// A chunk that is received and not delivered, because the socket is paused.
    held: Vec<u8>,
    /// Wakes the driver for this socket.
    signal: Arc<Signal>,
    waker: Waker,
    remote: Option<SocketAddr>,
    /// Whether the service makes the connection itself.
    own: bool,
    /// Whether the event `connection` was delivered.
    begun: bool,
    /// Whether FIN is being sent.
    finishing: bool,
    /// The idle time, if it was ever limited.
    pub(super) watch: Option<Box<Watch>>,
    /// The sink of the pipe whose source this is.
    sink: Option<u32>,
    /// What comes for the pipe whose source this is.
    flow: Flow,
    /// The source of the pipe that waits until this sink is free.
    waiting: Option<u32>,
    /// The TLS that the service has begun, until its handshake is done.
    securing: Option<Box<Securing>>,
    /// The peer's TLS session, while the event `close` is handled.
    session: Option<Box<PeerTls>>,
}

impl Entry {
    /// An accepted connection.
    pub(super) fn new(socket: Arc<Socket>, signal: Arc<Signal>) -> Self {
        let remote = socket.remote();
        Entry::of(Some(socket), None, remote, signal)
    }

    /// A connection that the service makes.
    pub(super) fn connecting(
        connecting: impl Future<Output = Result<Connection, ErrorCode>> + Send + 'static,
        remote: Option<SocketAddr>,
        signal: Arc<Signal>,
    ) -> Self {
        let connecting: Connecting = Mutex::new(Box::pin(connecting));
        Entry::of(None, Some(Box::new(connecting)), remote, signal)
    }

    fn of(
        socket: Option<Arc<Socket>>,
        connecting: Option<Box<Connecting>>,
        remote: Option<SocketAddr>,
        signal: Arc<Signal>,
    ) -> Self {
        Entry {
            socket,
            own: connecting.is_some(),
            connecting,
            machine: Machine::default(),
            queue: Queue::default(),
            held: Vec::new(),
            waker: Waker::from(signal.clone()),
            signal,
            remote,
            begun: false,
            finishing: false,
            watch: None,
            sink: None,
            flow: Flow::default(),
            waiting: None,
            securing: None,
            session: None,
        }
    }

    /// Records that the handler of the last event has returned.
    pub(super) fn handled(&mut self) {
        self.machine.handled();
    }

    /// Whether the service knows the number of the socket.
    pub(super) fn is_given(&self) -> bool {
        self.begun || self.own
    }

    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local()
    }

    /// The peer's TLS session, if it is known.
    pub(super) fn session(&self) -> Option<&PeerTls> {
        match &self.socket {
            Some(socket) => socket.peer_session(),
            None => self.session.as_deref(),
        }
    }

    // --- What the service calls ------------------------------------------------

    /// Writes as much of `data` as the kernel takes at once, and keeps at most `room` bytes of
    /// the rest. Returns what became of the data, and how many bytes were kept.
    ///
    /// Without room the connection is reset, and fails with `out-of-memory`.
    pub(super) fn write(&mut self, data: &[u8], room: usize) -> (Written, usize) {
        if !self.machine.can_write() {
            return (Written::Ended, 0);
        }
        let Some(taken) = self.offer(data) else {
            return (Written::Ended, 0);
        };
        let rest = &data[taken..];
        if rest.len() > room {
            if let Some(socket) = &self.socket {
                socket.abort(Ending::Unsent);
            }
            self.machine.fail(ErrorCode::OutOfMemory);
            return (Written::Ended, 0);
        }
        self.queue.push(rest);
        (self.machine.write_through(data.len(), taken), rest.len())
    }

    /// Offers data to the kernel, if nothing waits before it. Returns how much the kernel has
    /// taken; `None` if the connection has failed.
    fn offer(&mut self, data: &[u8]) -> Option<usize> {
        let mut taken = 0;
        let Some(socket) = self.socket.as_ref().filter(|_| self.machine.unsent() == 0) else {
            return Some(taken);
        };
        let mut cx = Context::from_waker(&self.waker);
        while taken < data.len() {
            match socket.poll_send(&mut cx, &data[taken..]) {
                Poll::Ready(Ok(length)) => taken += length,
                Poll::Ready(Err(error)) => {
                    self.machine.fail(error);
                    return None;
                }
                Poll::Pending => break,
            }
        }
        if taken > 0
            && let Some(watch) = &mut self.watch
        {
            watch.moved();
        }
        Some(taken)
    }

    pub(super) fn end(&mut self) {
        self.machine.end();
    }

    pub(super) fn destroy(&mut self) {
        if self.securing.is_some() {
            // Without a session nothing can be ended in a way that the peer would believe.
            return self.reset();
        }
        match self.machine.destroy() {
            Destroy::Nothing => {}
            Destroy::Reset => self.abort(),
            Destroy::Close => {
                let waker = self.waker.clone();
                self.send(&mut Context::from_waker(&waker));
                if self.machine.flush_failed() {
                    self.abort();
                }
            }
        }
    }

    pub(super) fn reset(&mut self) {
        if self.machine.reset() == Destroy::Reset {
            self.abort();
        }
    }

    fn abort(&mut self) {
        if let Some(socket) = &self.socket {
            socket.abort(Ending::Reset);
        }
    }

    pub(super) fn pause(&mut self, paused: bool) {
        if let Some(socket) = &self.socket
            && self.machine.is_paused() != paused
        {
            socket.report(|| match paused {
                true => Kind::Paused,
                false => Kind::Resumed,
            });
        }
        self.machine.pause(paused);
    }

    pub(super) fn allow_half_open(&mut self, allow: bool) {
        self.machine.allow_half_open(allow);
    }

    pub(super) fn unsent(&self) -> usize {
        self.machine.unsent()
    }

    /// The number of bytes that are kept for the socket.
    pub(super) fn kept(&self) -> usize {
        self.queue.len()
    }

    // --- What the driver calls -------------------------------------------------

    /// Sends and receives what can be, until an event is due; returns that. `None` means that
    /// the driver is woken when there is more to do. A chunk is received into `buffer`.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Option<Due> {
        let due = self.advance(buffer);
        if due.is_none()
            && (self.socket.is_some() || self.connecting.is_some())
            && let Some(watch) = &mut self.watch
            && watch.take_passed()
        {
            return Some(Due::Timeout);
        }
        due
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Option<Due> {
        if self.connecting.is_some() && !self.connect() {
            return None;
        }
        if !self.begun && self.socket.is_some() {
            self.begun = true;
            return Some(Due::Connection);
        }
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        // The length of a chunk in `buffer` that no event has delivered.
        let mut fresh = 0;
        loop {
            let all_clear = self.send_clear(&mut cx);
            if self.poll_secured(&mut cx) {
                return Some(Due::Secured);
            }
            if let Some(event) = self.machine.next_event() {
                return Some(self.due(event, fresh));
            }
            if fresh > 0 {
                self.held = buffer[..fresh].to_vec();
                fresh = 0;
            }
            if all_clear {
                self.send(&mut cx);
            }
            if self.machine.event_due() {
                continue;
            }
            let socket = self.socket.as_ref()?;
            if self.machine.may_read() && self.securing.is_none() {
                match socket.poll_receive(&mut cx, buffer) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(0)) => {
                        if let Err(error) = self.machine.receive_end() {
                            self.machine.fail(error);
                        }
                    }
                    Poll::Ready(Ok(length)) => {
                        socket.count_transfer();
                        self.machine.received();
                        fresh = length;
                        if let Some(watch) = &mut self.watch {
                            watch.moved();
                        }
                    }
                    Poll::Ready(Err(error)) => self.machine.fail(error),
                }
            } else {
                match socket.poll_failed(&mut cx, Wait::Received) {
                    Poll::Pending => return None,
                    Poll::Ready(error) => self.machine.fail(error),
                }
            }
        }
    }

    /// Goes on connecting; returns whether that is over.
    fn connect(&mut self) -> bool {
        if self.machine.source() == Source::Failed {
            // Destroyed meanwhile, or out of memory.
            self.connecting = None;
            return true;
        }
        let Some(connecting) = &mut self.connecting else {
            return true;
        };
        let connecting = connecting.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut cx = Context::from_waker(&self.waker);
        let Poll::Ready(connected) = connecting.as_mut().poll(&mut cx) else {
            return false;
        };
        self.connecting = None;
        match connected {
            Ok(connection) => {
                let socket = connection.into_socket();
                self.remote = socket.remote();
                self.socket = Some(socket);
            }
            Err(error) => self.machine.fail(error),
        }
        if let Some(watch) = &mut self.watch {
            watch.moved();
        }
        true
    }

    fn due(&mut self, event: Event<ErrorCode>, fresh: usize) -> Due {
        match event {
            Event::Data if fresh > 0 => Due::Data(fresh),
            Event::Data => Due::HeldData(std::mem::take(&mut self.held)),
            Event::End => Due::End,
            Event::Drain => Due::Drain,
            Event::Error(error) => Due::Error(error),
            Event::Close { had_error } => {
                // The last use of the connection: it closes gently (rule C2).
                if let Some(socket) = self.socket.take() {
                    self.session = socket.peer_session().cloned().map(Box::new);
                }
                self.queue = Queue::default();
                self.held = Vec::new();
                self.securing = None;
                Due::Close { had_error }
            }
        }
    }

    /// Sends what is written, and FIN behind it, as far as the kernel has room.
    fn send(&mut self, cx: &mut Context<'_>) {
        let Some(socket) = &self.socket else {
            return;
        };
        loop {
            match self.machine.next_step() {
                Some(Step::Send) => match socket.poll_send(cx, self.queue.front()) {
                    Poll::Ready(Ok(length)) => {
                        socket.count_transfer();
                        if let Some(watch) = &mut self.watch {
                            watch.moved();
                        }
                        self.queue.advance(length);
                        self.machine.taken(length);
                    }
                    Poll::Ready(Err(error)) => return self.machine.fail(error),
                    Poll::Pending => return,
                },
                Some(Step::Finish) => match socket.begin_finish() {
                    Ok(()) => self.finishing = true,
                    Err(error) => return self.machine.fail(error),
                },
                Some(Step::Stop) => {
                    self.queue = Queue::default();
                    return;
                }
                None => break,
            }
        }
        if self.finishing
            && let Poll::Ready(finished) = socket.poll_finish(cx)
        {
            self.finishing = false;
            match finished {
                Ok(()) => self.machine.finished(),
                Err(error) => self.machine.fail(error),
            }
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("socket", &self.socket)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
