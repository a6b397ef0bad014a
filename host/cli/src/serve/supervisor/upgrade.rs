//! Upgrades in place: a successor takes over, and this process drains.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use tokio::task::{JoinError, spawn_blocking};

use super::{Current, FLUSH, Loaded, Retired, Supervisor};
use crate::config::Plan;
use crate::control::now;
use crate::serve::control::Answer;
use crate::serve::sockets::{Inherited, Sockets};
use crate::serve::systemd;
use crate::serve::upgrade::{
    Accepting, Arrived, Children, Last, Offer, Report, Step, Successor, Takeover,
};
use crate::signals::Request;

/// The limit on earlier processes that drain at once. Each keeps the memory of its services.
const GENERATIONS: usize = 8;
/// The default of `--upgrade-timeout`.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Begins an upgrade to a binary, or to the one at the path of this process's own; `stepped`
    /// takes its outcome, which goes to the log, and to whoever asked for it.
    pub(super) fn upgrade(&mut self, binary: Option<PathBuf>, asked: Option<Answer>) {
        if let Err(error) = self.may_upgrade() {
            return match asked {
                // Whoever asked may try again, and again.
                Some(asked) => asked.later(&not_upgraded(&error)),
                None => self.not_upgraded(&error, None),
            };
        }
        match self.start_successor(binary) {
            Ok(()) => self.upgrade_asked = asked,
            Err(error) => self.not_upgraded(&error, asked),
        }
    }

    /// Whether an upgrade may begin now.
    fn may_upgrade(&mut self) -> anyhow::Result<()> {
        ensure!(self.upgrading.is_none(), "an upgrade is in progress");
        ensure!(
            self.loading.is_none(),
            "a reload is in progress; try again after it"
        );
        let draining = self.generations.alive();
        ensure!(
            draining.len() < GENERATIONS,
            "{GENERATIONS} earlier processes still drain, the oldest of them process {}; let one \
             finish, or stop it with SIGTERM",
            draining.first().map_or(0, |oldest| oldest.process)
        );
        Ok(())
    }

    fn start_successor(&mut self, binary: Option<PathBuf>) -> anyhow::Result<()> {
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
        offer.generations(&self.generations, self.generation)?;
        let successor = Successor::start(binary, std::env::args_os().skip(1).collect())?;
        self.say(&format!(
            "upgrading; process {} loads the services",
            successor.process()
        ));
        let limit = self.process.upgrade_timeout.unwrap_or(TIMEOUT);
        let generation = self.generation;
        self.starting = Some((successor.process(), now()));
        self.upgrading = Some(spawn_blocking(move || {
            Ok(Step::Prepared(successor.prepare(offer, generation, limit)?))
        }));
        Ok(())
    }

    /// Goes on with the upgrade in progress. Returns the process that accepts, once it does.
    pub(super) async fn stepped(
        &mut self,
        step: Result<anyhow::Result<Step>, JoinError>,
    ) -> Option<Accepting> {
        let step = step
            .context("the task that waits for it failed")
            .and_then(|step| step);
        let error = match step {
            Ok(Step::Accepts(accepting)) => return Some(accepting),
            Ok(Step::Prepared(successor)) => match self.last().await {
                Ok(last) => {
                    self.upgrading = Some(spawn_blocking(|| {
                        Ok(Step::Accepts(successor.let_accept(last)?))
                    }));
                    return None;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.starting = None;
        self.generations.hear(None, &self.arrivals.0).await;
        self.take_connections();
        let asked = self.upgrade_asked.take();
        self.not_upgraded(&error, asked);
        None
    }

    /// What a successor gets just before it accepts. From now on it hears the earlier processes.
    async fn last(&mut self) -> anyhow::Result<Last> {
        self.generations.hear_nobody().await;
        let current = self.current.iter();
        let current = current.map(|one| (one.sockets.name().to_owned(), one.server.clone()));
        let retired = self.retired.iter();
        let retired = retired.map(|one| (one.service.clone(), one.server.clone()));
        Ok(Last {
            tickets: self.tickets.keys()?,
            report: Report::of(current.chain(retired)),
        })
    }

    fn not_upgraded(&self, error: &anyhow::Error, asked: Option<Answer>) {
        let text = not_upgraded(error);
        self.say(&text);
        if let Some(asked) = asked {
            asked.refused(&text);
        }
    }

    /// Accepts no more, and lets all connections finish, however long they take: the successor
    /// serves.
    pub(super) async fn retire(&mut self, accepting: Accepting) -> ExitCode {
        let successor = accepting.process;
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
        for Current { server, sockets } in std::mem::take(&mut self.current) {
            server.retire();
            let service = sockets.name().to_owned();
            self.retired.push(Retired { service, server });
        }
        // Nobody hears the earlier processes here any more.
        while let Ok(arrived) = self.arrivals.1.try_recv() {
            self.go_on(arrived);
        }
        tokio::spawn(accepting.tell());
        let servers: Vec<_> = self.retired.iter().map(|one| one.server.clone()).collect();
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
                        Request::Reopen => self.log.reopen(),
                        Request::Reload | Request::Upgrade => self.say(&format!(
                            "this process only lets connections finish; process {successor} serves"
                        )),
                    }
                }
            }
        };
        match &mut children {
            Some(children) => children.outlive(&mut self.signals, &self.log).await,
            None => ended,
        }
    }

    /// Tells earlier processes which of their connections this one takes.
    pub(super) fn take_connections(&self) {
        let current = self.current.iter();
        let current = current.filter(|current| current.server.hands_over());
        let services: Vec<_> = current.map(|one| one.sockets.name().to_owned()).collect();
        self.generations.take(&services);
    }

    /// Goes on with a connection that an earlier process has handed over.
    pub(super) fn go_on(&self, arrived: Arrived) {
        let Arrived { service, passed } = arrived;
        let mut current = self.current.iter();
        let current = current.find(|one| one.sockets.name() == service);
        let mut retired = self.retired.iter().rev();
        let retired = retired.find(|one| one.service == service);
        let server = current.map(|one| &one.server);
        match server.or(retired.map(|one| &one.server)) {
            Some(server) => server.go_on(passed),
            // Dropping it resets the connection.
            None => self.say(&format!(
                "a connection of {} is reset: it was handed over, and there is no service `{service}`",
                passed.peer()
            )),
        }
    }

    /// Opens the sockets of a plan, and keeps those that the process before hands over.
    pub(super) fn take_over(
        &mut self,
        plan: &Plan,
        inherited: Vec<Inherited>,
        before: &mut Takeover,
    ) -> anyhow::Result<Vec<Sockets>> {
        let handed = Sockets::handed(std::mem::take(&mut before.listeners));
        let previous: Vec<_> = handed.iter().collect();
        Sockets::open(&plan.services, &previous, inherited)
    }

    /// Accepts in place of the process before, once that lets it.
    pub(super) async fn succeed(
        &mut self,
        before: Takeover,
        loaded: Loaded,
        sockets: Vec<Sockets>,
    ) -> anyhow::Result<()> {
        let mut before = spawn_blocking(move || before.prepared()).await??;
        self.generation = before.generation.saturating_add(1);
        self.generations = std::mem::take(&mut before.generations);
        if let Some(keys) = before.tickets.take() {
            self.tickets.adopt(keys.as_bytes())?;
        }
        let latest = Some(before.process);
        self.generations.hear(latest, &self.arrivals.0).await;
        // Not before: until now, the file is the other process's alone.
        if let Err(error) = self.record(&loaded.plan) {
            self.say(&format!("not recorded: {error:#}"));
        }
        self.replace(loaded, sockets)?;
        before.ready();
        self.take_connections();
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
        Ok(())
    }
}

fn not_upgraded(error: &anyhow::Error) -> String {
    format!("not upgraded, and nothing has changed: {error:#}")
}
