//! The arguments of `halfopen watch`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Shows a recording again, instead of a running server
    #[arg(required_unless_present = "control")]
    pub(crate) file: Option<PathBuf>,
    /// The server's socket, as its `--control` says
    #[arg(long, value_name = "PATH", env = "HALFOPEN_CONTROL")]
    pub(crate) control: Option<PathBuf>,
    /// Prints one JSON object for each event
    #[arg(long)]
    pub(crate) json: bool,
}
