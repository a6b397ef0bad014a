//! What tokio has in its module `task`.

pub mod coop {
    //! Cooperative scheduling, of which there is none here.

    /// Whether a task may go on.
    #[must_use]
    pub fn has_budget_remaining() -> bool {
        true
    }
}
