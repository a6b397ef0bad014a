//! Stops all services.

use std::pin::pin;
use std::process::ExitCode;

use futures::future::join_all;

use super::{EXTEND, Retired, Supervisor, ticks};
use crate::serve::control::Followed;
use crate::serve::systemd;
use crate::signals::Request;

impl Supervisor {
    /// Stops accepting, and waits until all connections have ended.
    pub(super) async fn stop(&mut self) -> ExitCode {
        // Connections of earlier processes stay there.
        self.generations.take(&[]);
        // Drops the sockets as well: as long as a descriptor is open, the kernel completes
        // connections to it.
        for current in std::mem::take(&mut self.current) {
            self.retired.push(Retired {
                service: current.sockets.name().to_owned(),
                server: current.server,
            });
        }
        let servers: Vec<_> = self.retired.iter().map(|one| one.server.clone()).collect();
        for server in &servers {
            server.stop();
        }
        let grace = servers.iter().map(|server| server.grace()).max();
        let grace = grace.unwrap_or_default().as_secs_f64();
        let open: usize = servers.iter().map(|server| server.connections()).sum();
        self.say(&format!(
            "stopping; {open} connections have {grace} s to finish; a second signal ends them at once"
        ));
        // All at the same time, so that the times do not add up.
        let finished = join_all(servers.iter().map(|server| server.wait()));
        let mut finished = pin!(finished);
        let mut extending = ticks(EXTEND);
        let summaries = loop {
            tokio::select! {
                summaries = &mut finished => break summaries,
                request = self.signals.next() => match request {
                    Request::Stop => return self.stop_at_once(),
                    Request::Reopen => self.log.reopen(),
                    Request::Reload | Request::Upgrade => {}
                },
                Some(order) = self.orders.1.recv() => {
                    if let Followed::Stop = self.follow_at_the_end(order, "stops") {
                        return self.stop_at_once();
                    }
                }
                // It was on the way. Dropping it resets it.
                Some(arrived) = self.arrivals.1.recv() => drop(arrived),
                _ = extending.tick() => systemd::extend(),
            }
        };
        let accepted: u64 = summaries.iter().map(|summary| summary.accepted).sum();
        let aborted: usize = summaries.iter().map(|summary| summary.aborted).sum();
        self.log.stderr().clear_status();
        if aborted > 0 {
            self.say(&format!(
                "{aborted} of {accepted} connections did not finish within {grace} s and were reset"
            ));
        }
        ExitCode::SUCCESS
    }

    fn stop_at_once(&self) -> ExitCode {
        self.log.stderr().clear_status();
        self.say("stopped at once");
        ExitCode::FAILURE
    }
}
