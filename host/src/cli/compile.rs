//! `halfopen compile`: a component's native code, ahead of time.

use std::process::ExitCode;

use anyhow::Context;
use halfopen::{EngineOptions, precompile};

use super::args::CompileArgs;

pub(super) fn compile(args: &CompileArgs) -> anyhow::Result<ExitCode> {
    let engine = EngineOptions::default().build()?;
    let native = precompile(&engine, &args.component)
        .with_context(|| format!("cannot compile `{}`", args.component.display()))?;
    std::fs::write(&args.output, native)
        .with_context(|| format!("cannot write `{}`", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}
