//! Calls of `accept` at the same time.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use halfopen_guest::ErrorCode;
use halfopen_guest::bindings::imports::halfopen::tcp::connections::Connection;
use halfopen_guest::bindings::imports::halfopen::tcp::listeners::Listener;
use halfopen_guest::futures::future::join;
use halfopen_guest::log;

use crate::{describe, peer};

/// Accepts twice, and returns the peers.
pub(crate) async fn twice(listener: &Listener) -> String {
    let (first, second) = join(listener.accept(), listener.accept()).await;
    peers([first, second])
}

/// Accepts three times, and gives up the second call while all of them wait. Returns the
/// peers of the others.
pub(crate) async fn cancelled(listener: &Listener) -> Result<String, String> {
    let mut first = pin!(listener.accept());
    let mut second = Box::pin(listener.accept());
    let mut third = pin!(listener.accept());
    poll_fn(|context| {
        let all_wait = first.as_mut().poll(context).is_pending()
            && second.as_mut().poll(context).is_pending()
            && third.as_mut().poll(context).is_pending();
        Poll::Ready(all_wait.then_some(()))
    })
    .await
    .ok_or("a call did not wait")?;
    log!("three calls wait");
    drop(second);
    let (first, third) = join(first, third).await;
    Ok(peers([first, third]))
}

fn peers<const COUNT: usize>(accepted: [Result<Connection, ErrorCode>; COUNT]) -> String {
    let peers = accepted.map(|accepted| match accepted {
        Ok(connection) => peer(&connection),
        Err(error) => describe(error),
    });
    peers.join(" ")
}
