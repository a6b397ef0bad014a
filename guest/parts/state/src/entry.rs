//! One socket.

use std::collections::VecDeque;

use halfopen_model::{Destroy, Event, Idle, Machine, Sink, Source, Step, Written as Taken};

use crate::bindings::exports::halfopen::tcp::control::Order;
use crate::bindings::exports::halfopen::tcp::sockets::Written;
use crate::bindings::halfopen::tcp::types::{ErrorCode, IpSocketAddress};
use crate::clock;

/// Small writes are sent together, up to this many bytes.
const PIECE: usize = 64 * 1024;

/// How far the beginning of a connection has come.
#[derive(Clone, Copy)]
enum Stage {
    /// The service wants the connection.
    Wanted,
    /// The order to connect is being carried out.
    Connecting,
    /// The connection exists, and the order `connection` was not given.
    Connected,
    /// The order `connection` was given.
    Begun,
}

/// The state of a connection, and what is written and not sent.
pub(crate) struct Entry {
    machine: Machine<ErrorCode>,
    /// What no order has contained.
    queue: VecDeque<Vec<u8>>,
    /// The number of bytes of the last order to send.
    sending: usize,
    local: Option<IpSocketAddress>,
    remote: Option<IpSocketAddress>,
    stage: Stage,
    /// The order to connect, until it was given.
    wanted: Option<Order>,
    /// Whether the service makes the connection itself.
    own: bool,
    /// The length of the chunk that waits with the driver.
    held: usize,
    /// The sink of the pipe whose source this is.
    sink: Option<u32>,
    /// The source of the pipe that waits until this sink is free.
    waiting: Option<u32>,
    /// The idle time, if it was ever limited.
    pub(crate) idle: Option<Box<Idle>>,
    /// Whether an order to receive is being carried out.
    receiving: bool,
    /// Whether the connection has to be reset.
    reset: bool,
    /// Whether the socket is in the list of those that may have an order.
    pub(crate) listed: bool,
}

impl Entry {
    /// An accepted connection.
    pub(crate) fn new(local: Option<IpSocketAddress>, remote: Option<IpSocketAddress>) -> Self {
        Entry {
            machine: Machine::default(),
            queue: VecDeque::new(),
            sending: 0,
            local,
            remote,
            stage: Stage::Connected,
            wanted: None,
            own: false,
            held: 0,
            sink: None,
            waiting: None,
            idle: None,
            receiving: false,
            reset: false,
            listed: false,
        }
    }

    /// A connection that the service makes.
    pub(crate) fn connect(remote: IpSocketAddress) -> Self {
        Entry {
            stage: Stage::Wanted,
            wanted: Some(Order::Connect(remote)),
            own: true,
            ..Entry::new(None, Some(remote))
        }
    }

    /// A connection to a name that the service makes.
    pub(crate) fn connect_to_name(name: String, port: u16) -> Self {
        Entry {
            stage: Stage::Wanted,
            wanted: Some(Order::ConnectToName((name, port))),
            own: true,
            ..Entry::new(None, None)
        }
    }

    /// Whether the service knows the number of the socket.
    pub(crate) fn is_given(&self) -> bool {
        self.own || matches!(self.stage, Stage::Begun)
    }

    fn exists(&self) -> bool {
        matches!(self.stage, Stage::Connected | Stage::Begun)
    }

    // --- What the service calls ------------------------------------------------

    pub(crate) fn can_write(&self) -> bool {
        self.machine.can_write()
    }

    pub(crate) fn write(&mut self, data: Vec<u8>) -> Written {
        match self.machine.write(data.len()) {
            Taken::Ended => return Written::Ended,
            Taken::More => self.keep(data),
            Taken::Wait => {
                self.keep(data);
                return Written::Wait;
            }
        }
        Written::More
    }

    fn keep(&mut self, data: Vec<u8>) {
        match self.queue.back_mut() {
            _ if data.is_empty() => {}
            Some(last) if last.len() + data.len() <= PIECE => last.extend_from_slice(&data),
            _ => self.queue.push_back(data),
        }
    }

    pub(crate) fn end(&mut self) {
        self.machine.end();
    }

    pub(crate) fn destroy(&mut self) {
        let how = self.machine.destroy();
        self.carry_out(how);
    }

    pub(crate) fn reset(&mut self) {
        let how = self.machine.reset();
        self.carry_out(how);
    }

    fn carry_out(&mut self, how: Destroy) {
        self.reset |= how == Destroy::Reset;
        match self.stage {
            Stage::Begun => {}
            // Only `close` follows.
            Stage::Connected => self.stage = Stage::Begun,
            Stage::Wanted | Stage::Connecting => self.lost(),
        }
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        self.machine.pause(paused);
    }

    pub(crate) fn allow_half_open(&mut self, allow: bool) {
        self.machine.allow_half_open(allow);
    }

    pub(crate) fn set_timeout(&mut self, milliseconds: u32) {
        let limit = clock::milliseconds(milliseconds);
        self.idle.get_or_insert_default().set(clock::now(), limit);
    }

    pub(crate) fn unsent(&self) -> usize {
        self.machine.unsent()
    }

    /// What the service sees: after `destroy`, the rest is offered to the host one last time,
    /// and waits no longer.
    pub(crate) fn still_unsent(&self) -> usize {
        match self.machine.stopped() {
            true => 0,
            false => self.unsent(),
        }
    }

    pub(crate) fn local(&self) -> Option<IpSocketAddress> {
        self.local.filter(|_| !self.machine.closed())
    }

    pub(crate) fn remote(&self) -> Option<IpSocketAddress> {
        self.remote
    }

    // --- What the driver reports -----------------------------------------------

    pub(crate) fn found(&mut self, remote: IpSocketAddress) {
        self.remote = Some(remote);
    }

    pub(crate) fn connected(&mut self, local: Option<IpSocketAddress>) {
        self.stage = Stage::Connected;
        self.local = local;
        self.moved();
    }

    pub(crate) fn received(&mut self, length: u32) {
        self.receiving = false;
        self.held = length as usize;
        self.machine.received();
        self.moved();
    }

    pub(crate) fn receive_ended(&mut self) {
        self.receiving = false;
        if let Err(error) = self.machine.receive_end() {
            self.machine.fail(error);
        }
    }

    pub(crate) fn sent(&mut self) {
        self.machine.taken(self.sending);
        self.sending = 0;
        self.moved();
    }

    fn moved(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.moved(clock::now());
        }
    }

    pub(crate) fn lost(&mut self) {
        self.reset |= self.machine.flush_failed();
    }

    pub(crate) fn finished(&mut self) {
        self.machine.finished();
    }

    pub(crate) fn fail(&mut self, error: ErrorCode) {
        self.machine.fail(error);
    }

    /// Resets the connection, which fails with `error`.
    pub(crate) fn abort(&mut self, error: ErrorCode) {
        self.machine.fail(error);
        self.reset = true;
    }

    // --- What the driver asks --------------------------------------------------

    /// Records that the handler of the last event has returned.
    pub(crate) fn handled(&mut self) {
        self.machine.handled();
    }

    /// Returns the next order; `None` until something else happens.
    pub(crate) fn next(&mut self) -> Option<Order> {
        match self.stage {
            Stage::Connected => {
                self.stage = Stage::Begun;
                return Some(Order::Connection);
            }
            Stage::Wanted if !self.machine.stopped() => {
                self.stage = Stage::Connecting;
                return self.wanted.take();
            }
            _ => {}
        }
        if self.reset {
            self.reset = false;
            self.queue = VecDeque::new();
            return Some(Order::Reset);
        }
        if let Some(event) = self.machine.next_event() {
            return Some(match event {
                Event::Data => Order::Data,
                Event::End => Order::End,
                Event::Drain => Order::Drain,
                Event::Error(error) => Order::Error(error),
                Event::Close { had_error } => Order::Close(had_error),
            });
        }
        if self.machine.step_due() && (self.exists() || self.machine.stopped()) {
            match self.machine.next_step() {
                Some(Step::Send) => return self.send(),
                Some(Step::Finish) => return Some(Order::Finish),
                Some(Step::Stop) => self.queue = VecDeque::new(),
                None => {}
            }
        }
        if self.machine.may_read() && self.receive() {
            return Some(Order::Receive);
        }
        let passed = self.idle.as_mut().is_some_and(|idle| idle.take_passed());
        (passed && !self.machine.stopped()).then_some(Order::Timeout)
    }

    /// Returns whether the driver has to be ordered to receive.
    pub(crate) fn receive(&mut self) -> bool {
        self.exists() && !std::mem::replace(&mut self.receiving, true)
    }

    fn send(&mut self) -> Option<Order> {
        let piece = self.queue.pop_front()?;
        self.sending = piece.len();
        self.machine.offered(piece.len());
        // A destroyed socket sends only what the host takes at once (rule K5).
        Some(match self.machine.stopped() {
            true => Order::Flush(piece),
            false => Order::Send(piece),
        })
    }
}

/// What a pipe does with its source and its sink.
impl Entry {
    pub(crate) fn may_pipe(&self) -> bool {
        self.machine.may_pipe()
    }

    pub(crate) fn pipe_to(&mut self, sink: u32) {
        self.machine.pipe();
        self.sink = Some(sink);
    }

    /// The sink of the pipe whose source this is.
    pub(crate) fn sink(&self) -> Option<u32> {
        self.sink
    }

    pub(crate) fn source(&self) -> Source {
        self.machine.source()
    }

    /// Returns the length of the chunk that waits, which the pipe takes.
    pub(crate) fn take_held(&mut self) -> usize {
        self.machine.take_held();
        self.held
    }

    /// Ends the pipe, which has `passed` on the end of this source.
    pub(crate) fn unpipe(&mut self, passed: bool) {
        self.machine.unpipe(passed);
        self.sink = None;
    }

    /// Gives the sending direction to a pipe; returns whether that is possible.
    pub(crate) fn feed(&mut self) -> bool {
        self.machine.feed()
    }

    pub(crate) fn sink_state(&self) -> Sink {
        match self.machine.sink() {
            Sink::Send if !self.exists() => Sink::Wait,
            state => state,
        }
    }

    /// Lists the source once this sink is free.
    pub(crate) fn wait_for(&mut self, source: u32) {
        self.waiting = Some(source);
    }

    /// Returns the source that waits, if this sink is free or gone.
    pub(crate) fn frees(&mut self) -> Option<u32> {
        match self.waiting {
            Some(_) if self.sink_state() != Sink::Wait => self.waiting.take(),
            _ => None,
        }
    }

    /// Records that the order `pass` sends so many bytes.
    pub(crate) fn feed_data(&mut self, length: usize) {
        self.machine.fed(length, 0);
        // The order is this step.
        _ = self.machine.next_step();
        self.sending = length;
    }

    /// Ends the sending direction, because the peer of the source has.
    pub(crate) fn end_feed(&mut self) {
        self.machine.end_feed();
    }
}
