//! `halfopen compose`: writes a plain WASI 0.3 command.

use std::process::ExitCode;

use anyhow::Context;
use halfopen::component::read;
use halfopen_compose::Parts;

use crate::args::ComposeArgs;
use crate::errors::explain_about;
use crate::files;

const PARTS: Parts<'_> = Parts {
    adapter: include_bytes!("../../dist/adapter.wasm"),
    acceptor: include_bytes!("../../dist/acceptor.wasm"),
    state: include_bytes!("../../dist/state.wasm"),
    driver: include_bytes!("../../dist/driver.wasm"),
    resolver: include_bytes!("../../dist/resolver.wasm"),
};

pub(crate) fn compose(args: &ComposeArgs) -> anyhow::Result<ExitCode> {
    let component = read(&args.component)
        .map_err(|error| explain_about(Some(&args.component), error))
        .with_context(|| format!("cannot compose `{}`", args.component.display()))?;
    let composed = halfopen_compose::compose(&component, &PARTS)
        .with_context(|| format!("cannot compose `{}`", args.component.display()))?;
    files::write(&args.output, &composed)?;
    Ok(ExitCode::SUCCESS)
}
