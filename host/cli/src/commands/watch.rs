//! `halfopen watch`: what happens to the connections of a running server.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::bail;

use crate::args::watch::WatchArgs;
use crate::watch::client::Client;

pub(crate) fn watch(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    if !args.json {
        bail!("choose how to show the events: `--json`");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(print(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the lines as they come, until the server ends or nobody reads them any more.
async fn print(args: &WatchArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.control).await?;
    let mut stdout = io::stdout().lock();
    while let Some(lines) = client.lines().await? {
        // A closed pipe, as with `| head`, is not an error.
        if stdout
            .write_all(&lines)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            break;
        }
    }
    Ok(())
}
