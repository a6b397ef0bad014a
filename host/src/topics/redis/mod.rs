//! Topics through Redis: `PUBLISH` and `SUBSCRIBE` on channels of the same names, behind
//! `halfopen:` and the number of the database.
//!
//! Redis delivers at most once, keeps nothing, and cuts off a subscriber that is slow. Messages
//! have numbers, so that whoever has missed some knows how many, and so that a message that is
//! sent again, because its answer was lost, arrives once.

mod broker;
mod link;

use std::sync::Arc;

pub use broker::{Broker, BrokerError};
use link::Link;
use tokio_util::sync::CancellationToken;

use super::bus::{Bus, Remote};
use super::outbox::Outbox;

/// Connects to a Redis, and keeps connected until the bus is dropped.
///
/// # Errors
/// If there is no connection.
pub(super) async fn connect(broker: Broker) -> Result<Arc<Bus>, BrokerError> {
    let link = Link::open(&broker).await?;
    let end = CancellationToken::new();
    let outbox = Arc::new(Outbox::new());
    let bus = Arc::new(Bus::with(Remote {
        outbox: outbox.clone(),
        _end: end.clone().drop_guard(),
    }));
    let task = link::keep(broker, link, Arc::downgrade(&bus), outbox);
    tokio::spawn(async move { end.run_until_cancelled_owned(task).await });
    Ok(bus)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[tokio::test]
    async fn an_address_where_nothing_listens_is_an_error() {
        // A bound socket that does not listen: nobody else gets its port.
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        closed.bind(&address.into()).unwrap();
        let address = closed.local_addr().unwrap().as_socket().unwrap();
        let broker = Broker::new(&format!("redis://{address}")).unwrap();
        let error = connect(broker).await.unwrap_err().to_string();
        assert!(error.contains("Connection refused"), "{error}");
    }
}
