//! Upgrade in place: a process starts its successor, hands over its listening sockets, and
//! drains.
//!
//! The two talk over a [`Channel`], which is the successor's standard input:
//!
//! ```text
//! process                                   successor
//!   Begin, Listener…, Admin, Generation…, End →        loads its services
//!                                           ← Prepared  or Failed
//!   Take →                                              accepts
//!                                           ← Ready
//!   stops accepting, and drains
//! ```
//!
//! Until `Take` the successor has accepted nothing, so that ending it harms nobody. From then on
//! both accept from the same sockets, until the first process stops.

mod channel;
mod children;
mod generations;
mod successor;
mod takeover;

pub(crate) use children::Children;
pub(crate) use generations::Generations;
pub(crate) use successor::{Offer, Step, Successor};
pub(crate) use takeover::{Handed, Takeover};

/// The variable that tells a successor that its standard input is a channel.
pub(crate) const VARIABLE: &str = "HALFOPEN_UPGRADE";
