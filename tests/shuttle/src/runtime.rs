//! What tokio has in its module `runtime`.

/// A runtime, whose tasks are threads of the scheduler.
#[derive(Clone, Debug)]
pub struct Handle(());

impl Handle {
    /// Returns the only one.
    #[must_use]
    pub fn current() -> Self {
        Handle(())
    }

    /// Runs a task, which ends by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }
}
