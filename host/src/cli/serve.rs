//! `halfopen serve`, and `halfopen` alone.

use std::process::ExitCode;
use std::time::Duration;

use super::args::ServeArgs;
use super::config::Plan;
use super::log;
use super::status::Status;
use super::supervisor::Supervisor;

/// How long what was printed may take to be written, at the end.
const FLUSH: Duration = Duration::from_secs(1);

pub(super) fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(&args)?;
    let status = Status::new(!plan.process.no_status);
    log::start(plan.process.log, status.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let mut supervisor = Supervisor::start(args, plan, status).await?;
        let code = supervisor.run().await?;
        supervisor.flush(FLUSH).await;
        Ok(code)
    });
    runtime.shutdown_background();
    done
}
