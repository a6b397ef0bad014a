//! `halfopen run`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use halfopen::{Program, describe_trap};

use super::args::RunArgs;
use super::service::name_of;
use super::signals::Signals;

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(run_to_its_end(args));
    // Reading standard input cannot be interrupted, so it is not waited for.
    runtime.shutdown_background();
    done
}

async fn run_to_its_end(args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (component, mut rest) = args
        .component_and_args
        .split_first()
        .context("no component named")?;
    // `run COMPONENT -- ARGS` and `run COMPONENT ARGS` are the same.
    if let Some(("--", after)) = rest
        .split_first()
        .map(|(first, after)| (first.as_str(), after))
    {
        rest = after;
    }
    let path = Path::new(component);
    let mut builder = Program::builder()
        .name(name_of(path))
        .args(rest)
        .policy(args.network.policy())
        .max_memory((args.guest.max_memory as usize) << 20)
        .allow_precompiled(args.guest.allow_precompiled)
        .cache(!args.guest.no_cache)
        .grace(args.grace)
        .inherit_stdio();
    for (name, value) in args.guest.env {
        builder = builder.env(name, value);
    }
    for (host, guest) in args.dirs.pairs() {
        builder = builder.dir(host, guest);
    }
    let program = builder
        .build(path)
        .with_context(|| format!("cannot run `{component}`"))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = program.run(async {
        // The sender is not dropped while the program runs.
        let _ = stopped.await;
    });
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = signals.stop() => {
            let _ = stop.send(());
            tokio::select! {
                ended = &mut running => ended,
                () = signals.stop() => return Ok(ExitCode::FAILURE),
            }
        }
    };
    let status =
        ended.map_err(|error| anyhow!("`{component}` trapped: {}", describe_trap(&error)))?;
    Ok(ExitCode::from(status))
}
