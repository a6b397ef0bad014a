//! A recording of `halfopen serve --record`, compared with the packets of the same connections.
//!
//! `tcpdump` reads both. What the server says of a connection has to be what was on the wire, as
//! far as a server can know it: of what comes after a connection has ended for it, such as a RST
//! of the client, it hears nothing.

use anyhow::{Result, ensure};

use crate::wire::Wire;

/// Checks that a recorded connection is the captured one.
///
/// # Errors
///
/// If it is not.
pub fn agrees(recorded: Wire, captured: Wire) -> Result<()> {
    from_client(recorded, captured)?;
    from_server(recorded, captured)?;
    first(recorded, captured)
}

/// What the client has sent. The server may end before it has read all of it.
fn from_client(recorded: Wire, captured: Wire) -> Result<()> {
    let (read, sent) = (recorded.client, captured.client);
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
    Ok(())
}

/// What the server has sent. What its kernel has not sent yet, a RST discards.
fn from_server(recorded: Wire, captured: Wire) -> Result<()> {
    let (written, sent) = (recorded.server, captured.server);
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
    Ok(())
}

/// Who was first.
fn first(recorded: Wire, captured: Wire) -> Result<()> {
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
    use crate::wire::{End, Sent};

    fn sent(bytes: u64, fin: bool, rst: bool) -> Sent {
        let fin = fin.then_some(bytes);
        Sent { bytes, fin, rst }
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
            agrees(wire, wire).unwrap();
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
                let mut recorded = captured;
                change(&mut recorded);
                // A FIN that a RST has overtaken is recorded, and was not sent.
                let overtaken = what == "FIN of the server" || what == "the place of FIN";
                let cut = captured.client.rst || captured.server.rst;
                // A RST that meets the peer's is not sent.
                let met = what == "RST of the server" && captured.client.rst;
                let lenient = overtaken && cut || met;
                assert_eq!(
                    agrees(recorded, captured).is_ok(),
                    lenient,
                    "{what}: {captured:?}"
                );
            }
        }
    }

    #[test]
    fn less_of_the_client_is_found_where_nothing_cuts_it_short() {
        let [well, ..] = wires();
        let mut recorded = well;
        recorded.client.bytes -= 1;
        recorded.client.fin = None;
        assert!(agrees(recorded, well).is_err());
    }
}
