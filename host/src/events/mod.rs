//! What happens to the connections of servers, as a stream of events.
//!
//! [`Events`] collects the events of one or more servers, and a [`Subscription`] returns them in
//! order: accepted, data in either direction, FIN and RST, who waits for whom, and at the end
//! [`Closed`] with the side that ended the connection first, and why.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::path::Path;
//!
//! use halfopen::Server;
//! use halfopen::events::{Events, Item, Kind};
//!
//! let events = Events::new();
//! let mut subscription = events.subscribe();
//! tokio::spawn(async move {
//!     loop {
//!         match subscription.next().await {
//!             Item::Event(event) => match event.kind {
//!                 Kind::Closed(closed) => println!("{:?}: {}", event.connection, closed.cause),
//!                 kind => println!("{:?}: {kind:?}", event.connection),
//!             },
//!             Item::Lost(events) => println!("{events} events are lost"),
//!             _ => {}
//!         }
//!     }
//! });
//! let listener = halfopen::tcp::bind("127.0.0.1:1234".parse()?, None)?;
//! let server = Server::builder()
//!     .events(&events)
//!     .build(Path::new("guest/dist/echo.wasm"))?;
//! server.run([listener], std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Cost
//! While nobody has subscribed, a server only looks at a flag where something happens, and
//! connections keep nothing. With a subscription, events go into rings of the threads that serve,
//! whose size is limited; a reader that is too slow loses events, and [is told](Item::Lost) how
//! many. Nothing that serves ever waits for a reader.
//!
//! # Layout
//! A connection reports by its `track` to the `scope` of its service, and that to the `hub`, which
//! keeps events in its `log`, where a `subscription` finds them. This module depends on no other.

mod event;
mod hub;
mod log;
mod scope;
mod sizes;
mod subscription;
mod sync;
mod track;

pub(crate) use event::cut;
pub use event::{
    Accepted, Blocked, Blocker, Change, Closed, Connection, Data, Direction, Event, Failed,
    Instance, Kind, Proxied, Secured,
};
pub use hub::Events;
pub(crate) use hub::{Recall, Source};
pub(crate) use scope::{Life, Scope};
pub use subscription::{Item, Subscription};
pub(crate) use track::Track;
