//! `halfopen run`: runs a program until it ends or a signal stops it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use halfopen::{Program, describe_trap};

use crate::args::RunArgs;
use crate::args::service::name_of;
use crate::args::topics::Buses;
use crate::descriptors;
use crate::errors::{advice, explain_about};
use crate::signals::Signals;

pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    if let Some(raised) = descriptors::raise() {
        // Standard error belongs to the program.
        tracing::info!("{raised}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(run_to_end(args));
    // A blocking read of standard input cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    done
}

async fn run_to_end(args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (component, arguments) = split(&args.component_and_args)?;
    let path = Path::new(component);
    args.guest.state.check()?;
    let store = args.guest.state.open().await?;
    let mut grants = args
        .guest
        .state
        .grant(args.guest.grants()?, store)
        .name(name_of(path))
        .args(arguments)
        .inherit_stdio();
    args.guest.topics.check()?;
    if let Some(topics) = args.guest.topics.open(&mut Buses::default()).await? {
        grants = grants.topics(topics);
    }
    let program = Program::builder()
        .grants(grants)
        .allow_precompiled(args.guest.allow_precompiled)
        .cache(!args.guest.no_cache)
        .grace(args.grace)
        // This process serves nothing itself.
        .owns_process_sockets(true)
        .build(path)
        .map_err(|error| explain_about(Some(path), error))
        .with_context(|| format!("cannot run `{component}`"))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = program.run(async {
        // The sender lives as long as the program, so this is never an error.
        let _ = stopped.await;
    });
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = signals.stop() => {
            // The program may have ended meanwhile.
            let _ = stop.send(());
            tokio::select! {
                ended = &mut running => ended,
                () = signals.stop() => return Ok(ExitCode::FAILURE),
            }
        }
    };
    let status = ended
        .map_err(|error| anyhow!("`{component}` trapped: {}", describe_trap(&error, advice)))?;
    Ok(ExitCode::from(status))
}

/// Splits the command line into the component and its arguments. `run COMPONENT -- ARGS`
/// and `run COMPONENT ARGS` are the same.
fn split(component_and_args: &[String]) -> anyhow::Result<(&str, &[String])> {
    let (component, rest) = component_and_args
        .split_first()
        .context("no component named")?;
    ensure!(
        !component.starts_with('-'),
        "`{component}` is not a flag of `halfopen run`; flags of the program follow the \
         component, and `halfopen run --help` lists those of `run`"
    );
    let arguments = match rest.split_first() {
        Some((first, after)) if first == "--" => after,
        _ => rest,
    };
    Ok((component, arguments))
}
