//! `halfopen component`: makes a component of a core module.

use std::process::ExitCode;

use anyhow::Context;

use crate::args::making::ComponentArgs;
use crate::files;

pub(crate) fn component(args: &ComponentArgs) -> anyhow::Result<ExitCode> {
    let path = args.module.display();
    let module = std::fs::read(&args.module).with_context(|| format!("cannot read `{path}`"))?;
    let component = halfopen_compose::componentize(&module, args.declared())
        .with_context(|| format!("cannot use `{path}`"))?;
    files::write(&args.output, &component)?;
    Ok(ExitCode::SUCCESS)
}
