//! `halfopen compose`: a component for any WASI 0.3 host.

use std::process::ExitCode;

use anyhow::Context;
use halfopen_compose::{Parts, compose as composed};

use super::args::ComposeArgs;

const PARTS: Parts<'_> = Parts {
    adapter: include_bytes!("../../dist/adapter.wasm"),
    acceptor: include_bytes!("../../dist/acceptor.wasm"),
};

pub(super) fn compose(args: &ComposeArgs) -> anyhow::Result<ExitCode> {
    let component = halfopen::read(&args.component)?;
    let composed = composed(&component, &PARTS)
        .with_context(|| format!("cannot compose `{}`", args.component.display()))?;
    std::fs::write(&args.output, composed)
        .with_context(|| format!("cannot write `{}`", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}
