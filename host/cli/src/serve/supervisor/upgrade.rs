//! Upgrades in place: a successor takes over, and this process drains.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use tokio::task::{JoinError, spawn_blocking};

use super::{Current, FLUSH, Supervisor};
use crate::config::Plan;
use crate::serve::control::Answer;
use crate::serve::sockets::{Inherited, Sockets};
use crate::serve::systemd;
use crate::serve::upgrade::{Children, Offer, Step, Successor, Takeover};
use crate::signals::Request;

/// The limit on earlier processes that drain at once. Each keeps the memory of its services.
const GENERATIONS: usize = 8;
/// The default of `--upgrade-timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Begins an upgrade to a binary, or to the one at the path of this process's own; `stepped`
    /// takes its outcome, which goes to the log, and to whoever asked for it.
    pub(super) fn upgrade(&mut self, binary: Option<PathBuf>, asked: Option<Answer>) {
        if self.upgrading.is_some() {
            let error = anyhow::anyhow!("an upgrade is in progress");
            return self.not_upgraded(&error, asked);
        }
        match self.start_successor(binary) {
            Ok(()) => self.upgrade_asked = asked,
            Err(error) => self.not_upgraded(&error, asked),
        }
    }

    fn start_successor(&mut self, binary: Option<PathBuf>) -> anyhow::Result<()> {
        ensure!(
            self.loading.is_none(),
            "a reload is in progress; try again after it"
        );
        let draining = self.generations.alive();
        ensure!(
            draining.len() < GENERATIONS,
            "{GENERATIONS} earlier processes still drain, the oldest of them process {}; let one \
             finish, or stop it with SIGTERM",
            draining.first().copied().unwrap_or_default()
        );
        let binary = match (&binary, &self.binary) {
            (Some(binary), _) | (None, Ok(binary)) => binary,
            (None, Err(error)) => bail!("the path of this process's binary is not known: {error}"),
        };
        let mut offer = Offer::default();
        for current in &self.current {
            current.sockets.offer(&mut offer)?;
        }
        if let Some(admin) = &self.admin_address {
            offer.admin(admin.configured, admin.socket.try_clone()?);
        }
        if let Some(control) = &self.control {
            offer.control(control.path(), control.socket()?)?;
        }
        offer.generations(&self.generations)?;
        let successor = Successor::start(binary, std::env::args_os().skip(1).collect())?;
        self.say(&format!(
            "upgrading; process {} loads the services",
            successor.process()
        ));
        let limit = self.process.upgrade_timeout.unwrap_or(TIMEOUT);
        self.upgrading = Some(spawn_blocking(move || {
            Ok(Step::Prepared(successor.prepare(offer, limit)?))
        }));
        Ok(())
    }

    /// Goes on with the upgrade in progress. Returns the process that accepts, once it does.
    pub(super) fn stepped(&mut self, step: Result<anyhow::Result<Step>, JoinError>) -> Option<u32> {
        match step
            .context("the task that waits for it failed")
            .and_then(|step| step)
        {
            Ok(Step::Prepared(successor)) => {
                self.upgrading = Some(spawn_blocking(|| {
                    Ok(Step::Accepts(successor.let_accept()?))
                }));
                None
            }
            Ok(Step::Accepts(process)) => Some(process),
            Err(error) => {
                let asked = self.upgrade_asked.take();
                self.not_upgraded(&error, asked);
                None
            }
        }
    }

    fn not_upgraded(&self, error: &anyhow::Error, asked: Option<Answer>) {
        let text = format!("not upgraded, and nothing has changed: {error:#}");
        self.say(&text);
        if let Some(asked) = asked {
            asked.refused(&text);
        }
    }

    /// Accepts no more, and lets all connections finish, however long they take: the successor
    /// serves.
    pub(super) async fn retire(&mut self, successor: u32) -> ExitCode {
        systemd::main_process(successor);
        // The successor draws a status line of its own.
        if let Some(counting) = self.counting.take() {
            counting.abort();
            self.log.stderr().clear_status();
        }
        if let Some(admin) = self.admin_address.take() {
            admin.close();
        }
        if let Some(asked) = self.upgrade_asked.take() {
            asked.done(format!("process {successor} accepts\n"));
        }
        if let Some(control) = self.control.take() {
            control.hand_over(FLUSH).await;
        }
        for Current { server, .. } in std::mem::take(&mut self.current) {
            server.retire();
            self.retired.push(server);
        }
        let servers: Vec<_> = self.retired.iter().map(Arc::clone).collect();
        let open: usize = servers.iter().map(|server| server.connections()).sum();
        self.say(&format!(
            "upgraded; process {successor} accepts, and {open} connections finish in process {}",
            std::process::id()
        ));
        let mut children = Children::of_the_first_process();
        let finished = join_all(servers.iter().map(|server| server.wait()));
        let mut finished = std::pin::pin!(finished);
        let ended = loop {
            tokio::select! {
                _ = &mut finished => break ExitCode::SUCCESS,
                request = self.signals.next() => {
                    if let Some(children) = &mut children {
                        children.pass_on(request);
                    }
                    match request {
                        Request::Stop => break self.stop().await,
                        Request::Reload | Request::Upgrade => self.say(&format!(
                            "this process only lets connections finish; process {successor} serves"
                        )),
                    }
                }
            }
        };
        match &mut children {
            Some(children) => children.outlive(&mut self.signals).await,
            None => ended,
        }
    }

    /// Opens the sockets of a plan, and keeps those that the process before hands over.
    pub(super) fn take_over(
        &mut self,
        plan: &Plan,
        inherited: Vec<Inherited>,
        before: &mut Takeover,
    ) -> anyhow::Result<Vec<Sockets>> {
        self.generations = std::mem::take(&mut before.generations);
        let handed = Sockets::handed(std::mem::take(&mut before.listeners));
        let previous: Vec<_> = handed.iter().collect();
        Sockets::open(&plan.services, &previous, inherited)
    }

    /// Reports that this process accepts in place of the one before.
    pub(super) fn succeed(&mut self, before: Takeover) {
        before.ready();
        if let Some(control) = &mut self.control {
            control.own();
        }
        let addresses: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        self.say(&format!(
            "process {} took over from process {}, and accepts on {}",
            std::process::id(),
            before.process,
            addresses.join(", ")
        ));
    }
}
