//! What a server reports while it serves.

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::sync::Arc;

use super::journal::Journal;
use super::report::{Accepted, Report};
use crate::events::Scope;
use crate::noise::caught;
use crate::tcp::{Denied, Traffic};

/// Receives the events of a server.
///
/// The server calls an observer on the threads that serve, and waits for it to return. A panic
/// of an observer is logged; it harms no connection, and the observer is called again.
/// A closure that takes a [`Report`] is an observer of [`closed`](Self::closed) alone.
pub trait Observer: Send + Sync {
    /// Called when a connection is handed to the service, before the service sees it. Its
    /// end is reported to [`closed`](Self::closed), with the same
    /// [`id`](super::Report::id).
    fn accepted(&self, connection: &Accepted) {
        _ = connection;
    }

    /// Called when a connection has closed for good, or was refused.
    fn closed(&self, report: &Report) {
        _ = report;
    }

    /// Called when an instance of the service has trapped.
    fn trapped(&self) {}

    /// Called each time that the service is denied something that it was not granted, also where
    /// the log, which has each denial once an hour, says nothing.
    fn denied(&self, denied: &Denied) {
        _ = denied;
    }

    /// Called when accept(2) has failed. The server goes on; it waits for descriptors if
    /// there are none left.
    fn accept_failed(&self, error: &io::Error) {
        _ = error;
    }
}

impl<F: Fn(&Report) + Send + Sync> Observer for F {
    fn closed(&self, report: &Report) {
        self(report);
    }
}

/// All observers of a server, and its log.
#[derive(Clone, Default)]
pub(super) struct Observers {
    all: Vec<Arc<dyn Observer>>,
    journal: Arc<Journal>,
    /// Where events go, if they are reported.
    scope: Option<Arc<Scope>>,
}

impl Observers {
    pub(super) fn add(&mut self, observer: impl Observer + 'static) {
        self.all.push(Arc::new(observer));
    }

    /// Sets the log.
    pub(super) fn log_to(&mut self, journal: Journal) {
        self.journal = Arc::new(journal);
    }

    /// Sets where events go.
    pub(super) fn report_to(&mut self, scope: Scope) {
        self.scope = Some(Arc::new(scope));
    }

    /// Where events go.
    pub(super) fn scope(&self) -> Option<Arc<Scope>> {
        self.scope.clone()
    }

    /// Reports an event to each observer.
    pub(super) fn notify(&self, event: impl Fn(&dyn Observer)) {
        for observer in &self.all {
            if caught(|| event(&**observer)) {
                self.journal.observer_panicked();
            }
        }
    }

    /// Returns the log.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.all.len())
    }
}

/// A server's state at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Connections that are not yet admitted: the server waits for their PROXY protocol
    /// header or their TLS handshake.
    pub arriving: usize,
    /// Connections with both directions open.
    pub open: usize,
    /// Connections of which one direction has ended.
    pub half_open: usize,
    /// Connections that the service has finished with, and that are being closed.
    pub closing: usize,
    /// Bytes that the open connections have received.
    pub received: u64,
    /// Bytes that the open connections have sent.
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
