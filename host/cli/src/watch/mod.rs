//! The events of connections, from a server to those who watch.
//!
//! A `feed` is the stream of one watcher, as lines of `json`, which `translate` makes of the
//! library's events. The control socket and the admin address send feeds.
//! `orders` is what a watcher may ask for: resets and bans.

pub(crate) mod feed;
pub(crate) mod json;
pub(crate) mod orders;
mod translate;
pub(crate) mod wall;
