//! All sockets.

use std::collections::VecDeque;

use halfopen_model::Table;

use crate::Entry;
use crate::bindings::exports::halfopen::tcp::control::Order;
use crate::bindings::exports::halfopen::tcp::sockets::Written;
use crate::bindings::halfopen::tcp::types::ErrorCode;

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
    /// The number of written bytes that are not sent.
    unsent: usize,
}

impl Sockets {
    pub(crate) fn add(&mut self, entry: Entry) -> u32 {
        let number = self.entries.add(|_| Box::new(entry));
        self.act(number, |_| ());
        number
    }

    pub(crate) fn get(&self, socket: u32) -> Option<&Entry> {
        self.entries.get(socket).map(|entry| &**entry)
    }

    /// Does something with a socket, which may then have an order.
    pub(crate) fn act<T>(&mut self, socket: u32, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(socket)?;
        let before = entry.unsent();
        let result = act(entry);
        self.unsent = self.unsent + entry.unsent() - before;
        if !entry.listed {
            entry.listed = true;
            self.ready.push_back(socket);
        }
        Some(result)
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

    /// Returns the next order. The sockets take turns.
    pub(crate) fn next(&mut self) -> Option<(u32, Order)> {
        if let Some(closed) = self.closing.take() {
            self.entries.remove(closed);
        }
        while let Some(socket) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(socket) else {
                continue;
            };
            let before = entry.unsent();
            let order = entry.next();
            self.unsent = self.unsent + entry.unsent() - before;
            entry.listed = order.is_some();
            let Some(order) = order else {
                continue;
            };
            self.ready.push_back(socket);
            if matches!(order, Order::Close(_)) {
                self.closing = Some(socket);
            }
            return Some((socket, order));
        }
        None
    }
}
