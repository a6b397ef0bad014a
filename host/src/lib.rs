//! The halfopen host.
