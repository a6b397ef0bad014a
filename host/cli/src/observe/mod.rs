//! What an operator sees: the log, metrics, the admin address, the status line, traces.

pub(crate) mod admin;
pub(crate) mod counts;
pub(crate) mod escape;
pub(crate) mod guest;
pub(crate) mod lines;
pub(crate) mod log;
mod log_file;
pub(crate) mod metrics;
pub(crate) mod page;
pub(crate) mod status;
#[cfg(feature = "opentelemetry")]
pub(crate) mod traces;
#[cfg(not(feature = "opentelemetry"))]
#[path = "no_traces.rs"]
pub(crate) mod traces;
pub(crate) mod window;
