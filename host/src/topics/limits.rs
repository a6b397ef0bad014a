//! How long names and messages may be, how much may wait, and what is wrong beyond that.

/// The most bytes in the name of a topic.
pub const TOPIC: usize = 128;
/// The most bytes in a message.
pub const PAYLOAD: usize = 64 * 1024;
/// The most topics to which a subscriber may be subscribed at a time.
pub const SUBSCRIPTIONS: usize = 1024;
/// The most messages that wait for a subscriber.
pub const WAITING: usize = 1024;
/// The most bytes of messages that wait for a subscriber, the names of their topics included.
pub const WAITING_BYTES: usize = 1 << 20;

/// Why a topic cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is empty, longer than [`TOPIC`], or has a control character.
    #[error("the name of a topic has 1 to {TOPIC} bytes and no control characters")]
    InvalidTopic,
    /// The payload is longer than [`PAYLOAD`].
    #[error("a message has at most {PAYLOAD} bytes")]
    TooLarge,
    /// The member has [`SUBSCRIPTIONS`].
    #[error("there are {SUBSCRIPTIONS} subscriptions already")]
    TooMany,
    /// The connection to Redis is lost, and as many messages wait for it as may.
    #[error("the connection to Redis is lost, and too many messages wait for it")]
    Unavailable,
}

/// Checks the name of a topic.
pub(super) fn check_name(topic: &str) -> Result<(), TopicError> {
    let fits = (1..=TOPIC).contains(&topic.len());
    match fits && !topic.contains(char::is_control) {
        true => Ok(()),
        false => Err(TopicError::InvalidTopic),
    }
}
