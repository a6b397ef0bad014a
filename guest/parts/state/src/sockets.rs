//! All sockets.

use std::collections::VecDeque;

use halfopen_model::{Alarm, Table};

use crate::bindings::exports::halfopen::tcp::control::Order;
use crate::bindings::exports::halfopen::tcp::sockets::Written;
use crate::bindings::halfopen::tcp::types::ErrorCode;
use crate::clock::Clock;
use crate::entry::Entry;

/// The most bytes that wait to be sent, for all sockets together. No host tells a component
/// how much memory it may have, and running out of it would end the program (rule K11).
const MAX_UNSENT: usize = 64 * 1024 * 1024;

/// The sockets, by number.
#[derive(Default)]
pub(crate) struct Sockets {
    entries: Table<Box<Entry>>,
    /// The sockets that may have an order, each once.
    ready: VecDeque<u32>,
    /// The socket that goes once its event `close` has returned.
    closing: Option<u32>,
    /// The socket whose event `end` is being handled.
    ending: Option<u32>,
    /// The number of written bytes that are not sent.
    unsent: usize,
    pub(crate) clock: Clock,
}

impl Sockets {
    pub(crate) fn add(&mut self, entry: Entry) -> u32 {
        let number = self.entries.add(|_| Box::new(entry));
        self.list(number);
        number
    }

    pub(crate) fn get(&self, socket: u32) -> Option<&Entry> {
        self.entries.get(socket).map(|entry| &**entry)
    }

    /// Changes a socket.
    pub(crate) fn change<T>(
        &mut self,
        socket: u32,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let entry = self.entries.get_mut(socket)?;
        let before = entry.unsent();
        let result = change(entry);
        self.unsent = self.unsent + entry.unsent() - before;
        if let Some(idle) = &mut entry.idle {
            self.clock.watch(socket, idle);
        }
        if let Some(source) = entry.frees() {
            self.list(source);
        }
        Some(result)
    }

    /// Changes a socket, which may then have an order.
    pub(crate) fn act<T>(&mut self, socket: u32, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let result = self.change(socket, act);
        self.list(socket);
        result
    }

    /// Puts a socket into the list of those that may have an order.
    fn list(&mut self, socket: u32) {
        if let Some(entry) = self.entries.get_mut(socket)
            && !entry.listed
        {
            entry.listed = true;
            self.ready.push_back(socket);
        }
    }

    pub(crate) fn write(&mut self, socket: u32, data: Vec<u8>) -> Written {
        let room = MAX_UNSENT.saturating_sub(self.unsent);
        let written = self.act(socket, |entry| {
            if entry.can_write() && data.len() > room {
                entry.abort(ErrorCode::OutOfMemory);
            }
            entry.write(data)
        });
        written.unwrap_or(Written::Ended)
    }

    /// Returns the next order. Timers come first; the sockets take turns.
    pub(crate) fn next(&mut self) -> Option<(u32, Order)> {
        if let Some(closed) = self.closing.take() {
            self.remove(closed);
        }
        if let Some(ended) = self.ending.take() {
            // Before another socket's event can write to this one (rule K2).
            self.change(ended, Entry::handled);
        }
        if let Some(timer) = self.ring() {
            return Some((0, Order::Fired(timer)));
        }
        while let Some(socket) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(socket) else {
                continue;
            };
            entry.listed = false;
            let Some(order) = self.next_of(socket) else {
                continue;
            };
            self.list(socket);
            match order.1 {
                Order::Close(_) => self.closing = Some(socket),
                Order::End => self.ending = Some(socket),
                _ => {}
            }
            return Some(order);
        }
        let time = self.clock.wait()?;
        Some((0, Order::Wait(time.as_nanos() as u64)))
    }

    fn next_of(&mut self, socket: u32) -> Option<(u32, Order)> {
        if let Some(order) = self.pump(socket) {
            return Some(order);
        }
        let order = self.change(socket, Entry::next)??;
        Some((socket, order))
    }

    /// Returns a timer whose time has come, and looks at sockets that were idle for too long.
    fn ring(&mut self) -> Option<u32> {
        loop {
            let socket = match self.clock.due()? {
                Alarm::Timer(timer) => return Some(timer),
                Alarm::Idle(socket) => socket,
            };
            if let Some(entry) = self.entries.get_mut(socket)
                && let Some(idle) = &mut entry.idle
                && self.clock.ring(socket, idle)
            {
                self.list(socket);
            }
        }
    }

    fn remove(&mut self, socket: u32) {
        if let Some(entry) = self.entries.remove(socket)
            && let Some(idle) = &entry.idle
        {
            self.clock.unwatch(socket, idle);
        }
    }
}
