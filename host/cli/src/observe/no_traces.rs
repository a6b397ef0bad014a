//! Replaces `traces` in builds without the feature `opentelemetry`.

use halfopen::{Observer, Report};

/// Has no value: there are no traces.
#[derive(Clone, Debug)]
pub(crate) enum Traces {}

impl Traces {
    pub(crate) fn from_env() -> anyhow::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn observer(&self, _: &str) -> impl Observer + use<> {
        |_: &Report| {}
    }

    pub(crate) fn finish(&self) {}
}
