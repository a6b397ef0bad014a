//! Subscriptions in await style.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{self, LocalBoxStream, Stream, StreamExt};

use super::{Delivery, Message, TopicError};
use crate::bindings::imports::halfopen::tcp::topic_streams;

/// What a subscription delivers, as a stream that never ends. Dropping it ends the subscription.
pub struct Deliveries(LocalBoxStream<'static, Delivery>);

/// Subscribes to a topic, in await style. Two subscriptions to one topic both get its messages.
///
/// ```no_run
/// use halfopen_guest::futures::AsyncWriteExt;
/// use halfopen_guest::topics::{self, Delivery};
/// use halfopen_guest::{Connection, service};
///
/// service!(news);
///
/// /// Sends the client all news, from now on.
/// async fn news(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
///     let (_, mut send) = connection.split();
///     let mut news = topics::stream("news")?;
///     loop {
///         match news.next().await {
///             Delivery::Message(message) => send.write_all(&message.payload).await?,
///             Delivery::Missed(count) => send.write_all(format!("({count} more)\n").as_bytes()).await?,
///             Delivery::Subscribed => {}
///         }
///     }
/// }
/// ```
///
/// # Errors
/// [`TopicError::AccessDenied`], [`TopicError::InvalidTopic`] and [`TopicError::TooMany`].
pub fn stream(topic: &str) -> Result<Deliveries, TopicError> {
    let deliveries = topic_streams::subscribe(topic)?;
    let deliveries = stream::unfold(deliveries, async |mut deliveries| {
        let next = deliveries.next().await?;
        Some((Delivery::from(next), deliveries))
    });
    Ok(Deliveries(deliveries.boxed_local()))
}

impl Deliveries {
    /// Waits for the next delivery. May be dropped and called again.
    pub async fn next(&mut self) -> Delivery {
        match self.0.next().await {
            Some(delivery) => delivery,
            // The host never ends it.
            None => std::future::pending().await,
        }
    }
}

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl From<topic_streams::Delivery> for Delivery {
    fn from(delivery: topic_streams::Delivery) -> Self {
        match delivery {
            topic_streams::Delivery::Subscribed => Delivery::Subscribed,
            topic_streams::Delivery::Missed(count) => Delivery::Missed(count),
            topic_streams::Delivery::Message(message) => Delivery::Message(Message {
                payload: message.payload,
                own: message.is_own,
            }),
        }
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deliveries(..)")
    }
}
