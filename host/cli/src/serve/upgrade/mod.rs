//! Upgrade in place: a process starts its successor, hands over its listening sockets, and
//! drains.
//!
//! The two talk over a [`Channel`], which is the successor's standard input:
//!
//! ```text
//! process                                   successor
//!   Begin, Listener…, Admin, Generation…, End →        loads its services
//!                                           ← Prepared  or Failed
//!   Tickets, Spent…, Peers…, Take →                     accepts
//!                                           ← Ready
//!   stops accepting, and drains:
//!   Peers…, Connections… →                              counts them
//!                                           ← Takes
//!   Passed… →                                           goes on with them
//! ```
//!
//! Until `Take` the successor has accepted nothing, so that ending it harms nobody. From then on
//! both accept from the same sockets, until the first process stops.
//!
//! The channel stays open while the first process drains. With the next upgrade its other end
//! goes on to the next successor ([`Message::Line`](message::Message::Line)), which asks for
//! everything once more.

mod channel;
mod children;
mod generations;
mod known;
mod line;
mod message;
mod passing;
mod report;
mod successor;
mod takeover;

pub(crate) use children::Children;
pub(crate) use generations::Generations;
pub(crate) use passing::{Arrivals, Arrived};
pub(crate) use report::Report;
pub(crate) use successor::{Accepting, Last, Offer, Step, Successor};
pub(crate) use takeover::{Handed, Takeover};

/// The variable that tells a successor that its standard input is a channel.
pub(crate) const VARIABLE: &str = "HALFOPEN_UPGRADE";
