//! The files of `host/src/events`, and what they need of the others.

#[path = "../../../../host/src/events/event.rs"]
mod event;
#[path = "../../../../host/src/events/hub.rs"]
mod hub;
#[path = "../../../../host/src/events/log.rs"]
mod log;
pub mod play;
#[path = "../../../../host/src/events/scope.rs"]
mod scope;
mod sizes;
#[path = "../../../../host/src/events/subscription.rs"]
mod subscription;
mod sync;
#[path = "../../../../host/src/events/track.rs"]
mod track;

pub(crate) use event::{Blocker, Connection, Direction, Failed, Kind};
pub(crate) use track::Track;
