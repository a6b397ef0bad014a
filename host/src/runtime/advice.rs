//! What the log says about problems of a component, and who else hears of denials.

use std::sync::Arc;

use crate::noise::Noise;
use crate::state::{Bucket, StateCtx};
use crate::tcp::Denied;

use super::Problem;
use super::denials::Denials;

/// Adds to a problem what to do about it, and reports denials.
#[derive(Clone)]
pub(super) struct Advice {
    advise: Option<Arc<Advise>>,
    denials: Arc<Denials>,
    service: Option<String>,
    /// Hears of each denial, also of those that are not logged.
    on_denied: Option<Arc<OnDenied>>,
}

type Advise = dyn Fn(&Problem) -> String + Send + Sync;
pub(super) type OnDenied = dyn Fn(&Denied) + Send + Sync;

impl Default for Advice {
    fn default() -> Self {
        Advice::new(None, None, None)
    }
}

impl Advice {
    pub(super) fn new(
        advise: Option<Arc<Advise>>,
        service: Option<String>,
        on_denied: Option<Arc<OnDenied>>,
    ) -> Self {
        Advice {
            advise,
            denials: Arc::new(Denials::of(service.clone())),
            service,
            on_denied,
        }
    }

    /// The same advice for one component. The limit on lines is the component's.
    pub(super) fn of(self, service: Option<String>, on_denied: Option<Arc<OnDenied>>) -> Self {
        Advice::new(self.advise, service, on_denied)
    }

    /// The name of the service in the log.
    pub(super) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// Returns the text of a problem for the log.
    pub(super) fn explain(&self, problem: &Problem) -> String {
        let advice = self.advise.as_ref().map(|advice| advice(problem));
        problem.with_advice(&advice.unwrap_or_default())
    }

    /// Counts and logs that the component was denied something.
    pub(super) fn denied(&self, denied: &Denied) {
        if let Some(report) = &self.on_denied {
            report(denied);
        }
        self.denials.log(&denied.to_string(), || {
            let problem = Problem::Denied(denied.clone());
            let service = self.service();
            tracing::warn!(service, "{}", self.explain(&problem));
        });
    }

    /// What each store has of a bucket, or of none.
    pub(super) fn state(&self, bucket: Option<Bucket>) -> StateCtx {
        let Some(bucket) = bucket else {
            let report = self.clone();
            let denied = Denied::other("state", "state (`wasi:keyvalue`)");
            return StateCtx::denied().on_denied(move || report.denied(&denied));
        };
        let service = self.service.clone();
        let noise = Noise::of(service.clone(), "failures of the state");
        StateCtx::granted(bucket).on_failed(move |why| {
            let service = service.as_deref();
            noise.log(|| tracing::warn!(service, "the state has failed: {why}"));
        })
    }
}
