//! The state of the connections of a composed service in callback style.
//!
//! A service imports `sockets` and exports `events`, and a composition must not be a circle,
//! so one component cannot provide the imports and call the exports. This part provides the
//! imports. It knows the state of every connection (`halfopen_model::Machine`), keeps what is
//! written and the timers, and does no I/O: the driver, which calls the exports, asks it for orders.

mod clock;
mod entry;
mod pipe;
mod sockets;

use std::cell::RefCell;

use std::net::{IpAddr, SocketAddr};

use bindings::exports::halfopen::tcp::control::{self, Order};
use bindings::exports::halfopen::tcp::sockets::{self as contract, Written};
use bindings::exports::halfopen::tcp::topics::TopicError;
use bindings::exports::halfopen::tcp::{
    connecting, naming, piping, socket_peer, starting, subscribing, timer_events, timers, topics,
};
use bindings::halfopen::tcp::peer::TlsSession;
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

halfopen_model::address_conversions!(bindings::halfopen::tcp::types);

/// Does something with a socket that the driver names; `None` if there is none.
fn act<T>(socket: u32, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
    SOCKETS.with_borrow_mut(|sockets| sockets.act(socket, act))
}

/// Does something with a socket that the service names; `None` if there is none. A number
/// that it has guessed, before `connection` gave it, stands for none.
fn call<T>(socket: u32, call: impl FnOnce(&mut Entry) -> T) -> Option<T> {
    look(socket, |_| ())?;
    act(socket, call)
}

/// Reads something of a socket that the service names.
fn look<T>(socket: u32, look: impl FnOnce(&Entry) -> T) -> Option<T> {
    SOCKETS.with_borrow(|sockets| {
        let entry = sockets.get(socket)?;
        entry.is_given().then(|| look(entry))
    })
}

/// What the service calls.
impl contract::Guest for State {
    fn write(socket: u32, data: Vec<u8>) -> Written {
        match look(socket, |_| ()) {
            Some(()) => SOCKETS.with_borrow_mut(|sockets| sockets.write(socket, data)),
            None => Written::Ended,
        }
    }

    fn end(socket: u32) {
        call(socket, Entry::end);
    }

    fn destroy(socket: u32) {
        call(socket, Entry::destroy);
    }

    fn reset(socket: u32) {
        call(socket, Entry::reset);
    }

    fn pause(socket: u32) {
        call(socket, |entry| entry.pause(true));
    }

    fn resume(socket: u32) {
        call(socket, |entry| entry.pause(false));
    }

    fn unsent(socket: u32) -> u64 {
        look(socket, Entry::still_unsent).unwrap_or(0) as u64
    }

    fn allow_half_open(socket: u32, allow: bool) {
        call(socket, |entry| entry.allow_half_open(allow));
    }

    fn set_timeout(socket: u32, milliseconds: u32) {
        call(socket, |entry| entry.set_timeout(milliseconds));
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

impl connecting::Guest for State {
    fn connect(remote: IpSocketAddress) -> Result<u32, ErrorCode> {
        if !halfopen_model::is_remote(SocketAddr::from(remote)) {
            return Err(ErrorCode::InvalidArgument);
        }
        Ok(SOCKETS.with_borrow_mut(|sockets| sockets.add(Entry::connect(remote))))
    }
}

/// The longest name, with a final dot (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 254;

impl naming::Guest for State {
    fn connect(name: String, port: u16) -> Result<u32, ErrorCode> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return <State as connecting::Guest>::connect(SocketAddr::new(address, port).into());
        }
        // Whether it is a name, the host says.
        if port == 0 || name.is_empty() || name.len() > LONGEST_NAME {
            return Err(ErrorCode::InvalidArgument);
        }
        Ok(SOCKETS.with_borrow_mut(|sockets| sockets.add(Entry::connect_to_name(name, port))))
    }
}

impl piping::Guest for State {
    fn pipe(source: u32, sink: u32) -> Result<(), ErrorCode> {
        let given = look(source, |_| ()).and(look(sink, |_| ()));
        given.ok_or(ErrorCode::InvalidState)?;
        SOCKETS.with_borrow_mut(|sockets| sockets.pipe(source, sink))
    }
}

impl timers::Guest for State {
    fn set_timer(milliseconds: u32) -> u32 {
        SOCKETS.with_borrow_mut(|sockets| sockets.clock.set(milliseconds, false))
    }

    fn set_interval(milliseconds: u32) -> u32 {
        SOCKETS.with_borrow_mut(|sockets| sockets.clock.set(milliseconds, true))
    }

    fn clear(timer: u32) {
        SOCKETS.with_borrow_mut(|sockets| sockets.clock.clear(timer));
    }
}

impl socket_peer::Guest for State {
    /// Returns `None`: `wasi:sockets` describes a peer by its address alone.
    fn tls(_: u32) -> Option<TlsSession> {
        None
    }
}

/// A host of WASI has no topics.
impl topics::Guest for State {
    fn publish(_: String, _: Vec<u8>) -> Result<(), TopicError> {
        Err(TopicError::AccessDenied)
    }
}

impl subscribing::Guest for State {
    fn subscribe(_: String) -> Result<(), TopicError> {
        Err(TopicError::AccessDenied)
    }

    fn unsubscribe(_: String) {}
}

/// What the driver calls for a service that uses no timers.
impl timer_events::Guest for State {
    fn fired(_: u32) {}
}

/// What the driver calls for a service that does nothing without connections.
impl starting::Guest for State {
    fn start() {}
}

/// What the driver calls.
impl control::Guest for State {
    fn add(local: Option<IpSocketAddress>, remote: Option<IpSocketAddress>) -> u32 {
        SOCKETS.with_borrow_mut(|sockets| sockets.add(Entry::new(local, remote)))
    }

    fn next() -> Option<(u32, Order)> {
        SOCKETS.with_borrow_mut(Sockets::next)
    }

    fn found(socket: u32, remote: IpSocketAddress) {
        act(socket, |entry| entry.found(remote));
    }

    fn connected(socket: u32, local: Option<IpSocketAddress>) {
        act(socket, |entry| entry.connected(local));
    }

    fn received(socket: u32, length: u32) {
        act(socket, |entry| entry.received(length));
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
