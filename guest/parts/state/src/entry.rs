//! One socket.

use std::collections::VecDeque;

use halfopen_model::{Destroy, Event, Machine, Step, Written as Taken};

use crate::bindings::exports::halfopen::tcp::control::Order;
use crate::bindings::exports::halfopen::tcp::sockets::Written;
use crate::bindings::halfopen::tcp::types::{ErrorCode, IpSocketAddress};

/// Small writes are sent together, up to this many bytes.
const PIECE: usize = 64 * 1024;

/// The state of a connection, and what is written and not sent.
pub(crate) struct Entry {
    machine: Machine<ErrorCode>,
    /// What no order has contained.
    queue: VecDeque<Vec<u8>>,
    /// The number of bytes of the last order to send.
    sending: usize,
    local: Option<IpSocketAddress>,
    remote: Option<IpSocketAddress>,
    /// Whether the order `connection` was given.
    begun: bool,
    /// Whether an order to receive is being carried out.
    receiving: bool,
    /// Whether the connection has to be reset.
    reset: bool,
    /// Whether the socket is in the list of those that may have an order.
    pub(crate) listed: bool,
}

impl Entry {
    pub(crate) fn new(local: Option<IpSocketAddress>, remote: Option<IpSocketAddress>) -> Self {
        Entry {
            machine: Machine::default(),
            queue: VecDeque::new(),
            sending: 0,
            local,
            remote,
            begun: false,
            receiving: false,
            reset: false,
            listed: false,
        }
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
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        self.machine.pause(paused);
    }

    pub(crate) fn allow_half_open(&mut self, allow: bool) {
        self.machine.allow_half_open(allow);
    }

    pub(crate) fn unsent(&self) -> usize {
        self.machine.unsent()
    }

    pub(crate) fn local(&self) -> Option<IpSocketAddress> {
        self.local.filter(|_| !self.machine.closed())
    }

    pub(crate) fn remote(&self) -> Option<IpSocketAddress> {
        self.remote
    }

    // --- What the driver reports -----------------------------------------------

    pub(crate) fn received(&mut self) {
        self.receiving = false;
        self.machine.received();
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

    /// Returns the next order; `None` until something else happens.
    pub(crate) fn next(&mut self) -> Option<Order> {
        if !self.begun {
            self.begun = true;
            return Some(Order::Connection);
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
        if self.machine.step_due() {
            match self.machine.next_step() {
                Some(Step::Send) => return self.send(),
                Some(Step::Finish) => return Some(Order::Finish),
                Some(Step::Stop) => self.queue = VecDeque::new(),
                None => {}
            }
        }
        if self.machine.may_read() && !self.receiving {
            self.receiving = true;
            return Some(Order::Receive);
        }
        None
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
