//! Topics: messages from one instance to all that have subscribed, also in other services,
//! processes and machines.
//!
//! A [`Topics`] is what connects those that take part. [`Topics::local`] stays within this
//! process, and [`Topics::redis`] connects all processes that use the same Redis. A service gets
//! it by [`Grants::topics`](crate::Grants::topics), and an embedder takes part itself as a
//! [`Member`]:
//!
//! ```
//! use halfopen::topics::{Delivery, Topics};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let topics = Topics::local();
//! let mut inbox = topics.join().inbox();
//! inbox.subscribe("weather")?;
//! topics.join().publish("weather", "rain".into())?;
//! assert!(matches!(inbox.next().await, Delivery::Subscribed { .. }));
//! let Delivery::Message { payload, .. } = inbox.next().await else {
//!     panic!("no message");
//! };
//! assert_eq!(&payload[..], b"rain");
//! # Ok::<_, halfopen::topics::TopicError>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! A message is delivered at most once, and only to those that have subscribed when it is
//! published. Nothing waits for a slow subscriber: what does not fit into its [`Inbox`] is lost,
//! the oldest first, and counted. `wit/SEMANTICS.md` states the rules (T1 to T9).

mod bus;
mod counts;
mod frame;
mod inbox;
mod limits;
mod outbox;
mod queue;
mod redis;

use std::fmt;
use std::sync::Arc;

use bus::Bus;
pub use counts::TopicCounts;
pub use inbox::{Inbox, Member};
pub use limits::{PAYLOAD, SUBSCRIPTIONS, TOPIC, TopicError, WAITING, WAITING_BYTES};
pub use queue::Delivery;
pub use redis::{Broker, BrokerError};

/// What connects the publishers and subscribers of topics. A clone is the same.
#[derive(Clone)]
pub struct Topics {
    bus: Arc<Bus>,
    counts: Arc<TopicCounts>,
}

impl Topics {
    /// Connects those that use a clone of this value.
    #[must_use]
    pub fn local() -> Self {
        Topics::on(Arc::new(Bus::local()))
    }

    /// Connects those that use a clone of this value, and everyone else who uses the same Redis.
    ///
    /// A task of the current tokio runtime keeps the connections to Redis until the last clone
    /// is dropped, and makes new ones when they are lost.
    ///
    /// # Errors
    /// If there is no connection within 5 s, or Redis refuses it.
    pub async fn redis(broker: Broker) -> Result<Self, BrokerError> {
        Ok(Topics::on(redis::connect(broker).await?))
    }

    fn on(bus: Arc<Bus>) -> Self {
        Topics {
            bus,
            counts: Arc::default(),
        }
    }

    /// Counts what happens through this value and its clones in `counts`.
    #[must_use]
    pub fn counted_by(mut self, counts: Arc<TopicCounts>) -> Self {
        self.counts = counts;
        self
    }

    /// What has happened through this value and its clones.
    #[must_use]
    pub fn counts(&self) -> &TopicCounts {
        &self.counts
    }

    /// Returns a new member. Each instance of a service is one.
    #[must_use]
    pub fn join(&self) -> Member {
        Member::new(self.bus.clone(), self.counts.clone())
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
