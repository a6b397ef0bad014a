//! What a server logs of its connections.
//!
//! Peers and guests cause these lines, so each kind is limited by itself. A subscriber that
//! panics harms nobody.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::display;

use super::report::Refusal;
use crate::noise::{Noise, quietly};
use crate::runtime::Seldom;

/// How many bytes of a guest's text are logged.
const LONGEST: usize = 1024;

/// The log of one server.
#[derive(Debug)]
pub(super) struct Journal {
    /// The service's name, if the embedder has given it one.
    service: Option<String>,
    refused: Mutex<Vec<(Refusal, Arc<Noise>)>>,
    failed: Arc<Noise>,
    trapped: Arc<Noise>,
    lost: Arc<Noise>,
    observers: Arc<Noise>,
    /// When the log last said that an instance was ended.
    outlasted: Seldom,
}

impl Default for Journal {
    fn default() -> Self {
        Journal::of(None)
    }
}

impl Journal {
    /// Returns the log of a service.
    pub(super) fn of(service: Option<String>) -> Self {
        let noise = |kind| Noise::of(service.clone(), kind);
        Journal {
            failed: noise("the service failed"),
            trapped: noise("the service trapped"),
            lost: noise("a connection is lost"),
            observers: noise("an observer panicked"),
            outlasted: Seldom::default(),
            refused: Mutex::default(),
            service,
        }
    }

    /// Logs that a connection was refused.
    pub(super) fn refused(&self, peer: SocketAddr, refusal: Refusal) {
        let service = self.service();
        self.noise_of(refusal).log(|| {
            let why = refusal.reason();
            tracing::warn!(target: "halfopen::refused", service, %peer, "refused: {why}");
        });
    }

    /// Logs that the service has returned an error.
    pub(super) fn failed(&self, peer: Option<SocketAddr>, message: &str) {
        let service = self.service();
        let peer = peer.map(display);
        self.failed.log(|| {
            let message = message.trim_end();
            let end = message.floor_char_boundary(LONGEST);
            tracing::warn!(service, peer, "the service failed: {}", &message[..end]);
        });
    }

    /// Logs that an instance has trapped.
    pub(super) fn trapped(
        &self,
        peer: Option<SocketAddr>,
        cause: impl Display,
        backtrace: impl Display,
    ) {
        let service = self.service();
        let peer = peer.map(display);
        self.trapped.log(|| {
            tracing::error!(service, peer, %backtrace, "the service trapped: {cause}");
        });
    }

    /// Logs that an instance was ended which had outlasted its connection, with the `cause`.
    pub(super) fn outlasted(&self, peer: SocketAddr, cause: impl Display) {
        let service = self.service();
        if let Some(more) = self.outlasted.say() {
            quietly(|| tracing::warn!(service, %peer, more, "an instance still ran {cause}"));
        }
    }

    /// Logs that the host cannot serve a connection.
    pub(super) fn lost(&self, peer: SocketAddr, error: &io::Error) {
        let service = self.service();
        let log = || tracing::error!(service, %peer, "a connection is lost: {error}");
        self.lost.log(log);
    }

    /// Logs that an observer has panicked.
    pub(super) fn observer_panicked(&self) {
        let service = self.service();
        let log = || tracing::error!(service, "an observer panicked; the server goes on");
        self.observers.log(log);
    }

    /// Logs that a listener accepts no more.
    pub(super) fn listener_failed(&self, error: &io::Error) {
        let service = self.service();
        tracing::error!(
            service,
            "a listener has failed, and accepts no more: {error}"
        );
    }

    fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    fn noise_of(&self, refusal: Refusal) -> Arc<Noise> {
        let mut kinds = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, noise)) = kinds.iter().find(|(kind, _)| *kind == refusal) {
            return noise.clone();
        }
        let noise = Noise::of(self.service.clone(), refusal.reason());
        kinds.push((refusal, noise.clone()));
        noise
    }
}
