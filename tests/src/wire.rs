//! The packets of a connection, captured by `tcpdump` on the loopback interface. A socket
//! hides what a packet shows: whether FIN came after the last byte, and whether a RST came
//! at all.

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::patience::eventually;
use crate::scenario::Step;
use crate::server::{Server, command};

/// The time in which a packet may follow the last event that a socket sees, such as the RST
/// after a FIN. Only a check that fails waits so long.
const LATE: Duration = Duration::from_secs(60);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Server,
    server: SocketAddr,
    /// A socket that sends to itself. `tcpdump` prints packets in their order, so once a
    /// datagram is printed, everything before it is printed as well.
    fence: UdpSocket,
    fences: usize,
}

/// The packets that one end of a connection sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The number of data bytes.
    pub bytes: u64,
    /// The number of data bytes before FIN, if FIN was sent.
    pub fin: Option<u64>,
    /// Whether RST was sent.
    pub rst: bool,
    /// The bytes of each packet with new data, by their places, in the order of the packets.
    pub data: Vec<Range<u64>>,
    /// Whether data was sent again, or out of order.
    pub again: bool,
}

/// As many packets with data are printed of each end.
const PRINTED: usize = 8;

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("bytes", &self.bytes)
            .field("fin", &self.fin)
            .field("rst", &self.rst)
            .field("data", &self.data.iter().take(PRINTED).collect::<Vec<_>>())
            .field("packets", &self.data.len())
            .field("again", &self.again)
            .finish()
    }
}

/// The packets that both ends of a connection sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// From the client.
    pub client: Sent,
    /// From the server.
    pub server: Sent,
    /// The side whose FIN or RST came first.
    pub first: Option<End>,
}

/// Connections, by the client's port. A client may have a port that another one had before, whose
/// connection was reset.
pub type Wires = HashMap<u16, Vec<Wire>>;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Whether packets can be captured here, which takes `tcpdump` and root.
#[must_use]
pub fn can_capture() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        Command::new("tcpdump").arg("--version").output().is_ok()
            && rustix::process::geteuid().is_root()
    })
}

impl Capture {
    /// Starts to capture the packets to and from a server.
    ///
    /// # Errors
    ///
    /// If the capture does not begin.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let fence = UdpSocket::bind("127.0.0.1:0")?;
        let (tcp, udp) = (server.port(), fence.local_addr()?.port());
        let filter = format!("tcp port {tcp} or udp dst port {udp}");
        let tcpdump = command(
            "tcpdump",
            [
                "-i",
                "lo",
                "-nn",
                "-l",
                "--immediate-mode",
                "-s",
                "96",
                "-B",
                "16384",
                &filter,
            ],
        );
        let tcpdump = Server::start(tcpdump, 0)?;
        tcpdump.logged("listening on")?;
        Ok(Capture {
            tcpdump,
            server,
            fence,
            fences: 0,
        })
    }

    /// Waits until the packets so far pass a check, and ends the capture. The check gets the
    /// packets of each connection by the client's port.
    ///
    /// # Errors
    ///
    /// If the check still fails after all late packets must have come, or if packets were
    /// lost.
    pub fn finish(mut self, check: impl Fn(&Wires) -> Result<()>) -> Result<()> {
        // A packet that must not come has a moment to come.
        thread::sleep(Duration::from_millis(50));
        let deadline = Instant::now() + LATE;
        let mut checked = check(&self.wires()?);
        while checked.is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
            checked = check(&self.wires()?);
        }
        let stopped = self.tcpdump.stop(Signal::INT)?;
        let dropped = stopped
            .stderr
            .iter()
            .any(|line| line.ends_with("packets dropped by kernel") && !line.starts_with("0 "));
        ensure!(!dropped, "packets were lost: {:?}", stopped.stderr);
        checked
    }

    /// Returns all packets that were sent before this call, by the client's port.
    fn wires(&mut self) -> Result<Wires> {
        let fence = self.fence.local_addr()?;
        self.fence.send_to(b"fence", fence)?;
        self.fences += 1;
        let printed = format!(" > {}.{}: ", fence.ip(), fence.port());
        let mut lines = Vec::new();
        eventually("tcpdump has printed all packets", || {
            lines = self.tcpdump.printed(0);
            let fences = lines.iter().filter(|line| line.contains(&printed)).count();
            Ok(fences >= self.fences)
        })?;
        Ok(parse(&lines, self.server.port()))
    }
}

/// Reads the packets of a recording, by the client's port.
///
/// # Errors
///
/// If `tcpdump` cannot be run, or finds the file damaged.
pub fn read(file: &Path, server: u16) -> Result<Wires> {
    let output = Command::new("tcpdump")
        .args(["-nn", "-r"])
        .arg(file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A block that is not written to its end is the last one.
    let whole = output.status.success() || said.contains("truncated dump file");
    ensure!(whole, "tcpdump: {said}");
    let lines: Vec<_> = String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    Ok(parse(&lines, server))
}

fn parse(lines: &[String], server: u16) -> Wires {
    let mut wires = Wires::new();
    // The sequence number of each client's last SYN: the same one again is a repetition.
    let mut begun: HashMap<u16, u64> = HashMap::new();
    let packets = lines.iter().filter_map(|line| Packet::parse(line));
    // A recording has the connections of other addresses as well.
    for packet in packets.filter(|packet| packet.from == server || packet.to == server) {
        let from_server = packet.from == server;
        let client = if from_server { packet.to } else { packet.from };
        let connections = wires.entry(client).or_default();
        let begins = packet.syn && !packet.ack && !from_server;
        if begins && begun.insert(client, packet.start) != Some(packet.start)
            || connections.is_empty()
        {
            connections.push(Wire::default());
        }
        if let Some(wire) = connections.last_mut() {
            wire.add(&packet, from_server);
        }
    }
    wires
}

impl Wire {
    fn add(&mut self, packet: &Packet, from_server: bool) {
        // The kernel's answer to a packet that the client's RST has overtaken, on another
        // processor, or to one that was retransmitted when both sides had ended the connection
        // (RFC 9293, section 3.10.7.1). A RST that a program causes carries ACK.
        let answer = packet.rst && !packet.ack;
        let ended = self.client.fin.is_some() && self.server.fin.is_some();
        if from_server && answer && (self.client.rst || ended) {
            return;
        }
        let (sent, end) = match from_server {
            true => (&mut self.server, End::Server),
            false => (&mut self.client, End::Client),
        };
        sent.add(packet);
        if packet.fin || packet.rst {
            self.first.get_or_insert(end);
        }
    }
}

impl Sent {
    fn add(&mut self, packet: &Packet) {
        self.rst |= packet.rst;
        if packet.syn || packet.rst {
            return;
        }
        let (start, end) = (packet.start.saturating_sub(1), packet.end.saturating_sub(1));
        if end > start {
            self.again |= start != self.bytes;
            if end > self.bytes {
                self.data.push(self.bytes.max(start)..end);
            }
        }
        self.bytes = self.bytes.max(end);
        if packet.fin {
            self.fin.get_or_insert(end);
        }
    }
}

/// One packet, from a line of `tcpdump`.
struct Packet {
    from: u16,
    to: u16,
    syn: bool,
    fin: bool,
    rst: bool,
    ack: bool,
    /// The relative sequence numbers of the packet's first byte, and after its last one. The first
    /// byte of the connection has number 1.
    start: u64,
    end: u64,
}

impl Packet {
    /// Parses a line such as
    /// `12:00:00.0 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags [P.], seq 1:3, ack 1, …`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(" > ")?;
        let from = line.split_once(" > ")?.0.rsplit_once('.')?.1.parse().ok()?;
        let (to, rest) = rest.split_once(": Flags [")?;
        let to = to.rsplit_once('.')?.1.parse().ok()?;
        let (flags, rest) = rest.split_once(']')?;
        let range = rest.strip_prefix(", seq ").and_then(|rest| {
            let range = rest.split_once(',')?.0;
            let (start, end) = range.split_once(':').unwrap_or((range, range));
            Some((start.parse().ok()?, end.parse().ok()?))
        });
        let (start, end) = range.unwrap_or_default();
        Some(Packet {
            from,
            to,
            syn: flags.contains('S'),
            fin: flags.contains('F'),
            rst: flags.contains('R'),
            ack: flags.contains('.'),
            start,
            end,
        })
    }
}

/// Checks that the packets of a client's connection are those of its script.
///
/// # Errors
///
/// If they are not.
pub fn check(script: &[Step], client: u8, wire: &Wire) -> Result<()> {
    let expected = Expected::of(script, client);
    let Wire {
        client: ours,
        server,
        ..
    } = wire;
    if let Some(bytes) = expected.sent {
        ensure!(
            ours.bytes == bytes,
            "the client sent {ours:?}, not {bytes} bytes"
        );
    }
    if let Some(bytes) = expected.received {
        ensure!(
            server.bytes == bytes,
            "the server sent {server:?}, not {bytes} bytes"
        );
    }
    if let Some(fin) = expected.fin {
        ensure!(
            server.fin.is_some() == fin,
            "FIN from the server: {server:?}"
        );
    }
    if let Some(at) = server.fin {
        // Rule W1.
        ensure!(
            at == server.bytes,
            "FIN is not after the last byte: {server:?}"
        );
    }
    ensure!(
        server.rst == expected.rst,
        "RST from the server: {server:?}"
    );
    Ok(())
}

/// The packets that a script requires. `None` where it leaves them open.
#[derive(Debug)]
struct Expected {
    sent: Option<u64>,
    received: Option<u64>,
    fin: Option<bool>,
    rst: bool,
}

impl Expected {
    fn of(script: &[Step], client: u8) -> Self {
        let mut expected = Expected {
            sent: Some(0),
            received: Some(0),
            fin: Some(false),
            rst: false,
        };
        let add = |sum: &mut Option<u64>, length: usize| {
            if let Some(sum) = sum {
                *sum += length as u64;
            }
        };
        for step in script.iter().filter(|step| step.client() == Some(client)) {
            match *step {
                Step::Send(_, bytes) => add(&mut expected.sent, bytes.len()),
                Step::SendMany(_, _, count) => add(&mut expected.sent, count),
                Step::Receive(_, bytes) => add(&mut expected.received, bytes.len()),
                Step::ReceiveMany(_, _, count) => add(&mut expected.received, count),
                Step::End(_) => expected.fin = Some(true),
                Step::EndReset(_) => expected.rst = true,
                Step::RestEnd(_) => {
                    expected.fin = Some(true);
                    expected.received = None;
                }
                Step::RestReset(_) => {
                    expected.rst = true;
                    expected.received = None;
                }
                Step::FinThenReset(_) => {
                    expected.fin = Some(true);
                    expected.rst = true;
                    expected.received = None;
                }
                // How much was on its way to the client is open.
                Step::Reset(_) => expected.received = None,
                Step::Close(_) => {
                    expected.received = None;
                    expected.fin = None;
                }
                _ => {}
            }
        }
        if expected.rst {
            // A RST may come before the client has sent everything.
            expected.sent = None;
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tcpdump_are_read() {
        let packet = |rest: &str| {
            Packet::parse(&format!(
                "1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags {rest}"
            ))
            .unwrap()
        };
        let data = packet("[P.], seq 1:3, ack 1, win 512, options [nop], length 2");
        assert_eq!((data.from, data.to, data.start, data.end), (4000, 80, 1, 3));
        assert!(!data.fin && !data.rst && !data.syn);
        let fin = packet("[F.], seq 3, ack 1, win 512, length 0");
        assert!(fin.fin && fin.end == 3);
        assert!(packet("[R], seq 1, win 0, length 0").rst);
        assert!(packet("[S], seq 123456, win 0, length 0").syn);
    }

    #[test]
    fn the_places_of_data_are_those_of_its_packets() {
        let sent = |packets: &[&str]| {
            let mut sent = Sent::default();
            for packet in packets {
                let line = format!("1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags {packet}");
                sent.add(&Packet::parse(&line).unwrap());
            }
            sent
        };
        let [one, two, end] = [
            "[P.], seq 1:3, ack 1, win 512, length 2",
            "[P.], seq 3:8, ack 1, win 512, length 5",
            "[F.], seq 8, ack 1, win 512, length 0",
        ];
        let whole = sent(&[one, "[.], ack 1, win 512, length 0", two, end]);
        assert_eq!((whole.bytes, whole.fin, whole.again), (7, Some(7), false));
        assert_eq!(whole.data, [0..2, 2..7]);
        let again = sent(&[one, one, two]);
        assert!(again.again);
        assert_eq!(again.data, [0..2, 2..7]);
        assert!(sent(&[one, "[P.], seq 4:8, ack 1, win 512, length 4"]).again);
    }

    #[test]
    fn a_port_that_is_used_again_is_another_connection() {
        let lines = [
            "1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags [S], seq 7, win 1, length 0",
            "1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags [S], seq 7, win 1, length 0",
            "1:2 IP 127.0.0.1.80 > 127.0.0.1.4000: Flags [S.], seq 9, ack 8, win 1, length 0",
            "1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags [R.], seq 1, ack 1, win 1, length 0",
            "1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags [S], seq 8, win 1, length 0",
            "1:2 IP 127.0.0.1.4000 > 127.0.0.1.80: Flags [F.], seq 1, ack 1, win 1, length 0",
        ];
        let wires = parse(&lines.map(str::to_owned), 80);
        let [first, second] = &wires[&4000][..] else {
            panic!("{wires:?}");
        };
        assert!(first.client.rst && first.client.fin.is_none());
        assert!(!second.client.rst && second.client.fin == Some(0));
    }

    /// A connection of packets with these flags; `true` are those from the server.
    fn wire(packets: &[(&str, bool)]) -> Wire {
        let mut wire = Wire::default();
        for (flags, from_server) in packets {
            let line =
                format!("1:2 IP 127.0.0.1.80 > 127.0.0.1.4000: Flags [{flags}], seq 1, win 0");
            wire.add(&Packet::parse(&line).unwrap(), *from_server);
        }
        wire
    }

    #[test]
    fn an_answer_to_what_a_rst_has_overtaken_is_no_reset() {
        assert!(!wire(&[("R.", false), ("R", true)]).server.rst);
        assert!(wire(&[("R.", false), ("R.", true)]).server.rst);
        assert!(wire(&[("R", true)]).server.rst);
    }

    #[test]
    fn an_answer_to_what_comes_again_after_the_end_is_no_reset() {
        let (ours, theirs) = (("F.", false), ("F.", true));
        assert!(!wire(&[ours, theirs, ours, ("R", true)]).server.rst);
        assert!(wire(&[ours, ("R", true)]).server.rst);
        assert!(wire(&[theirs, ("R", true)]).server.rst);
        assert!(wire(&[ours, theirs, ("R.", true)]).server.rst);
    }

    #[test]
    fn a_fin_before_the_last_byte_is_found() {
        let script = [Step::Receive(1, b"ab"), Step::End(1)];
        let mut wire = Wire::default();
        wire.server.bytes = 2;
        wire.server.fin = Some(2);
        assert!(check(&script, 1, &wire).is_ok());
        wire.server.fin = Some(1);
        assert!(check(&script, 1, &wire).is_err());
        wire.server.fin = None;
        assert!(check(&script, 1, &wire).is_err());
        wire.server.fin = Some(2);
        wire.server.rst = true;
        assert!(check(&script, 1, &wire).is_err());
    }
}
