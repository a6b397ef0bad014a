//! `halfopen dev`: builds a service and serves it, again after each change of its sources.
//!
//! The build tool and `halfopen serve` are processes of their own, so that what they print is what
//! they print elsewhere. After a build that succeeds, the server reloads: connections that are
//! open go on with the version before.

mod project;
mod server;
mod sources;
mod tool;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::args::making::DevArgs;
use crate::signals::Signals;
use project::{Build, Outcome, Project};
use server::Server;
use sources::Sources;
use tool::Tool;

/// The interval between looks at the sources and at the processes.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn dev(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let project = Project::find(&args.folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(develop(args, project))
}

async fn develop(args: &DevArgs, project: Project) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sources = Sources::of(&args.folder);
    say(&format!("building with `{}`", project.command()));
    let mut building = Some(project.build()?);
    let mut checking: Option<Tool> = None;
    let mut server: Option<Server> = None;
    loop {
        tokio::select! {
            () = signals.stop() => break,
            _ = looks.tick() => {}
        }
        if let Some(server) = &mut server
            && let Some(code) = server.ended()?
        {
            say("the server has ended");
            kill(checking);
            return Ok(code);
        }
        if let Some(build) = &mut building
            && let Some(built) = build.ended()?
        {
            let took = build.begun().elapsed().as_secs_f64();
            building = None;
            match built {
                Outcome::Failed => say("not built; the next change builds again"),
                Outcome::Built(component) => {
                    say(&format!("built in {took:.1} s"));
                    match &mut server {
                        Some(server) => server.reload()?,
                        None => {
                            let variables = project.variables();
                            server = Some(Server::start(args, &component, variables.as_deref())?);
                        }
                    }
                    checking = project.check()?;
                }
            }
        }
        if sources.changed() {
            // A build in progress may have read the sources before the change.
            kill(building.take().map(Build::into_tool));
            kill(checking.take());
            building = Some(project.build()?);
        }
    }
    kill(building.map(Build::into_tool));
    kill(checking);
    match server {
        Some(server) => server.stop(&mut signals).await,
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Ends a tool that the developer no longer waits for, and what it has started.
fn kill(tool: Option<Tool>) {
    if let Some(tool) = tool {
        tool.kill();
    }
}

/// Prints a line to the developer. Standard error may be closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "halfopen dev: {text}");
}
