//! What the status line says: how many connections there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::observe::lines::Lines;
use crate::observe::metrics::Metrics;

/// The interval between updates.
const PERIOD: Duration = Duration::from_millis(500);

/// Keeps the status line up to date, in a task.
pub(crate) fn show(stderr: Lines, metrics: Arc<Metrics>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut shown = String::new();
        loop {
            let (open, served, refused) = metrics.totals();
            let mut text = format!("{open} open, {served} served");
            if refused > 0 {
                text += &format!(", {refused} refused");
            }
            if text != shown {
                stderr.set_status(text.clone());
                shown = text;
            }
            tokio::time::sleep(PERIOD).await;
        }
    })
}
