//! A service in callback style that misbehaves on request, for the tests that the host and the
//! other connections do not suffer.
//!
//! The first two bytes of a connection after 0xff and 0xfe say in which event it does what, see
//! `Event` and `Action`; what begins otherwise is echoed. A peer from 127.0.0.N other than
//! 127.0.0.1 has something done in the event `connection`, see `Action::of_peer`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use bindings::exports::halfopen::tcp::events::{ErrorCode, Guest};
use bindings::halfopen::tcp::sockets::{self, Written};
use bindings::halfopen::tcp::types::IpSocketAddress;

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
        path: "../../../wit",
        world: "halfopen:tcp/callbacks",
    });
}

/// A number of a connection, as the host gives it.
type Socket = u32;

struct Rogue;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Rogue with_types_in bindings);
};

/// An event in which something is done, by the byte that selects it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Event {
    /// The data that says so.
    Data = b'd',
    End = b'e',
    /// Follows 8 MiB or more, which are written at once.
    Drain = b'n',
    /// Follows 20 ms without data.
    Timeout = b't',
    Error = b'x',
    Close = b'c',
}

/// What is done, by the byte that selects it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Action {
    /// Panics, which is a trap.
    Trap = b't',
    /// Loops without end.
    Loop = b'l',
    /// Allocates memory until that is a trap.
    Memory = b'm',
    /// Calls every function for this socket, in an order that makes little sense.
    Everything = b'a',
    Destroy = b'd',
    Reset = b'r',
    End = b'e',
    Pause = b'p',
    /// Destroys, resets, ends and pauses all other sockets, by turns.
    Others = b'o',
    /// Calls every function for numbers that stand for no open socket.
    Strangers = b's',
    /// Writes until the host refuses, and then some more.
    Flood = b'f',
    /// Writes 100 MiB in one call.
    Much = b'h',
    /// Writes a byte, a million times.
    Little = b'b',
    /// Allows half-open connections and forbids them, a hundred thousand times.
    Toggle = b'g',
}

impl Event {
    fn of(byte: u8) -> Option<Self> {
        use Event::{Close, Data, Drain, End, Error, Timeout};
        let all = [Data, End, Drain, Timeout, Error, Close];
        all.into_iter().find(|event| *event as u8 == byte)
    }
}

impl Action {
    fn of(byte: u8) -> Option<Self> {
        use Action::{
            Destroy, End, Everything, Flood, Little, Loop, Memory, Much, Others, Pause, Reset,
            Strangers, Toggle, Trap,
        };
        let all = [
            Trap, Loop, Memory, Everything, Destroy, Reset, End, Pause, Others, Strangers, Flood,
            Much, Little, Toggle,
        ];
        all.into_iter().find(|action| *action as u8 == byte)
    }

    /// What is done in the event `connection` for a peer from 127.0.0.N.
    fn of_peer(last: u8) -> Option<Self> {
        Some(match last {
            2 => Action::Trap,
            3 => Action::Loop,
            4 => Action::Everything,
            5 => Action::Destroy,
            6 => Action::Reset,
            7 => Action::End,
            8 => Action::Pause,
            9 => Action::Strangers,
            10 => Action::Flood,
            _ => return None,
        })
    }
}

#[derive(Default)]
struct Known {
    /// What to do in which event, of the sockets that have said so.
    plans: BTreeMap<Socket, (Event, Action)>,
    open: BTreeSet<Socket>,
    closed: Vec<Socket>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// Does what is planned for this event.
fn happens(event: Event, socket: Socket) {
    let plan = KNOWN.with_borrow(|known| known.plans.get(&socket).copied());
    if let Some((when, action)) = plan
        && when == event
    {
        act(action, socket);
    }
}

impl Guest for Rogue {
    fn connection(socket: Socket) {
        KNOWN.with_borrow_mut(|known| known.open.insert(socket));
        if let Ok(IpSocketAddress::Ipv4(peer)) = sockets::remote_address(socket)
            && let Some(action) = Action::of_peer(peer.address.3)
        {
            act(action, socket);
        }
    }

    fn data(socket: Socket, data: Vec<u8>) {
        if KNOWN.with_borrow(|known| known.plans.contains_key(&socket)) {
            return;
        }
        let plan = match data[..] {
            // More may have come in the same chunk.
            [0xff, 0xfe, event, action, ..] => Event::of(event).zip(Action::of(action)),
            _ => None,
        };
        let Some((event, action)) = plan else {
            sockets::write(socket, &data);
            return;
        };
        KNOWN.with_borrow_mut(|known| known.plans.insert(socket, (event, action)));
        match event {
            Event::Data => act(action, socket),
            Event::Drain => {
                // More than the kernel takes, unless the client reads as fast.
                let much = vec![b'n'; 8 << 20];
                while sockets::write(socket, &much) == Written::More {}
            }
            Event::Timeout => sockets::set_timeout(socket, 20),
            // The client knows now that it is time for the event.
            Event::End | Event::Error | Event::Close => {
                sockets::write(socket, b"!");
            }
        }
    }

    fn end(socket: Socket) {
        happens(Event::End, socket);
    }

    fn drain(socket: Socket) {
        happens(Event::Drain, socket);
    }

    fn timeout(socket: Socket) {
        happens(Event::Timeout, socket);
    }

    fn error(socket: Socket, _: ErrorCode) {
        happens(Event::Error, socket);
    }

    fn close(socket: Socket, _: bool) {
        happens(Event::Close, socket);
        KNOWN.with_borrow_mut(|known| {
            known.plans.remove(&socket);
            known.open.remove(&socket);
            known.closed.push(socket);
        });
    }
}

fn act(action: Action, socket: Socket) {
    match action {
        Action::Trap => panic!("asked to trap"),
        Action::Loop => loop {
            black_box(());
        },
        Action::Memory => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        Action::Everything => call_all(socket),
        Action::Destroy => sockets::destroy(socket),
        Action::Reset => sockets::reset(socket),
        Action::End => sockets::end(socket),
        Action::Pause => sockets::pause(socket),
        Action::Others => {
            let open = KNOWN.with_borrow(|known| known.open.clone());
            let calls = [
                sockets::destroy,
                sockets::reset,
                sockets::end,
                sockets::pause,
            ];
            let others = open.into_iter().filter(|other| *other != socket);
            for (other, call) in others.zip(calls.iter().cycle()) {
                call(other);
            }
            sockets::write(socket, b"!");
        }
        Action::Strangers => {
            let mut strangers = KNOWN.with_borrow(|known| known.closed.clone());
            strangers.extend([0, Socket::MAX]);
            // The numbers that come next, and those that share some bits with this one.
            strangers.extend((1..1000).map(|next| socket.wrapping_add(next)));
            strangers.extend((0..Socket::BITS).map(|bit| socket ^ (1 << bit)));
            let open = KNOWN.with_borrow(|known| known.open.clone());
            strangers.retain(|stranger| !open.contains(stranger));
            for stranger in strangers {
                assert!(sockets::write(stranger, b"astray") == Written::Ended);
                assert!(sockets::remote_address(stranger).is_err());
                assert!(sockets::local_address(stranger).is_err());
                call_all(stranger);
            }
            sockets::write(socket, b"!");
        }
        Action::Flood => {
            let much = vec![b'f'; 1 << 16];
            while sockets::write(socket, &much) != Written::Ended {}
            for _ in 0..1000 {
                assert!(sockets::write(socket, b"more") == Written::Ended);
            }
        }
        Action::Much => {
            sockets::write(socket, &vec![b'h'; 100 << 20]);
        }
        Action::Little => {
            for _ in 0..1_000_000 {
                sockets::write(socket, b"b");
            }
        }
        Action::Toggle => {
            for _ in 0..50_000 {
                sockets::allow_half_open(socket, true);
                sockets::allow_half_open(socket, false);
            }
        }
    }
}

fn call_all(socket: Socket) {
    sockets::resume(socket);
    sockets::pause(socket);
    sockets::allow_half_open(socket, true);
    sockets::set_timeout(socket, 1);
    sockets::destroy(socket);
    sockets::resume(socket);
    sockets::end(socket);
    sockets::reset(socket);
    sockets::destroy(socket);
    sockets::pause(socket);
    assert!(sockets::write(socket, b"late") == Written::Ended);
    assert!(sockets::unsent(socket) == 0);
    // Each of them may return an address or an error.
    let _ = (
        sockets::remote_address(socket),
        sockets::local_address(socket),
    );
}
