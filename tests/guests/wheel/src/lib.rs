//! A service in callback style that makes the calls that its clients name, and reports the
//! events: for the tests of `connecting`, `piping`, `timers` and `socket-peer`.
//!
//! A client sends lines, see `call`. A socket is named by its number, and the client's own by
//! 0. Each answer is a line; so is each event of a socket or timer that a line has made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bindings::exports::halfopen::tcp::{events, timer_events};
use bindings::halfopen::tcp::types::{ErrorCode, IpSocketAddress, Ipv4SocketAddress};
use bindings::halfopen::tcp::{connecting, piping, socket_peer, sockets, timers};

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
        inline: "
            package halfopen:wheel;

            world wheel {
                include halfopen:tcp/callbacks@0.1.0;
                import halfopen:tcp/connecting@0.1.0;
                import halfopen:tcp/piping@0.1.0;
                import halfopen:tcp/timers@0.1.0;
                import halfopen:tcp/socket-peer@0.1.0;
                export halfopen:tcp/timer-events@0.1.0;
            }
        ",
        world: "halfopen:wheel/wheel",
        generate_all,
    });
}

struct Wheel;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Wheel with_types_in bindings);
};

#[derive(Default)]
struct State {
    /// The clients, with what has come of a line.
    clients: BTreeMap<u32, Vec<u8>>,
    /// The client that has made a socket.
    made: BTreeMap<u32, u32>,
    /// The client that has set a timer.
    timers: BTreeMap<u32, u32>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Makes the call that a line of a client names, and returns the answer.
fn call(client: u32, line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let rest: Vec<&str> = words.collect();
    let number =
        |at: usize| -> u32 { rest.get(at).and_then(|word| word.parse().ok()).unwrap_or(0) };
    let socket = |at: usize| match number(at) {
        0 => client,
        socket => socket,
    };
    match name {
        "connect" => match connect(client, number(0)) {
            Ok(socket) => return Some(format!("connecting {socket}")),
            Err(error) => return Some(format!("denied {}", code(&error))),
        },
        // Connects, and pipes both ways before anything is connected.
        "proxy" => match connect(client, number(0)) {
            Ok(upstream) => {
                let pipes = [
                    piping::pipe(client, upstream),
                    piping::pipe(upstream, client),
                ];
                if pipes.iter().any(Result::is_err) {
                    sockets::reset(client);
                }
            }
            Err(_) => sockets::reset(client),
        },
        "pipe" => {
            return Some(match piping::pipe(socket(0), socket(1)) {
                Ok(()) => "piped".to_owned(),
                Err(error) => format!("unpiped {}", code(&error)),
            });
        }
        "write" => {
            let written = sockets::write(socket(0), rest[1].as_bytes());
            return Some(answer(written));
        }
        // Writes so many KiB.
        "much" => {
            let data = vec![b'x'; 1024 * number(1) as usize];
            return Some(answer(sockets::write(socket(0), &data)));
        }
        "end" => sockets::end(socket(0)),
        "destroy" => sockets::destroy(socket(0)),
        "reset" => sockets::reset(socket(0)),
        "pause" => sockets::pause(socket(0)),
        "resume" => sockets::resume(socket(0)),
        "half-open" => sockets::allow_half_open(socket(0), true),
        "timeout" => sockets::set_timeout(socket(0), number(1)),
        "timer" | "interval" => {
            let timer = match name {
                "timer" => timers::set_timer(number(0)),
                _ => timers::set_interval(number(0)),
            };
            STATE.with_borrow_mut(|state| state.timers.insert(timer, client));
            return Some(format!("timer {timer}"));
        }
        "clear" => timers::clear(number(0)),
        // Sets timers until there are too many.
        "hoard" => {
            let count = (0..1_000_000).take_while(|_| timers::set_timer(u32::MAX) != 0);
            return Some(format!("hoarded {}", count.count()));
        }
        "tls" => return Some(format!("tls {}", socket_peer::tls(socket(0)).is_some())),
        "addresses" => {
            let known = |address: Result<IpSocketAddress, ErrorCode>| match address {
                Ok(_) => "known",
                Err(error) => code(&error),
            };
            let local = known(sockets::local_address(socket(0)));
            let remote = known(sockets::remote_address(socket(0)));
            return Some(format!("addresses {local} {remote}"));
        }
        other => return Some(format!("unknown {other}")),
    }
    None
}

/// Connects to a port of 127.0.0.1.
fn connect(client: u32, port: u32) -> Result<u32, ErrorCode> {
    let [a, b, c, d] = Ipv4Addr::LOCALHOST.octets();
    let remote = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: port as u16,
        address: (a, b, c, d),
    });
    let socket = connecting::connect(remote)?;
    STATE.with_borrow_mut(|state| state.made.insert(socket, client));
    Ok(socket)
}

fn answer(written: sockets::Written) -> String {
    let answer = match written {
        sockets::Written::More => "more",
        sockets::Written::Wait => "wait",
        sockets::Written::Ended => "ended",
    };
    answer.to_owned()
}

fn code(error: &ErrorCode) -> &'static str {
    match error {
        ErrorCode::AccessDenied => "access-denied",
        ErrorCode::ConnectionAborted => "connection-aborted",
        ErrorCode::ConnectionRefused => "connection-refused",
        ErrorCode::ConnectionReset => "connection-reset",
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::InvalidState => "invalid-state",
        ErrorCode::OutOfMemory => "out-of-memory",
        ErrorCode::Timeout => "timeout",
        _ => "other",
    }
}

/// Tells the client that has made a socket, or whose own it is, of an event.
fn report(socket: u32, event: &str) {
    let client = STATE.with_borrow(|state| match state.made.get(&socket) {
        Some(client) => Some((*client, socket)),
        None => state.clients.contains_key(&socket).then_some((socket, 0)),
    });
    if let Some((client, name)) = client {
        sockets::write(client, format!("{event} {name}\n").as_bytes());
    }
}

impl events::Guest for Wheel {
    fn connection(socket: u32) {
        let made = STATE.with_borrow_mut(|state| {
            let made = state.made.contains_key(&socket);
            if !made {
                state.clients.insert(socket, Vec::new());
            }
            made
        });
        if made {
            report(socket, "connection");
        }
    }

    fn data(socket: u32, data: Vec<u8>) {
        let client = STATE.with_borrow(|state| state.made.get(&socket).copied());
        if let Some(client) = client {
            let text = String::from_utf8_lossy(&data);
            sockets::write(client, format!("data {socket} {text}\n").as_bytes());
            return;
        }
        let lines: Vec<String> = STATE.with_borrow_mut(|state| {
            let buffer = state.clients.entry(socket).or_default();
            buffer.extend(data);
            let complete = buffer.iter().rposition(|byte| *byte == b'\n');
            let complete: Vec<u8> = buffer.drain(..complete.map_or(0, |end| end + 1)).collect();
            let complete = String::from_utf8_lossy(&complete);
            complete.lines().map(str::to_owned).collect()
        });
        for line in lines {
            if let Some(answer) = call(socket, &line) {
                sockets::write(socket, format!("{answer}\n").as_bytes());
            }
        }
    }

    fn end(socket: u32) {
        report(socket, "end");
    }

    fn drain(socket: u32) {
        report(socket, "drain");
    }

    fn timeout(socket: u32) {
        report(socket, "timeout");
    }

    fn error(socket: u32, error: ErrorCode) {
        report(socket, &format!("error {}", code(&error)));
    }

    fn close(socket: u32, had_error: bool) {
        report(socket, &format!("close {had_error}"));
        STATE.with_borrow_mut(|state| {
            state.clients.remove(&socket);
            state.made.remove(&socket);
        });
    }
}

impl timer_events::Guest for Wheel {
    fn fired(timer: u32) {
        let client = STATE.with_borrow(|state| state.timers.get(&timer).copied());
        if let Some(client) = client {
            sockets::write(client, format!("fired {timer}\n").as_bytes());
        }
    }
}
