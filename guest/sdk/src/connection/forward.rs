//! Forwarding: the host moves the bytes from one connection to another.

use super::Connection;
use crate::{Error, ErrorCode};

impl Connection {
    /// Sends back all data that the peer sends, and FIN after the peer's FIN.
    ///
    /// The host moves the bytes; they do not pass through the component.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn echo(self) -> Result<(), Error> {
        forward(&self, &self).await
    }
}

/// Connects two connections to each other: each sends what the other receives, and FIN
/// after the other's FIN.
///
/// The host moves the bytes; they do not pass through the component.
///
/// # Errors
/// The first error of either direction. Both connections are then reset, because the
/// forwarded data is incomplete.
pub async fn splice(a: Connection, b: Connection) -> Result<(), Error> {
    let both = futures::try_join!(forward(&a, &b), forward(&b, &a));
    if let Err(error) = both {
        a.reset();
        b.reset();
        return Err(error);
    }
    Ok(())
}

async fn forward(from: &Connection, to: &Connection) -> Result<(), Error> {
    let (bytes, received) = from.core.with_handle(|handle| Ok(handle.read()))?;
    let sent = to.core.with_handle(|handle| Ok(handle.write(bytes)))?;
    let both = futures::join!(received.into_future(), sent.into_future());
    match both {
        // When one end fails, the host aborts the other; the cause says more.
        (Err(ErrorCode::ConnectionAborted), Err(cause)) => Err(cause.into()),
        (received, sent) => Ok(received.and(sent)?),
    }
}
