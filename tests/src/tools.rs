//! Tools that tests use and that may not be installed.

use std::env;
use std::io::{Write, stderr};

use anyhow::{Result, ensure};

/// Whether `what` has to be skipped because `tool` is not on the PATH. A skip is printed.
///
/// The line goes to standard error directly, past the test harness, which does not show what
/// passing tests print.
///
/// # Errors
///
/// If the tool is missing and `CI` is set: there, nothing may be skipped.
pub fn is_missing(tool: &str, what: &str) -> Result<bool> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(tool).exists()) {
        return Ok(false);
    }
    skipped(what, &format!("`{tool}`"))?;
    Ok(true)
}

/// Prints that `what` is skipped because `missing` is not installed.
///
/// # Errors
///
/// If `CI` is set: there, nothing may be skipped.
pub fn skipped(what: &str, missing: &str) -> Result<()> {
    ensure!(env::var_os("CI").is_none(), "{missing} is not installed");
    writeln!(stderr(), "!!! SKIPPED: {what}: {missing} is not installed")?;
    Ok(())
}
