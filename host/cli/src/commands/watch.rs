//! `halfopen watch`: what happens to the connections of a running server.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::args::watch::WatchArgs;
use crate::record::Decoder;
use crate::watch::client::Client;

pub(crate) fn watch(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    if !args.json {
        bail!("choose how to show the events: `--json`");
    }
    if let Some(file) = &args.file {
        replay(file)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(control) = &args.control else {
        bail!("say what to watch: a recording, or a server by `--control PATH`");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(print(control))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the lines as they come, until the server ends or nobody reads them any more.
async fn print(control: &Path) -> anyhow::Result<()> {
    let mut client = Client::connect(control).await?;
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

/// Prints the lines of a recording.
fn replay(path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot read `{}`", path.display());
    let file = File::open(path).with_context(cannot)?;
    let mut decoder = Decoder::new(BufReader::new(file)).with_context(cannot)?;
    let mut stdout = io::stdout().lock();
    while let Some(line) = decoder.next().with_context(cannot)? {
        let line = serde_json::to_string(&line)?;
        if writeln!(stdout, "{line}").is_err() {
            break;
        }
    }
    Ok(())
}
