//! Cases: tests that need more than one client's script.

use anyhow::Result;

use crate::runner::{Binaries, Runner};

/// Runs a case on a runner.
pub type Run = fn(Runner, &Binaries) -> Result<()>;

/// A test on some of the runners that needs more than one client's script.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The name, which is also the name of its trials.
    pub name: &'static str,
    /// The rules of `wit/SEMANTICS.md` that the case proves.
    pub rules: &'static [&'static str],
    /// The runners that take part.
    pub runners: fn(Runner) -> bool,
    /// The reason why the other runners do not take part.
    pub elsewhere: &'static str,
    /// Runs the case.
    pub run: Run,
}
