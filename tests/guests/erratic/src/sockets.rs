//! What the service knows of its sockets, what it does with them, and what has to hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::bindings::halfopen::tcp::sockets::{self, Written};
use crate::further;
use crate::pattern::{self, Sender};
use crate::service::{Socket, print};
use crate::source::Source;

/// More unsent bytes than this hold back `data` (rule K6).
const HIGH_WATER: u64 = 64 * 1024;

/// The length of the fixed part of a header.
const HEADER: usize = 14;

/// All sockets of the instance.
#[derive(Default)]
pub(crate) struct Sockets {
    source: Source,
    open: BTreeMap<Socket, Known>,
    /// Every number that was given.
    given: BTreeSet<Socket>,
}

/// What a client says first.
struct Header {
    seed: u64,
    /// The number of bytes that come before FIN.
    length: u64,
}

/// What is known of an open socket.
#[derive(Default)]
struct Known {
    /// The bytes of the header, until it is complete.
    beginning: Vec<u8>,
    header: Option<Header>,
    /// The bytes of the pattern that have come.
    received: u64,
    /// The bytes of the pattern that the host has taken.
    written: u64,
    remote: Option<String>,
    local: Option<String>,
    paused: bool,
    half_open: bool,
    /// The peer's FIN has come.
    peer_ended: bool,
    /// The sending direction has ended, by us or behind the peer's FIN.
    ended: bool,
    /// A write was refused before that.
    refused: bool,
    /// Destroyed or reset.
    destroyed: bool,
    awaits_drain: bool,
    may_time_out: bool,
    failed: bool,
}

type Checked = Result<(), String>;

/// Fails with a description if something does not hold.
macro_rules! ensure {
    ($holds:expr, $($violation:tt)+) => {
        if !$holds {
            return Err(format!($($violation)+));
        }
    };
}

/// The events.
impl Sockets {
    pub(crate) fn connection(&mut self, socket: Socket) -> Checked {
        ensure!(socket != 0, "a socket is 0");
        ensure!(self.given.insert(socket), "{socket} was given twice");
        let known = Known {
            remote: remote(socket),
            local: local(socket),
            ..Known::default()
        };
        self.open.insert(socket, known);
        self.act(socket)
    }

    pub(crate) fn data(&mut self, socket: Socket, data: &[u8]) -> Checked {
        let known = self.before(socket, "data")?;
        ensure!(!data.is_empty(), "{socket}: data is empty");
        ensure!(!known.peer_ended, "{socket}: data after end");
        ensure!(!known.paused, "{socket}: data while paused");
        let unsent = sockets::unsent(socket);
        ensure!(unsent <= HIGH_WATER, "{socket}: data with {unsent} unsent");
        let mut beginning = std::mem::take(&mut known.beginning);
        let mut script = None;
        let data = match known.header {
            Some(_) => data,
            None => {
                beginning.extend_from_slice(data);
                known.begin(&beginning, &mut script)
            }
        };
        let Some(header) = &known.header else {
            known.beginning = beginning;
            return self.act(socket);
        };
        let expected = pattern::bytes(header.seed, Sender::Client, known.received, data.len());
        ensure!(data == expected, "{socket}: other data than was sent");
        known.received += data.len() as u64;
        if let Some(script) = script {
            let seed = header.seed;
            self.source.add(&script, seed);
        }
        self.act(socket)
    }

    pub(crate) fn end(&mut self, socket: Socket) -> Checked {
        let known = self.before(socket, "end")?;
        ensure!(!known.peer_ended, "{socket}: end twice");
        known.peer_ended = true;
        if let Some(header) = &known.header {
            let (received, length) = (known.received, header.length);
            ensure!(
                received == length,
                "{socket}: end after {received} of {length} bytes"
            );
        }
        self.act(socket)?;
        // The host ends the sending direction once this has returned.
        if let Some(known) = self.open.get_mut(&socket) {
            known.ended |= !known.half_open;
        }
        Ok(())
    }

    pub(crate) fn drain(&mut self, socket: Socket) -> Checked {
        let known = self.before(socket, "drain")?;
        ensure!(known.awaits_drain, "{socket}: drain without a wait");
        known.awaits_drain = false;
        let unsent = sockets::unsent(socket);
        ensure!(unsent == 0, "{socket}: drain with {unsent} unsent");
        self.act(socket)
    }

    pub(crate) fn timeout(&mut self, socket: Socket) -> Checked {
        let known = self.before(socket, "timeout")?;
        ensure!(known.may_time_out, "{socket}: a timeout that was not set");
        self.act(socket)
    }

    pub(crate) fn error(&mut self, socket: Socket) -> Checked {
        let known = self.before(socket, "error")?;
        known.failed = true;
        let unsent = sockets::unsent(socket);
        ensure!(unsent == 0, "{socket}: error with {unsent} unsent");
        self.act(socket)
    }

    pub(crate) fn close(&mut self, socket: Socket, had_error: bool) -> Checked {
        let known = self.open.get(&socket);
        let known = known.ok_or_else(|| format!("{socket}: close of no open socket"))?;
        let failed = known.failed;
        ensure!(
            failed == had_error,
            "{socket}: had-error is {had_error}, and error had come: {failed}"
        );
        let unsent = sockets::unsent(socket);
        ensure!(unsent == 0, "{socket}: close with {unsent} unsent");
        if let Some(known) = self.open.get_mut(&socket) {
            known.ended = true;
            known.destroyed = true;
        }
        self.act(socket)?;
        if let Some(Known {
            header: Some(header),
            received,
            written,
            peer_ended,
            ..
        }) = self.open.remove(&socket)
        {
            let seed = header.seed;
            print(format!("closed {seed} {received} {written} {peer_ended}"));
        } else {
            print("closed".to_owned());
        }
        Ok(())
    }

    /// Checks what holds before every event but the first and the last.
    fn before(&mut self, socket: Socket, event: &str) -> Result<&mut Known, String> {
        let known = self.open.get_mut(&socket);
        let known = known.ok_or_else(|| format!("{socket}: {event} of no open socket"))?;
        ensure!(!known.failed, "{socket}: {event} after error");
        ensure!(!known.destroyed, "{socket}: {event} after destroy or reset");
        Ok(known)
    }
}

impl Known {
    /// Reads header and script, if they have come; returns the data behind them.
    fn begin<'d>(&mut self, beginning: &'d [u8], script: &mut Option<Vec<u8>>) -> &'d [u8] {
        let Some((fixed, rest)) = beginning.split_first_chunk::<HEADER>() else {
            return &[];
        };
        let number = |from: usize, to: usize| {
            let bytes = fixed[from..to].iter().rev();
            bytes.fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        let Some((given, data)) = rest.split_at_checked(number(12, 14) as usize) else {
            return &[];
        };
        *script = Some(given.to_vec());
        self.header = Some(Header {
            seed: number(0, 8),
            length: number(8, 12),
        });
        data
    }
}

/// Arbitrary calls.
impl Sockets {
    /// Makes up to three calls.
    fn act(&mut self, current: Socket) -> Checked {
        for _ in 0..self.source.below(4) {
            let socket = match self.source.below(10) {
                0 => self.any(),
                1..=3 => {
                    let index = self.source.below(self.open.len() as u32);
                    let other = self.open.keys().nth(index as usize);
                    other.copied().unwrap_or(current)
                }
                _ => current,
            };
            match self.open.contains_key(&socket) {
                true => self.call(socket)?,
                false => refuses(socket)?,
            }
            further::call(&mut self.source, socket)?;
        }
        Ok(())
    }

    /// A number that may stand for no socket.
    fn any(&mut self) -> Socket {
        let last = self.given.last().copied().unwrap_or(0);
        match self.source.below(5) {
            0 => 0,
            1 => Socket::MAX,
            2 => last.wrapping_add(1 + self.source.below(300)),
            3 => self.source.below(last.saturating_add(1)),
            // A number that could be taken for another, if only some bits of it counted.
            _ => last ^ (1 << self.source.below(32)),
        }
    }

    /// Makes a call for an open socket.
    fn call(&mut self, socket: Socket) -> Checked {
        let call = self.source.below(32);
        let detail = self.source.below(1 << 16);
        let Some(known) = self.open.get_mut(&socket) else {
            return Ok(());
        };
        match call {
            0..=13 => known.write(socket, detail)?,
            14 => {
                sockets::end(socket);
                known.ended = true;
                // A client that has our FIN leaves. Nobody would learn that, of a socket that is
                // paused for ever.
                sockets::resume(socket);
                known.paused = false;
            }
            15 | 16 if detail.is_multiple_of(4) => {
                if call == 15 {
                    sockets::destroy(socket);
                } else {
                    sockets::reset(socket);
                }
                known.ended = true;
                known.destroyed = true;
                let unsent = sockets::unsent(socket);
                ensure!(unsent == 0, "{socket}: {unsent} unsent after destroy");
            }
            17 | 18 if !known.ended => {
                sockets::pause(socket);
                known.paused = true;
            }
            19..=25 => {
                sockets::resume(socket);
                known.paused = false;
            }
            26 => {
                known.half_open = detail % 2 == 1;
                sockets::allow_half_open(socket, known.half_open);
            }
            27 => {
                sockets::set_timeout(socket, detail % 8);
                known.may_time_out = !detail.is_multiple_of(8);
            }
            28 => {
                // What is set last holds.
                for allow in [true, false, true, known.half_open] {
                    sockets::allow_half_open(socket, allow);
                }
            }
            _ => {
                let addresses = [
                    (remote(socket), &known.remote, "remote"),
                    (local(socket), &known.local, "local"),
                ];
                for (now, before, which) in addresses {
                    // The local address is not promised after an error.
                    let same = now == *before || (which == "local" && now.is_none());
                    ensure!(
                        same,
                        "{socket}: the {which} address was {before:?}, and is {now:?}"
                    );
                }
            }
        }
        Ok(())
    }
}

impl Known {
    /// Writes the next bytes of the pattern.
    fn write(&mut self, socket: Socket, detail: u32) -> Checked {
        let Some(header) = &self.header else {
            return Ok(());
        };
        // Mostly little, and sometimes more than a kernel takes at once.
        let length = match detail % 16 {
            0 => 0,
            1..=9 => detail / 16 % 100,
            10..=13 => detail,
            14 => 8 * detail,
            _ => 80 * detail,
        };
        let data = pattern::bytes(header.seed, Sender::Service, self.written, length as usize);
        let written = sockets::write(socket, &data);
        let unsent = sockets::unsent(socket);
        if written == Written::Ended {
            // The connection may have failed before its error is reported.
            self.refused = true;
            return Ok(());
        }
        ensure!(!self.ended, "{socket}: the host took data after the end");
        ensure!(
            !self.refused,
            "{socket}: the host took data after refusing it"
        );
        self.written += u64::from(length);
        let waits = written == Written::Wait;
        ensure!(
            waits == (unsent > HIGH_WATER),
            "{socket}: write returned {written:?} with {unsent} unsent"
        );
        self.awaits_drain |= waits;
        Ok(())
    }
}

/// Checks that every call does nothing for a number that stands for no open socket.
fn refuses(socket: Socket) -> Checked {
    let written = sockets::write(socket, b"astray");
    ensure!(
        written == Written::Ended,
        "{socket}: a write returned {written:?} for a socket that is not open"
    );
    sockets::end(socket);
    sockets::destroy(socket);
    sockets::reset(socket);
    sockets::pause(socket);
    sockets::resume(socket);
    sockets::allow_half_open(socket, true);
    sockets::set_timeout(socket, 1);
    let unsent = sockets::unsent(socket);
    ensure!(unsent == 0, "{socket}: {unsent} unsent, and not open");
    ensure!(
        remote(socket).is_none(),
        "{socket} has a peer, and is not open"
    );
    ensure!(
        local(socket).is_none(),
        "{socket} has an address, and is not open"
    );
    Ok(())
}

fn remote(socket: Socket) -> Option<String> {
    sockets::remote_address(socket)
        .ok()
        .map(|address| format!("{address:?}"))
}

fn local(socket: Socket) -> Option<String> {
    sockets::local_address(socket)
        .ok()
        .map(|address| format!("{address:?}"))
}
