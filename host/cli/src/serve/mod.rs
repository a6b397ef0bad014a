//! `halfopen serve`, which is also what `halfopen` without a command does.

mod control;
mod listen;
mod sockets;
mod supervisor;
mod systemd;
mod upgrade;
mod watched;

use std::process::ExitCode;
use std::time::Duration;

use crate::args::ServeArgs;
use crate::config::Plan;
use crate::observe::log;
use crate::observe::status::StatusLine;
use crate::serve::supervisor::Supervisor;
use crate::serve::upgrade::Takeover;

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
    let status = StatusLine::new(!plan.process.no_status);
    let log = log::start(&plan.process.log, status.clone())?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let mut supervisor = Supervisor::start(args, plan, log, status, takeover).await?;
        let code = supervisor.run().await?;
        supervisor.flush().await;
        Ok(code)
    });
    // Do not wait for a component that is still being compiled.
    runtime.shutdown_background();
    systemd::flush(FLUSH);
    done
}
