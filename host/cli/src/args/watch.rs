//! The flags of `halfopen watch`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use crate::args::values::{positive, reached_at, speed};

#[derive(Clone, Debug, Args)]
pub(crate) struct WatchArgs {
    /// Replays a file: a recording (pcapng), or saved lines of `--json`; `-` is standard input
    pub(crate) file: Option<PathBuf>,
    /// Attaches to the server with this control socket, as its `--control` says
    #[arg(long, value_name = "PATH", env = "HALFOPEN_CONTROL")]
    pub(crate) control: Option<PathBuf>,
    /// Attaches to the server with this admin address, as its `--admin` says
    ///
    /// ADDRESS:PORT; a port alone is on 127.0.0.1. The URL of its page, http://ADDRESS:PORT/watch,
    /// will do as well. Goes before --control.
    #[arg(long, value_name = "ADDR", value_parser = reached_at, conflicts_with = "file")]
    pub(crate) admin: Option<String>,
    /// Shows only what matches, such as `peer:10.0.0.0/8 state:close-wait`
    ///
    /// Terms are separated by spaces, and all must match; a `-` before a term turns it round.
    /// The terms are peer:ADDRESS or peer:NETWORK, service:NAME, state:STATE, outcome:OUTCOME,
    /// id:NUMBER, and words, which may be anywhere in a connection's line. A STATE is one of TCP, such
    /// as established or fin-wait-2, or open, half-open, blocked or closed.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) filter: String,
    /// Prints a line for each event, for people and pipes
    #[arg(long)]
    pub(crate) plain: bool,
    /// Prints a JSON object for each event, for programs and to be saved
    #[arg(long, conflicts_with = "plain")]
    pub(crate) json: bool,
    /// Replays a file in the time that it took, this many times as fast [default: at once]
    #[arg(long, value_name = "TIMES", value_parser = speed, requires = "file")]
    pub(crate) speed: Option<f64>,
    /// Records for Wireshark, and shows nothing
    ///
    /// `-` is standard output. The file is as that of `halfopen serve --record`, and can be written
    /// by whoever may watch. It is whole when this ends: with the server, at Ctrl-C, or once nobody
    /// reads standard output. An earlier file of that name becomes RECORDING.1.
    #[arg(
        long,
        value_name = "RECORDING",
        conflicts_with_all = ["plain", "json", "filter", "speed"]
    )]
    pub(crate) record: Option<PathBuf>,
    /// Records the bytes of connections as well, if the server shows them (`--watch-payload`)
    #[arg(long, requires = "record", hide_short_help = true)]
    pub(crate) record_payload: bool,
    /// Limits the recording, in MiB [default: 64]
    ///
    /// Once the file has half of that, it gets the name with `.1`, in place of an earlier one.
    #[arg(
        long,
        value_name = "MIB",
        value_parser = positive::<NonZeroU32>,
        requires = "record",
        hide_short_help = true
    )]
    pub(crate) record_size: Option<NonZeroU32>,
}
