use std::process::ExitCode;
pub(super) fn compose(_: &super::args::ComposeArgs) -> anyhow::Result<ExitCode> { anyhow::bail!("later") }
