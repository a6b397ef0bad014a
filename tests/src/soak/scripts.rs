//! The random scripts, one after another.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context;
use fastrand::Rng;

use super::stage::{Phase, Stage};
use crate::patience::PATIENCE;
use crate::script::Script;

/// The time between two scripts.
const PAUSE: Duration = Duration::from_millis(15);

/// Plays random scripts on services without and with half-open connections. `events` are the
/// lines that these services print.
pub(crate) fn play(stage: &Stage, services: &[SocketAddr], events: &Receiver<String>, seed: u64) {
    let mut random = Rng::with_seed(seed);
    while stage.wait_for(&[Phase::Load]) {
        let number = random.usize(..services.len());
        let script = Script::random(&mut random, number == 1, false);
        let played = script.play(services[number], &mut random, || {
            events
                .recv_timeout(PATIENCE)
                .context("the service prints nothing")
        });
        if let Err(error) = played {
            stage.violation(format!(
                "a random script, half-open {}: {error:#}: {script:?}",
                number == 1
            ));
            // The events of this script must not be taken for those of the next one.
            while events.recv_timeout(Duration::from_secs(2)).is_ok() {}
        }
        stage.act("random-scripts");
        stage.pause(PAUSE);
    }
}
