//! The time between the request to stop and the stop, in which load balancers notice.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use super::{EXTEND, Supervisor, ticks};
use crate::control::now;
use crate::serve::control::Followed;
use crate::serve::systemd;
use crate::signals::Request;

impl Supervisor {
    /// Reports that the server is about to stop, and goes on accepting for `delay`. A second
    /// request to stop ends the delay, as does the failure of every listener.
    pub(super) async fn drain(&mut self, delay: Duration) {
        systemd::stopping();
        self.since = now();
        self.admin.set_ready(false);
        for current in &self.current {
            current.server.fail_health_checks();
        }
        if delay.is_zero() {
            return;
        }
        self.say(&format!(
            "draining; connections are accepted for another {} s; a second signal ends that",
            delay.as_secs_f64()
        ));
        let mut over = pin!(sleep(delay));
        let mut extending = ticks(EXTEND);
        loop {
            tokio::select! {
                () = &mut over => return,
                request = self.signals.next() => match request {
                    Request::Stop => return,
                    Request::Reload => self.say("not reloaded: the server is about to stop"),
                    Request::Upgrade => self.say("not upgraded: the server is about to stop"),
                    Request::Reopen => self.log.reopen(),
                },
                Some(order) = self.orders.1.recv() => {
                    if let Followed::Stop = self.follow_at_the_end(order, "drains") {
                        return;
                    }
                }
                Some(arrived) = self.arrivals.1.recv() => self.go_on(arrived),
                _ = extending.tick() => systemd::extend(),
                Some(()) = self.stopped.1.recv() => {
                    if self.current.iter().all(|current| !current.server.is_accepting()) {
                        return;
                    }
                }
            }
        }
    }
}
