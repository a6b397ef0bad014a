//! Recordings: the events of connections as a file that Wireshark reads, and the way back.
//!
//! A recording is a capture in the format pcapng. Its packets are made of events, and have the
//! addresses, lengths, and flags that the connection had; sequence numbers, windows and
//! acknowledgments are invented, so that they fit. What TCP cannot say (the service, the cause of
//! the end) is in comments.

mod clock;
mod decode;
mod encode;
mod flow;
mod foreign;
mod output;
mod pcapng;
mod recorder;
mod segment;
mod words;

pub(crate) use decode::Decoder;
pub(crate) use encode::{Encoder, Excluded};
pub(crate) use output::Output;
pub(crate) use recorder::{Next, Recorder};

#[cfg(test)]
mod tests;
