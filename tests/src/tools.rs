//! The tools of others that tests use.

use std::env;
use std::io::{Write, stderr};

use anyhow::{Result, ensure};

/// Whether what needs this tool has to be left out, for it is not there.
///
/// It says so to a terminal past the test harness, which keeps what passing tests print to
/// itself.
///
/// # Errors
///
/// With `CI` set nothing may be left out.
pub fn is_missing(tool: &str, what: &str) -> Result<bool> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(tool).exists()) {
        return Ok(false);
    }
    ensure!(env::var_os("CI").is_none(), "`{tool}` is not installed");
    writeln!(stderr(), "!!! SKIPPED: {what}: `{tool}` is not installed")?;
    Ok(true)
}
