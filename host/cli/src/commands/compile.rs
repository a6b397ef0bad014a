//! `halfopen compile`: writes the native code of a component.

use std::process::ExitCode;

use anyhow::Context;
use halfopen::component::precompile;

use crate::args::CompileArgs;
use crate::errors::explain_about;
use crate::files;

pub(crate) fn compile(args: &CompileArgs) -> anyhow::Result<ExitCode> {
    let native = precompile(None, &args.component)
        .map_err(|error| explain_about(Some(&args.component), error))
        .with_context(|| format!("cannot compile `{}`", args.component.display()))?;
    files::write(&args.output, &native)?;
    Ok(ExitCode::SUCCESS)
}
