//! Events as blocks of a file.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock;
use super::flow::{Flow, Packets, Part};
use super::pcapng::{self, Packet};
use super::words::words;
use crate::observe::escape::escaped;
use crate::watch::json::{At, Dir, Event, Line};

/// The name of the program in a section. Only its files have events in comments.
pub(crate) const APPLICATION: &str = "halfopen";

/// How long something may still come of a connection that is no longer among the open ones, in
/// microseconds: while it closes, for example.
const PATIENCE: u64 = 60_000_000;

/// Names of services that are not recorded. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Excluded(Arc<Mutex<HashSet<String>>>);

impl Excluded {
    /// Replaces the names.
    pub(crate) fn set(&self, names: HashSet<String>) {
        *self.names() = names;
    }

    fn has(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes blocks of events.
///
/// An event of a connection becomes one packet or several, with the number of the event. What
/// addresses, flags and lengths do not say is in two comments of the first one: in words, and as
/// the line of JSON. What is about no connection becomes statistics of the interface.
#[derive(Debug)]
pub(crate) struct Encoder {
    with_payload: bool,
    excluded: Excluded,
    /// What each file begins with.
    hello: Line,
    /// The time of [`At`] 0, in microseconds since 1970.
    began: u64,
    flows: HashMap<u64, Flow>,
    /// Open connections of excluded services.
    left_out: HashSet<u64>,
    /// The number of the current file, or of its part in which connections are described.
    file: u64,
    /// The time of the latest event.
    latest: At,
    /// Events that are missing, in all.
    missing: u64,
}

impl Encoder {
    /// An encoder of the events that come after `hello`; `None` if that is another event, or says
    /// no time.
    pub(crate) fn new(hello: Line, with_payload: bool, excluded: Excluded) -> Option<Self> {
        let Event::Hello { began, .. } = &hello.event else {
            return None;
        };
        Some(Encoder {
            with_payload,
            excluded,
            began: clock::parse(began)?,
            latest: hello.at.unwrap_or_default(),
            hello,
            flows: HashMap::new(),
            left_out: HashSet::new(),
            file: 0,
            missing: 0,
        })
    }

    /// Begins a file, which can be read without an earlier one: each connection is described anew
    /// before its next packet.
    pub(crate) fn begin(&mut self, file: &mut Vec<u8>) {
        self.describe_again();
        let application = format!("{APPLICATION} {}", env!("CARGO_PKG_VERSION"));
        let comments = comments(&self.hello);
        pcapng::section(file, &application, &borrowed(&comments));
        pcapng::interface(file, APPLICATION);
        if self.missing > 0 {
            pcapng::statistics(file, self.time(self.latest), Some(self.missing), &[]);
        }
    }

    /// Adds an event.
    pub(crate) fn add(&mut self, line: &Line, file: &mut Vec<u8>) {
        let at = line.at.unwrap_or(self.latest);
        self.latest = self.latest.max(at);
        match (&line.event, line.id) {
            (Event::Hello { .. } | Event::Unknown, _) => {}
            (Event::Lost { count }, _) => self.lost(*count, file),
            (Event::Instance { service, .. }, _) if self.excluded.has(service) => {}
            (_, None) => {
                let comments = comments(line);
                pcapng::statistics(file, self.time(at), None, &borrowed(&comments));
            }
            (Event::Connection { .. }, Some(id)) => self.find(id, &line.event),
            (event, Some(id)) => {
                let closes = matches!(event, Event::Closed { .. });
                if !self.meet(id, event, at) {
                    if closes {
                        self.left_out.remove(&id);
                    }
                    return;
                }
                self.packets(id, line, at, file);
                if closes {
                    self.flows.remove(&id);
                }
            }
        }
    }

    /// Describes each connection anew before its next packet.
    pub(crate) fn describe_again(&mut self) {
        self.file += 1;
    }

    /// Says that events are missing at this place.
    pub(crate) fn lost(&mut self, count: u64, file: &mut Vec<u8>) {
        self.missing += count;
        self.describe_again();
        let line = Line {
            event: Event::Lost { count },
            seq: None,
            at: None,
            id: None,
        };
        let comments = comments(&line);
        pcapng::statistics(
            file,
            self.time(self.latest),
            Some(self.missing),
            &borrowed(&comments),
        );
    }

    /// Takes the connections that are open now, after events were lost. The ends of others may be among what was lost; they
    /// are forgotten, unless something comes of them within a minute.
    pub(crate) fn open(&mut self, connections: &[Line]) {
        let open: HashSet<_> = connections.iter().filter_map(|line| line.id).collect();
        let latest = self.latest;
        self.flows
            .retain(|_, flow| flow.doubted.is_none_or(|at| latest.0 - at.0 < PATIENCE));
        for (id, flow) in &mut self.flows {
            if !open.contains(id) {
                flow.doubted.get_or_insert(latest);
            }
        }
        self.left_out.retain(|id| open.contains(id));
        for line in connections {
            if let Some(id) = line.id {
                self.find(id, &line.event);
            }
        }
    }

    /// Takes a connection that is open already. It is described before its next packet, unless that
    /// is its first one, because events that came before are still to come.
    fn find(&mut self, id: u64, connection: &Event) {
        let Event::Connection { service, .. } = connection else {
            return;
        };
        if self.excluded.has(service) {
            self.left_out.insert(id);
        } else if !self.flows.contains_key(&id)
            && let Some(flow) = Flow::of(id, connection)
        {
            self.flows.insert(id, flow);
        }
    }

    /// Whether the connection of an event is recorded. Its first event makes it known.
    fn meet(&mut self, id: u64, event: &Event, at: At) -> bool {
        match event {
            Event::Accepted { service, .. } if self.excluded.has(service) => {
                self.left_out.insert(id);
            }
            Event::Accepted {
                peer,
                local,
                service,
            } => {
                let mut flow = Flow::new(id, service.clone(), *peer, *local, at);
                flow.file = self.file;
                self.flows.insert(id, flow);
            }
            _ => {}
        }
        if self.left_out.contains(&id) {
            return false;
        }
        let known = self.flows.contains_key(&id);
        if !known {
            // Its beginning is among the events that were lost, and so are its addresses.
            self.missing += 1;
        }
        known
    }

    fn packets(&mut self, id: u64, line: &Line, at: At, file: &mut Vec<u8>) {
        let time = self.time(at);
        let (number, with_payload) = (self.file, self.with_payload);
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        if flow.file != number {
            flow.file = number;
            let line = Line {
                event: flow.describe(),
                seq: None,
                at: None,
                id: Some(id),
            };
            // A remark changes no stream: what comes next comes at the same place.
            let packets = flow.packets(&line.event, with_payload);
            put(file, time, &line, packets);
        }
        flow.doubted = None;
        let packets = flow.packets(&line.event, with_payload);
        put(file, time, line, packets);
    }

    fn time(&self, at: At) -> u64 {
        self.began.saturating_add(at.0)
    }
}

/// Adds the packets of an event.
fn put(file: &mut Vec<u8>, at: u64, line: &Line, packets: Packets) {
    let mut comments = comments(line);
    for (part, dir, segment) in packets {
        let (data, original) = segment.packet();
        let is_event = part == Part::Event;
        let spoken = match is_event {
            true => std::mem::take(&mut comments),
            false => Vec::new(),
        };
        pcapng::packet(
            file,
            &Packet {
                at,
                data: &data,
                original,
                inbound: dir == Dir::In,
                number: line.seq.filter(|_| is_event),
                comments: &borrowed(&spoken),
            },
        );
    }
}

/// What the comments of an event are: none, if its packet says it all, and the connection is known.
fn comments(line: &Line) -> Vec<String> {
    let Some(words) = words(&line.event) else {
        return Vec::new();
    };
    let json = serde_json::to_string(line).ok();
    [escaped(&words)].into_iter().chain(json).collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
