//! The connections to Redis: one publishes, the other subscribes.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use halfopen_model::Backoff;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Pipeline, RedisError};
use tokio::time::{Instant, sleep, timeout};

use super::broker::{Broker, BrokerError, PATIENCE};
use crate::topics::bus::Bus;
use crate::topics::frame::Frame;
use crate::topics::outbox::{Outbox, Outgoing};

/// How many messages are published, and how many topics subscribed to, in one command.
const TOGETHER: usize = 256;

/// A connection that was lost within this time counts as one more failure to connect.
const STEADY: Duration = Duration::from_secs(10);

/// A pair of connections.
pub(super) struct Link {
    publishing: MultiplexedConnection,
    subscribing: PubSub,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// If Redis does not answer in time, or refuses.
    pub(super) async fn open(broker: &Broker) -> Result<Self, BrokerError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = &broker.client;
        let connecting = async {
            let publishing = client.get_multiplexed_async_connection_with_config(&config);
            let mut publishing = publishing.await?;
            // A Redis that wants a password says so only now.
            redis::cmd("PING")
                .query_async::<()>(&mut publishing)
                .await?;
            let subscribing = client.get_async_pubsub().await?;
            Ok(Link {
                publishing,
                subscribing,
            })
        };
        match timeout(PATIENCE, connecting).await {
            Ok(connected) => connected.map_err(|error: RedisError| broker.failed(error)),
            Err(_) => Err(broker.failed(format_args!("no answer in {} s", PATIENCE.as_secs()))),
        }
    }
}

/// Publishes and subscribes until the bus is gone, and connects again whenever the connections
/// are lost.
pub(super) async fn keep(broker: Broker, link: Link, bus: Weak<Bus>, outbox: Arc<Outbox>) {
    let prefix = broker.prefix();
    let mut next = Some(link);
    let mut backoff = Backoff::default();
    loop {
        if let Some(link) = next.take() {
            let begin = Instant::now();
            let lost = serve(link, &prefix, &bus, &outbox).await;
            if begin.elapsed() > STEADY {
                backoff.reset();
            }
            let Some(bus) = bus.upgrade() else { return };
            bus.lost();
            // Redis may take connections, and refuse what they are for, over and over.
            if backoff.failures() == 0 {
                tracing::warn!("topics: the connection to Redis at {broker} is lost: {lost}");
            }
        }
        sleep(backoff.next_delay()).await;
        match Link::open(&broker).await {
            Ok(link) => {
                // The same level as for the loss, which it answers.
                tracing::warn!("topics: connected to Redis at {broker} again");
                next = Some(link);
            }
            Err(error) => tracing::debug!("topics: {error}"),
        }
    }
}

/// Publishes and subscribes until the connections are lost. Returns why they are.
async fn serve(link: Link, prefix: &str, bus: &Weak<Bus>, outbox: &Outbox) -> RedisError {
    let (sink, stream) = link.subscribing.split();
    tokio::select! {
        lost = publish(link.publishing, prefix, outbox) => lost,
        lost = subscribe(sink, prefix, bus, outbox) => lost,
        lost = receive(stream, prefix, bus, outbox) => lost,
    }
}

/// Publishes what waits.
async fn publish(
    mut connection: MultiplexedConnection,
    prefix: &str,
    outbox: &Outbox,
) -> RedisError {
    loop {
        let messages = outbox.first(TOGETHER).await;
        let mut commands = Pipeline::with_capacity(messages.len());
        for Outgoing { topic, frame } in &messages {
            let channel = format!("{prefix}{topic}");
            commands
                .cmd("PUBLISH")
                .arg(channel)
                .arg(&frame[..])
                .ignore();
        }
        match commands.query_async::<()>(&mut connection).await {
            Ok(()) => {}
            // It would refuse them for ever.
            Err(error) if error.code() == Some("NOPERM") => {
                let count = messages.len();
                tracing::warn!(
                    "topics: Redis refuses to publish, and {count} messages are lost: {error}"
                );
            }
            Err(error) => return error,
        }
        outbox.sent(messages.len());
    }
}

/// Subscribes to the topics that somebody here has subscribed to, whenever they change.
async fn subscribe(
    mut sink: PubSubSink,
    prefix: &str,
    bus: &Weak<Bus>,
    outbox: &Outbox,
) -> RedisError {
    let mut now: HashSet<Arc<str>> = HashSet::new();
    loop {
        let names = bus.upgrade().map(|bus| bus.names()).unwrap_or_default();
        let wanted: HashSet<Arc<str>> = names.into_iter().collect();
        let more: Vec<_> = wanted.difference(&now).cloned().collect();
        let less: Vec<_> = now.difference(&wanted).cloned().collect();
        for names in less.chunks(TOGETHER) {
            if let Err(error) = answered(sink.unsubscribe(channels(prefix, names))).await {
                return error;
            }
        }
        for names in more.chunks(TOGETHER) {
            if let Err(error) = answered(sink.subscribe(channels(prefix, names))).await {
                return error;
            }
        }
        now = wanted;
        if let Some(bus) = bus.upgrade() {
            // Also those that were given up and wanted again since.
            bus.in_force(&now.iter().cloned().collect::<Vec<_>>());
        }
        outbox.changed().await;
    }
}

fn channels(prefix: &str, names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}

/// Waits for the answer to a command.
async fn answered(command: impl Future<Output = Result<(), RedisError>>) -> Result<(), RedisError> {
    match timeout(PATIENCE, command).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Delivers what other processes publish.
async fn receive(
    mut stream: PubSubStream,
    prefix: &str,
    bus: &Weak<Bus>,
    outbox: &Outbox,
) -> RedisError {
    while let Some(message) = stream.next().await {
        let Some(topic) = message.get_channel_name().strip_prefix(prefix) else {
            continue;
        };
        match (Frame::decode(message.get_payload_bytes()), bus.upgrade()) {
            (Some(frame), Some(bus)) if !outbox.is_own(&frame) => bus.heard(topic, &frame),
            (None, _) => tracing::debug!("topics: not a message of halfopen, on `{topic}`"),
            _ => {}
        }
    }
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}
