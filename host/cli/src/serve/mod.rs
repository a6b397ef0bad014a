//! `halfopen serve`, which is also what `halfopen` without a command does.

mod control;
mod listen;
mod recording;
mod sockets;
mod supervisor;
mod systemd;
mod upgrade;
mod watched;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use crate::args::ServeArgs;
use crate::config::Plan;
use crate::observe::log;
use crate::observe::status::StatusLine;
use crate::serve::supervisor::Supervisor;
use crate::serve::upgrade::Takeover;
use crate::viewer::window::Window;

/// How long to wait at the end for what systemd has not read yet.
const FLUSH: Duration = Duration::from_secs(1);

pub(crate) fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut takeover = Takeover::receive()?;
    let done = serve_from(args, &mut takeover);
    if let (Err(error), Some(takeover)) = (&done, &takeover) {
        takeover.fail(&format!("{error:#}"));
    }
    done
}

fn serve_from(args: ServeArgs, takeover: &mut Option<Takeover>) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(&args)?;
    let mut window = match plan.process.watch_tcp {
        true if takeover.is_some() => {
            bail!("a server with --watch-tcp is not upgraded in place: its window has the terminal")
        }
        true => Some(Window::new()?),
        false => None,
    };
    let status = StatusLine::new(!plan.process.no_status && window.is_none());
    let log = log::start(&plan.process.log, status.clone())?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let mut supervisor = Supervisor::start(args, plan, log, status, takeover).await?;
        if let Some(window) = &mut window {
            window.open(supervisor.watching())?;
        }
        let code = supervisor.run().await?;
        supervisor.flush().await;
        Ok(code)
    });
    // The terminal is given back before anything else is printed.
    drop(window);
    // Do not wait for a component that is still being compiled.
    runtime.shutdown_background();
    systemd::flush(FLUSH);
    done
}
