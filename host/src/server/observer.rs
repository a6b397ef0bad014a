//! What a server tells of what happens in it, and how it stands.

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::sync::Arc;

use crate::tcp::{Report, Traffic};

/// Is told what happens in a server: on the threads that serve, which wait for it to
/// return.
///
/// A closure that takes a [`Report`] is one that wants to hear of ends only.
pub trait Observer: Send + Sync {
    /// A connection is handed to the service.
    fn accepted(&self) {}

    /// A connection has ended, or was refused.
    fn closed(&self, report: &Report) {
        _ = report;
    }

    /// An instance of the service has trapped.
    fn trapped(&self) {}

    /// A connection could not be accepted. The server goes on; a lack of descriptors it
    /// waits out.
    fn accept_failed(&self, error: &io::Error) {
        _ = error;
    }
}

impl<F: Fn(&Report) + Send + Sync> Observer for F {
    fn closed(&self, report: &Report) {
        self(report);
    }
}

/// All that are to be told.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: impl Observer + 'static) {
        self.0.push(Arc::new(observer));
    }

    /// Tells each of them.
    pub(crate) fn tell(&self, of: impl Fn(&dyn Observer)) {
        for observer in &self.0 {
            of(&**observer);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}

/// How a server stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Connections that no service has yet: their PROXY protocol header or their TLS
    /// handshake is waited for.
    pub arriving: usize,
    /// Connections with both directions open.
    pub open: usize,
    /// Connections of which one direction has ended.
    pub half_open: usize,
    /// Connections that the service has done with, and that are being closed.
    pub closing: usize,
    /// Bytes that the open connections have received.
    pub received: u64,
    /// Bytes that they have sent.
    pub sent: u64,
    /// Instances of the service.
    pub instances: usize,
}

impl Snapshot {
    pub(super) fn new(traffic: Traffic, arriving: usize, instances: usize) -> Self {
        Snapshot {
            arriving,
            open: traffic.open,
            half_open: traffic.half_open,
            closing: traffic.closing,
            received: traffic.received,
            sent: traffic.sent,
            instances,
        }
    }
}

impl AddAssign for Snapshot {
    fn add_assign(&mut self, other: Self) {
        self.arriving += other.arriving;
        self.open += other.open;
        self.half_open += other.half_open;
        self.closing += other.closing;
        self.received += other.received;
        self.sent += other.sent;
        self.instances += other.instances;
    }
}
