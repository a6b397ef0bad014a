//! Topics: messages to all who have subscribed, in this instance and in others.
//!
//! The other instances are those of the same service, of its workers and, as far as the host
//! grants it (`halfopen serve --topics`), of other services, processes and machines. A message is
//! delivered at most once, and only to those that have subscribed when it is published. The
//! messages of one instance arrive in the order in which it has published them.
//!
//! [`publish`] is for both styles. [`subscribe`] calls a function with what arrives, in callback
//! style; [`stream`] returns a stream of it, in await style. Up to 1,024 messages, and 1 MiB of
//! them, wait for an instance that is busy or does not read; the oldest ones make room for more,
//! and [`Delivery::Missed`] counts them.

mod awaiting;
mod listening;

use std::fmt;

pub use awaiting::{Deliveries, stream};
pub use listening::{Subscription, subscribe};
#[doc(hidden)]
pub use listening::{message, missed, subscribed};

use crate::bindings::imports::halfopen::tcp::topics;

/// Sends `payload` to all who have subscribed to `topic`, this instance included. Returns at
/// once, and does not say who has received it.
///
/// A topic is any text of 1 to 128 bytes without control characters. A payload has at most 64
/// KiB.
///
/// # Errors
/// [`TopicError`]; nobody gets the message then.
pub fn publish(topic: &str, payload: impl AsRef<[u8]>) -> Result<(), TopicError> {
    Ok(topics::publish(topic, payload.as_ref())?)
}

/// What a subscription delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The subscription is in force: from now on each message is delivered, or counted as
    /// missed. Comes again when the host has lost what connects it with other machines, and has
    /// it back; messages of others may then be missing that nobody has counted.
    Subscribed,
    /// So many messages were lost since the last time. Comes before the next message.
    Missed(u64),
    /// A message.
    Message(Message),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What was published.
    pub payload: Vec<u8>,
    /// Whether this instance has published it.
    pub own: bool,
}

/// Why a topic cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The host grants no topics.
    AccessDenied,
    /// The name is empty, has more than 128 bytes, or has a control character.
    InvalidTopic,
    /// The payload has more than 64 KiB.
    TooLarge,
    /// The instance has 1,024 subscriptions.
    TooMany,
    /// The host has lost what connects it with other machines, and too many messages wait for
    /// it.
    Unavailable,
}

impl From<topics::TopicError> for TopicError {
    fn from(error: topics::TopicError) -> Self {
        match error {
            topics::TopicError::AccessDenied => TopicError::AccessDenied,
            topics::TopicError::InvalidTopic => TopicError::InvalidTopic,
            topics::TopicError::TooLarge => TopicError::TooLarge,
            topics::TopicError::TooMany => TopicError::TooMany,
            topics::TopicError::Unavailable => TopicError::Unavailable,
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicError::AccessDenied => "the host grants no topics",
            TopicError::InvalidTopic => "not the name of a topic",
            TopicError::TooLarge => "the message is too large",
            TopicError::TooMany => "there are too many subscriptions",
            TopicError::Unavailable => "the host has lost its connection to others",
        })
    }
}

impl std::error::Error for TopicError {}
