//! A recording of `halfopen serve --record`, compared with the packets of the same connections.
//!
//! `tcpdump` reads both. What the server says of a connection has to be what was on the wire, as
//! far as a server can know it: of what comes after a connection has ended for it, such as a RST
//! of the client, it hears nothing.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Result, ensure};

use crate::wire::{Sent, Wire};

/// A packet of this length goes on in the next one: a recording has no longer ones.
const LONGEST: u64 = 65_495;
/// A read of as many bytes may have left more: it filled a buffer of the service.
const BUFFER: u64 = 4096;
/// As many bytes fit into the window of a client that does not read (RFC 9293, section 3.8.6), so
/// that the kernel sends each write as it comes.
const WINDOW: u64 = 32 * 1024;

/// Checks that a recorded connection is the captured one.
///
/// # Errors
///
/// If it is not.
pub fn agrees(recorded: &Wire, captured: &Wire) -> Result<()> {
    if was_never_accepted(recorded, captured) {
        return Ok(());
    }
    from_client(recorded, captured)?;
    from_server(recorded, captured)?;
    first(recorded, captured)
}

/// Whether the server may not have had the connection: while the backlog is full, the kernel does
/// not take the end of the handshake (listen(2)), and forgets the connection if the client resets it.
fn was_never_accepted(recorded: &Wire, captured: &Wire) -> bool {
    let silent = captured.server == Sent::default() && captured.client.rst;
    silent && *recorded == Wire::default()
}

/// What the client has sent. The server may end before it has read all of it.
fn from_client(recorded: &Wire, captured: &Wire) -> Result<()> {
    let (read, sent) = (&recorded.client, &captured.client);
    ensure!(
        read.bytes <= sent.bytes,
        "{} bytes of the client are recorded, and {} were sent",
        read.bytes,
        sent.bytes
    );
    // Whether the server ended in the midst of what the client had to say.
    let cut = recorded.client.rst || recorded.server.rst;
    // Once the service has let go of a connection, the server discards what still comes (rule C2).
    let discards = recorded.server.fin.is_some() && read.fin.is_none();
    ensure!(
        cut || discards || read.bytes == sent.bytes,
        "{} bytes of the client are recorded, although nothing cut its {} bytes short",
        read.bytes,
        sent.bytes
    );
    ensure!(
        read.fin.is_none() || read.fin == sent.fin,
        "FIN of the client is recorded after {:?} bytes, and was sent after {:?}",
        read.fin,
        sent.fin
    );
    ensure!(
        cut || read.fin.is_some() == sent.fin.is_some(),
        "FIN of the client was sent, and is not recorded"
    );
    ensure!(
        !read.rst || sent.rst,
        "a RST of the client is recorded that was not sent"
    );
    let over = recorded.server.rst || (read.fin.is_some() && recorded.server.fin.is_some());
    ensure!(
        read.rst || !sent.rst || over,
        "a RST of the client was sent, and is not recorded"
    );
    in_order(read)?;
    // A read takes all that has arrived, in packets that were sent, or fills its buffer.
    let ends: HashSet<_> = sent.data.iter().map(|packet| packet.end).collect();
    for read in at_once(&read.data) {
        ensure!(
            ends.contains(&read.end) || read.end - read.start >= BUFFER,
            "the client's bytes {read:?} are recorded at once, and were sent otherwise"
        );
    }
    Ok(())
}

/// The bytes that were read or written at once, by their places.
fn at_once(packets: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    let mut goes_on = false;
    for packet in packets {
        match all.last_mut() {
            Some(last) if goes_on => last.end = packet.end,
            _ => all.push(packet.clone()),
        }
        goes_on = packet.end - packet.start == LONGEST;
    }
    all
}

/// Checks that data is recorded once and in order.
fn in_order(recorded: &Sent) -> Result<()> {
    ensure!(!recorded.again, "data is recorded twice, or not in order");
    Ok(())
}

/// What the server has sent. What its kernel has not sent yet, a RST discards.
fn from_server(recorded: &Wire, captured: &Wire) -> Result<()> {
    let (written, sent) = (&recorded.server, &captured.server);
    let cut = captured.server.rst || captured.client.rst;
    ensure!(
        written.bytes == sent.bytes || (cut && written.bytes > sent.bytes),
        "{} bytes of the server are recorded, and {} were sent",
        written.bytes,
        sent.bytes
    );
    ensure!(
        written.fin == sent.fin || (cut && sent.fin.is_none()),
        "FIN of the server is recorded after {:?} bytes, and was sent after {:?}",
        written.fin,
        sent.fin
    );
    ensure!(
        !sent.rst || written.rst,
        "a RST of the server was sent, and is not recorded"
    );
    ensure!(
        sent.rst || !written.rst || captured.client.rst,
        "a RST of the server is recorded that was not sent"
    );
    in_order(written)?;
    ensure!(
        cut || sent.bytes > WINDOW || written.data == sent.data,
        "the server's bytes are recorded in other pieces than they were sent in"
    );
    Ok(())
}

/// Who was first.
fn first(recorded: &Wire, captured: &Wire) -> Result<()> {
    ensure!(
        recorded.first == captured.first,
        "the first to end is recorded as {:?}, and was {:?}",
        recorded.first,
        captured.first
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::End;

    /// What was sent in two packets.
    fn sent(bytes: u64, fin: bool, rst: bool) -> Sent {
        Sent {
            bytes,
            fin: fin.then_some(bytes),
            rst,
            data: vec![0..2, 2..bytes],
            again: false,
        }
    }

    fn wire(client: Sent, server: Sent, first: End) -> Wire {
        Wire {
            client,
            server,
            first: Some(first),
        }
    }

    /// Connections that ended well, by a RST of the client and by one of the server.
    fn wires() -> [Wire; 3] {
        [
            wire(sent(5, true, false), sent(7, true, false), End::Client),
            wire(sent(5, false, true), sent(7, false, false), End::Client),
            wire(sent(5, false, false), sent(7, false, true), End::Server),
        ]
    }

    #[test]
    fn a_recording_of_the_same_connection_agrees() {
        for wire in wires() {
            agrees(&wire, &wire).unwrap();
        }
    }

    #[test]
    fn every_difference_is_found() {
        type Change = (&'static str, fn(&mut Wire));
        let changes: [Change; 9] = [
            ("more of the client", |wire| wire.client.bytes += 1),
            ("less of the server", |wire| wire.server.bytes -= 1),
            ("RST of the client", |wire| wire.client.rst ^= true),
            ("RST of the server", |wire| wire.server.rst ^= true),
            ("FIN of the client", |wire| {
                wire.client.fin = wire.client.fin.xor(Some(wire.client.bytes));
            }),
            ("FIN of the server", |wire| {
                wire.server.fin = wire.server.fin.xor(Some(wire.server.bytes));
            }),
            ("the place of FIN", |wire| {
                wire.client.fin = wire.client.fin.map(|_| 1);
                wire.server.fin = Some(1);
            }),
            ("the other was first", |wire| {
                wire.first = match wire.first {
                    Some(End::Client) => Some(End::Server),
                    _ => Some(End::Client),
                };
            }),
            ("nobody was first", |wire| wire.first = None),
        ];
        for (what, change) in changes {
            for captured in wires() {
                let mut recorded = captured.clone();
                change(&mut recorded);
                // A FIN that a RST has overtaken is recorded, and was not sent.
                let overtaken = what == "FIN of the server" || what == "the place of FIN";
                let cut = captured.client.rst || captured.server.rst;
                // A RST that meets the peer's is not sent.
                let met = what == "RST of the server" && captured.client.rst;
                let lenient = overtaken && cut || met;
                assert_eq!(
                    agrees(&recorded, &captured).is_ok(),
                    lenient,
                    "{what}: {captured:?}"
                );
            }
        }
    }

    #[test]
    fn less_of_the_client_is_found_where_nothing_cuts_it_short() {
        let [well, ..] = wires();
        let mut recorded = well.clone();
        recorded.client.bytes -= 1;
        recorded.client.fin = None;
        assert!(agrees(&recorded, &well).is_err());
    }

    /// One packet with the first bytes.
    fn packet(bytes: u64) -> Vec<Range<u64>> {
        let all = 0..bytes;
        vec![all]
    }

    #[test]
    fn lengths_are_compared_in_their_order() {
        let [well, ..] = wires();
        let with = |change: fn(&mut Wire)| {
            let mut recorded = well.clone();
            change(&mut recorded);
            agrees(&recorded, &well)
        };
        // One read has taken both packets.
        with(|wire| wire.client.data = packet(5)).unwrap();
        for (what, change) in [
            (
                "other reads",
                (|wire| wire.client.data = vec![0..3, 3..5]) as fn(&mut Wire),
            ),
            ("other writes", |wire| wire.server.data = vec![0..3, 3..7]),
            ("writes that were sent at once", |wire| {
                wire.server.data = packet(7)
            }),
            ("data twice", |wire| wire.client.again = true),
            ("data twice", |wire| wire.server.again = true),
        ] {
            assert!(with(change).is_err(), "{what}");
        }
    }

    #[test]
    fn a_long_read_is_recorded_in_several_packets() {
        let joined = at_once(&[0..3, 3..LONGEST + 3, LONGEST + 3..65_539, 65_539..65_540]);
        assert_eq!(joined, [0..3, 3..65_539, 65_539..65_540]);
    }

    #[test]
    fn what_was_never_accepted_is_not_recorded() {
        let [_, reset, by_server] = wires();
        let mut waited = reset.clone();
        waited.server = Sent::default();
        agrees(&Wire::default(), &waited).unwrap();
        for known in [reset, by_server] {
            assert!(agrees(&Wire::default(), &known).is_err());
        }
    }

    /// Whoever reads into a buffer takes no more than that, and a window may hold up what is sent.
    #[test]
    fn much_data_may_go_in_other_pieces() {
        let whole = |length: u64| Sent {
            bytes: length,
            data: packet(length),
            ..Sent::default()
        };
        let captured = wire(whole(2 * BUFFER), whole(WINDOW + 1), End::Client);
        let mut recorded = captured.clone();
        recorded.client.data = vec![0..BUFFER, BUFFER..2 * BUFFER];
        recorded.server.data = vec![0..1, 1..WINDOW + 1];
        agrees(&recorded, &captured).unwrap();
        recorded.client.data = vec![0..1, 1..2 * BUFFER];
        assert!(agrees(&recorded, &captured).is_err());
    }
}
