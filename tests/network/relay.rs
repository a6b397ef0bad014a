//! The wire: carries packets between the two sides, through the weather of each connection.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etherparse::{Ipv4Header, TcpHeader};

use super::tun::Tun;
use super::weather::{Fate, Towards, Weather};

/// The wire.
pub(super) struct Relay {
    tun: Tun,
    servers: [u16; 2],
    over: AtomicBool,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    /// By the client's port.
    weather: HashMap<u16, Weather>,
    forged: HashSet<u16>,
    packets: u64,
    lost: u64,
    doubled: u64,
}

/// A packet on its way, ordered by the time of its arrival.
type OnItsWay = Reverse<(Instant, u64, Vec<u8>)>;

impl Relay {
    pub(super) fn new(tun: Tun, servers: &[u16; 2]) -> Self {
        Relay {
            tun,
            servers: *servers,
            over: AtomicBool::new(false),
            connections: Mutex::default(),
        }
    }

    /// Sets the weather of the connection from this port.
    pub(super) fn expect(&self, port: u16, weather: Weather) {
        let mut connections = self.connections.lock().expect("not poisoned");
        connections.weather.insert(port, weather);
    }

    /// Ends [`run`](Self::run).
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// The connections on which a reset was forged, by the client's port.
    pub(super) fn forged(&self) -> HashSet<u16> {
        self.connections
            .lock()
            .expect("not poisoned")
            .forged
            .clone()
    }

    pub(super) fn summary(&self) -> String {
        let connections = self.connections.lock().expect("not poisoned");
        format!(
            "{} packets, {} lost, {} doubled, {} connections with a forged reset",
            connections.packets,
            connections.lost,
            connections.doubled,
            connections.forged.len()
        )
    }

    /// Carries packets until [`end`](Self::end).
    pub(super) fn run(&self) {
        let mut heap: BinaryHeap<OnItsWay> = BinaryHeap::new();
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) {
            let now = Instant::now();
            while heap.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
                if let Some(Reverse((_, _, packet))) = heap.pop() {
                    // What does not fit into the queue of the receiver is lost.
                    let _ = self.tun.write(&packet);
                }
            }
            let next = heap
                .peek()
                .map(|Reverse((due, ..))| due.saturating_duration_since(now));
            let wait = next
                .unwrap_or(Duration::MAX)
                .min(Duration::from_millis(100));
            self.tun.wait(wait).expect("poll(2) works");
            while let Some(packet) = self.tun.read().expect("the device can be read") {
                for (time, packet) in self.carry(packet) {
                    number += 1;
                    heap.push(Reverse((Instant::now() + time, number, packet)));
                }
            }
        }
    }

    /// Returns what becomes of a packet, and the time that each takes.
    fn carry(&self, packet: Vec<u8>) -> Vec<(Duration, Vec<u8>)> {
        let Some(parsed) = Parsed::of(&packet) else {
            // Not TCP over IPv4.
            return Vec::new();
        };
        let (from, to) = (parsed.tcp.source_port, parsed.tcp.destination_port);
        let (port, towards) = if self.servers.contains(&to) {
            (from, Towards::Server)
        } else {
            (to, Towards::Client)
        };
        let mut connections = self.connections.lock().expect("not poisoned");
        connections.packets += 1;
        let Some(weather) = connections.weather.get_mut(&port) else {
            return Vec::new();
        };
        match weather.fate(towards, Instant::now()) {
            Fate::Lost => {
                connections.lost += 1;
                Vec::new()
            }
            Fate::Arrives(time) => vec![(time, swapped(packet))],
            Fate::Doubled(first, second) => {
                connections.doubled += 1;
                let packet = swapped(packet);
                vec![(first, packet.clone()), (second, packet)]
            }
            Fate::Reset if parsed.tcp.syn => vec![(Duration::ZERO, swapped(packet))],
            Fate::Reset => {
                connections.forged.insert(port);
                let [ahead, back] = parsed.resets();
                vec![(Duration::ZERO, ahead), (Duration::ZERO, back)]
            }
        }
    }
}

/// Exchanges the addresses.
fn swapped(mut packet: Vec<u8>) -> Vec<u8> {
    let (source, destination) = packet[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    packet
}

/// The headers of a packet.
struct Parsed {
    ip: Ipv4Header,
    tcp: TcpHeader,
}

impl Parsed {
    fn of(packet: &[u8]) -> Option<Self> {
        let (ip, rest) = Ipv4Header::from_slice(packet).ok()?;
        if ip.protocol != etherparse::IpNumber::TCP {
            return None;
        }
        let (tcp, _) = TcpHeader::from_slice(rest).ok()?;
        Some(Parsed { ip, tcp })
    }

    /// Returns two resets: one to the receiver in place of the packet, and one to its sender,
    /// whose numbers are the ones that each of them expects if nothing is on its way.
    fn resets(&self) -> [Vec<u8>; 2] {
        let reset = |from: u16, to: u16, sequence: u32, acknowledgment: u32| {
            let mut tcp = TcpHeader::new(from, to, sequence, 0);
            tcp.rst = true;
            tcp.ack = true;
            tcp.acknowledgment_number = acknowledgment;
            tcp
        };
        let (tcp, sequence) = (&self.tcp, self.tcp.sequence_number);
        let acknowledged = tcp.acknowledgment_number;
        let ahead = reset(
            tcp.source_port,
            tcp.destination_port,
            sequence,
            acknowledged,
        );
        let back = reset(
            tcp.destination_port,
            tcp.source_port,
            acknowledged,
            sequence,
        );
        // On the wire, both packets come from the other address.
        [ahead, back].map(|mut tcp| {
            let mut ip = self.ip.clone();
            (ip.source, ip.destination) = (self.ip.destination, self.ip.source);
            let written = ip
                .set_payload_len(tcp.header_len())
                .map_err(|error| error.to_string())
                .and_then(|()| {
                    tcp.checksum = tcp
                        .calc_checksum_ipv4(&ip, &[])
                        .map_err(|error| error.to_string())?;
                    let mut packet = Vec::new();
                    ip.write(&mut packet).map_err(|error| error.to_string())?;
                    tcp.write(&mut packet).map_err(|error| error.to_string())?;
                    Ok(packet)
                });
            written.expect("a header is short")
        })
    }
}
