//! Loads new versions of the services, and switches to them.

use std::net::SocketAddr;

use anyhow::Context;
use halfopen::{Report, ServerBuilder};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use super::{Current, Loaded, Retired, Supervisor};
use crate::config::Plan;
use crate::descriptors;
use crate::files;
use crate::observe::log;
use crate::serve::sockets::{Inherited, Sockets};
use crate::serve::systemd;
use crate::serve::watched::Watched;

impl Supervisor {
    /// Begins to load everything again; `reloaded` takes the outcome.
    pub(super) fn reload(&mut self) {
        if self.loading.is_some() {
            self.reload_again = true;
            return;
        }
        if self.upgrading.is_some() {
            // The successor may have read the old configuration.
            self.say("not reloaded: an upgrade is in progress; try again after it");
            return;
        }
        systemd::reloading();
        match self.plan() {
            Ok(plan) => {
                let changed = plan.process.differences(&self.process);
                if !changed.is_empty() {
                    let keys = changed.join("`, `");
                    self.say(&format!(
                        "`{keys}` changed, but settings of the process are read only at the start; \
                         restart to change them"
                    ));
                }
                self.watched = Watched::new(plan.files().chain(&self.args.process.config));
                self.loading = Some(self.load(plan));
            }
            Err(error) => self.reloaded(Ok(Err(error))),
        }
    }

    /// Reads the plan again.
    ///
    /// # Errors
    /// If it has mistakes, or a file of it cannot be read a second time. Reading a pipe would
    /// wait for somebody to write to it.
    fn plan(&self) -> anyhow::Result<Plan> {
        if let Some(config) = &self.args.process.config {
            files::check_regular(config)?;
        }
        let plan = Plan::of(&self.args)?;
        for file in plan.files() {
            files::check_regular(file)?;
        }
        Ok(plan)
    }

    /// Switches to the new version, or keeps the current one and says why.
    pub(super) fn reloaded(&mut self, loaded: Result<anyhow::Result<Loaded>, JoinError>) {
        let before = self.addresses();
        let done = loaded
            .context("the task that loads it failed")
            .and_then(|loaded| loaded)
            .and_then(|loaded| {
                let sockets = self.open(&loaded.plan, Vec::new())?;
                self.replace(loaded, sockets)
            });
        self.metrics.reloaded(done.is_ok());
        match done {
            Ok(()) => {
                self.take_connections();
                let older = self.retired.iter();
                let open: usize = older.map(|one| one.server.connections()).sum();
                self.say(&format!(
                    "reloaded; {open} connections go on with earlier versions"
                ));
                let now = self.addresses();
                for address in now.iter().filter(|address| !before.contains(address)) {
                    self.say(&format!("now listening on {address}"));
                }
                for address in before.iter().filter(|address| !now.contains(address)) {
                    self.say(&format!("no longer listening on {address}"));
                }
            }
            Err(error) => self.say(&format!("not reloaded, and nothing has changed: {error:#}")),
        }
        systemd::ready();
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    /// The addresses on which the current version listens.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let current = self.current.iter();
        // An address that cannot be read is left out of the messages.
        current
            .filter_map(|current| current.sockets.addresses().ok())
            .flatten()
            .collect()
    }

    /// Loads all services of a plan on a blocking thread, because compiling takes long.
    pub(super) fn load(&self, plan: Plan) -> JoinHandle<anyhow::Result<Loaded>> {
        let stdout = self.stdout.clone();
        let stderr = self.stderr.clone();
        let access_log = self.process.log.access_log;
        let metrics = self.metrics.clone();
        let traces = self.traces.clone();
        let watching = self.watching.clone();
        let tickets = self.tickets.clone();
        let mut buses = self.buses.renewed();
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut servers = Vec::new();
            for service in &plan.services {
                let name = service.name.clone();
                let counting = metrics.observer(&name);
                let counts = metrics.topics(&name);
                let tracing = traces.as_ref().map(|traces| traces.observer(&name));
                let observe = |builder: ServerBuilder| {
                    let mut builder = builder
                        .name(&name)
                        .observer(counting)
                        .events(watching.events())
                        .bans(watching.bans());
                    if let Some(tracing) = tracing {
                        builder = builder.observer(tracing);
                    }
                    match access_log {
                        true => builder.observer(move |report: &Report| log::access(&name, report)),
                        false => builder,
                    }
                };
                // This thread may block.
                let store = runtime.block_on(service.args.state().open());
                let store = store.map_err(|error| service.located(error))?;
                let server = runtime
                    .block_on(service.args.topics(&mut buses))
                    .map_err(anyhow::Error::from)
                    .and_then(|topics| {
                        let counted = topics.map(|topics| topics.counted_by(counts));
                        let (stdout, stderr) = (stdout.clone(), stderr.clone());
                        let tickets = Some((&tickets, &*service.name));
                        let server = &service.args;
                        server.server(store, stdout, stderr, counted, tickets, observe)
                    })
                    .map_err(|error| service.located(error))?;
                servers.push(server);
            }
            Ok(Loaded {
                plan,
                servers,
                buses,
            })
        })
    }

    /// Opens the sockets of a plan, and keeps sockets that are open already.
    pub(super) fn open(
        &self,
        plan: &Plan,
        inherited: Vec<Inherited>,
    ) -> anyhow::Result<Vec<Sockets>> {
        let previous: Vec<_> = self
            .current
            .iter()
            .map(|current| &current.sockets)
            .collect();
        Sockets::open(&plan.services, &previous, inherited)
    }

    /// Starts the new servers, and retires the current ones. If it fails, nothing changes.
    pub(super) fn replace(&mut self, loaded: Loaded, sockets: Vec<Sockets>) -> anyhow::Result<()> {
        let mut listeners = Vec::new();
        for sockets in &sockets {
            listeners.push(sockets.listeners()?);
        }
        let services = &loaded.plan.services;
        let connections = services.iter().map(|service| service.args.connections());
        if let Some(warning) = descriptors::too_low_for(connections.sum()) {
            self.say(&warning);
        }
        let before = std::mem::take(&mut self.current);
        self.buses = loaded.buses;
        self.name_services(&loaded.plan);
        let services = loaded.plan.services.into_iter();
        for (((service, server), sockets), listeners) in
            services.zip(loaded.servers).zip(sockets).zip(listeners)
        {
            self.generations.count_at(&service.name, &server);
            let server = self.started(server.start(listeners));
            self.metrics.watch(&service.name, &server);
            self.current.push(Current { sockets, server });
        }
        for Current { server, sockets } in before {
            server.retire();
            self.retired.push(Retired {
                service: sockets.name().to_owned(),
                server: server.clone(),
            });
            self.finishing.spawn(async move {
                server.wait().await;
            });
        }
        Ok(())
    }
}
