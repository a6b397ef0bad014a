//! The state of the connections of a composed service in callback style.
//!
//! A service imports `sockets` and exports `events`, and a composition must not be a circle,
//! so one component cannot provide the imports and call the exports. This part provides the
//! imports. It knows the state of every connection (`halfopen_model::Machine`) and keeps what
//! is written, and does no I/O: the driver, which calls the exports, asks it for orders.

mod entry;
mod sockets;

use std::cell::RefCell;

use bindings::exports::halfopen::tcp::control::{self, Order};
use bindings::exports::halfopen::tcp::sockets::{self as contract, Written};
use bindings::halfopen::tcp::types::{ErrorCode, IpSocketAddress};
use entry::Entry;
use sockets::Sockets;

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "halfopen:tcp/state",
        generate_all,
    });
}

struct State;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(State with_types_in bindings);
};

thread_local! {
    static SOCKETS: RefCell<Sockets> = RefCell::default();
}

/// Does something with a socket; `None` if there is none of this number.
fn act<T>(socket: u32, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
    SOCKETS.with_borrow_mut(|sockets| sockets.act(socket, act))
}

/// Reads something of a socket; `None` if there is none of this number.
fn look<T>(socket: u32, look: impl FnOnce(&Entry) -> T) -> Option<T> {
    SOCKETS.with_borrow(|sockets| sockets.get(socket).map(look))
}

/// What the service calls.
impl contract::Guest for State {
    fn write(socket: u32, data: Vec<u8>) -> Written {
        SOCKETS.with_borrow_mut(|sockets| sockets.write(socket, data))
    }

    fn end(socket: u32) {
        act(socket, Entry::end);
    }

    fn destroy(socket: u32) {
        act(socket, Entry::destroy);
    }

    fn reset(socket: u32) {
        act(socket, Entry::reset);
    }

    fn pause(socket: u32) {
        act(socket, |entry| entry.pause(true));
    }

    fn resume(socket: u32) {
        act(socket, |entry| entry.pause(false));
    }

    fn unsent(socket: u32) -> u64 {
        look(socket, Entry::unsent).unwrap_or(0) as u64
    }

    fn allow_half_open(socket: u32, allow: bool) {
        act(socket, |entry| entry.allow_half_open(allow));
    }

    fn set_timeout(socket: u32, milliseconds: u32) {
        _ = (socket, milliseconds);
    }

    fn local_address(socket: u32) -> Result<IpSocketAddress, ErrorCode> {
        let address = look(socket, Entry::local).flatten();
        address.ok_or(ErrorCode::InvalidState)
    }

    fn remote_address(socket: u32) -> Result<IpSocketAddress, ErrorCode> {
        let address = look(socket, Entry::remote).flatten();
        address.ok_or(ErrorCode::InvalidState)
    }
}

/// What the driver calls.
impl control::Guest for State {
    fn add(local: Option<IpSocketAddress>, remote: Option<IpSocketAddress>) -> u32 {
        SOCKETS.with_borrow_mut(|sockets| sockets.add(Entry::new(local, remote)))
    }

    fn next() -> Option<(u32, Order)> {
        SOCKETS.with_borrow_mut(Sockets::next)
    }

    fn received(socket: u32) {
        act(socket, Entry::received);
    }

    fn receive_ended(socket: u32) {
        act(socket, Entry::receive_ended);
    }

    fn sent(socket: u32) {
        act(socket, Entry::sent);
    }

    fn lost(socket: u32) {
        act(socket, Entry::lost);
    }

    fn finished(socket: u32) {
        act(socket, Entry::finished);
    }

    fn failed(socket: u32, error: ErrorCode) {
        act(socket, |entry| entry.fail(error));
    }
}
