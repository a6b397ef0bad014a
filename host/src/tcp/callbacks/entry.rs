//! One socket of a service in callback style: its connection, and what is due.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use halfopen_model::{Destroy, Event, Machine, Step, Written};

use super::ready::Signal;
use crate::tcp::waiters::Wait;
use crate::tcp::{Ending, ErrorCode, Socket};

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
    Error(ErrorCode),
    Close {
        had_error: bool,
    },
}

/// One socket of an instance.
pub(super) struct Entry {
    /// `None` once the socket has closed.
    socket: Option<Arc<Socket>>,
    machine: Machine<ErrorCode>,
    /// The data that is written and that the kernel has not taken.
    queue: BytesMut,
    /// A chunk that is received and not delivered, because the socket is paused.
    held: Vec<u8>,
    /// Wakes the driver for this socket.
    signal: Arc<Signal>,
    waker: Waker,
    remote: Option<SocketAddr>,
    /// Whether the event `connection` was delivered.
    begun: bool,
    /// Whether FIN is being sent.
    finishing: bool,
}

impl Entry {
    pub(super) fn new(socket: Arc<Socket>, signal: Arc<Signal>) -> Self {
        Entry {
            remote: socket.remote(),
            socket: Some(socket),
            machine: Machine::default(),
            queue: BytesMut::new(),
            held: Vec::new(),
            waker: Waker::from(signal.clone()),
            signal,
            begun: false,
            finishing: false,
        }
    }

    /// Whether the service knows the number of the socket.
    pub(super) fn is_given(&self) -> bool {
        self.begun
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

    pub(super) fn socket(&self) -> Option<&Arc<Socket>> {
        self.socket.as_ref()
    }

    // --- What the service calls ------------------------------------------------

    /// Writes as much of `data` as the kernel takes at once, and keeps at most `room` bytes of
    /// the rest. Returns what became of the data, and how many bytes were kept.
    ///
    /// Without room the connection is reset, and fails with `out-of-memory`.
    pub(super) fn write(&mut self, data: &[u8], room: usize) -> (Written, usize) {
        let Some(socket) = self.socket.as_ref().filter(|_| self.machine.can_write()) else {
            return (Written::Ended, 0);
        };
        let mut taken = 0;
        if self.machine.unsent() == 0 {
            let mut cx = Context::from_waker(&self.waker);
            while taken < data.len() {
                match socket.poll_send(&mut cx, &data[taken..]) {
                    Poll::Ready(Ok(length)) => taken += length,
                    Poll::Ready(Err(error)) => {
                        self.machine.fail(error);
                        return (Written::Ended, 0);
                    }
                    Poll::Pending => break,
                }
            }
        }
        let rest = &data[taken..];
        if rest.len() > room {
            socket.abort(Ending::Unsent);
            self.machine.fail(ErrorCode::OutOfMemory);
            return (Written::Ended, 0);
        }
        self.queue.extend_from_slice(rest);
        (self.machine.write_through(data.len(), taken), rest.len())
    }

    pub(super) fn end(&mut self) {
        self.machine.end();
    }

    pub(super) fn destroy(&mut self) {
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
        if !self.begun {
            self.begun = true;
            return Some(Due::Connection);
        }
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        // The length of a chunk in `buffer` that no event has delivered.
        let mut fresh = 0;
        loop {
            if let Some(event) = self.machine.next_event() {
                return Some(self.due(event, fresh));
            }
            if fresh > 0 {
                self.held = buffer[..fresh].to_vec();
                fresh = 0;
            }
            self.send(&mut cx);
            if self.machine.event_due() {
                continue;
            }
            let socket = self.socket.as_ref()?;
            if self.machine.may_read() {
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

    fn due(&mut self, event: Event<ErrorCode>, fresh: usize) -> Due {
        match event {
            Event::Data if fresh > 0 => Due::Data(fresh),
            Event::Data => Due::HeldData(std::mem::take(&mut self.held)),
            Event::End => Due::End,
            Event::Drain => Due::Drain,
            Event::Error(error) => Due::Error(error),
            Event::Close { had_error } => {
                // The last use of the connection: it closes gently (rule C2).
                self.socket = None;
                self.queue = BytesMut::new();
                self.held = Vec::new();
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
                Some(Step::Send) => match socket.poll_send(cx, &self.queue) {
                    Poll::Ready(Ok(length)) => {
                        socket.count_transfer();
                        self.queue.advance(length);
                        self.machine.taken(length);
                        if self.queue.is_empty() {
                            // Idle sockets keep no memory.
                            self.queue = BytesMut::new();
                        }
                    }
                    Poll::Ready(Err(error)) => return self.machine.fail(error),
                    Poll::Pending => return,
                },
                Some(Step::Finish) => match socket.begin_finish() {
                    Ok(()) => self.finishing = true,
                    Err(error) => return self.machine.fail(error),
                },
                Some(Step::Stop) => {
                    self.queue = BytesMut::new();
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
