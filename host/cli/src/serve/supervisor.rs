//! Keeps services running over reloads: the current version of each accepts connections,
//! and retired versions finish theirs.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::OptionFuture;
use halfopen::{Output, Report, Server, ServerBuilder, ServerHandle};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::ServeArgs;
use crate::args::process::ProcessArgs;
use crate::config::Plan;
use crate::observe::admin::Admin;
use crate::observe::log;
use crate::observe::metrics::Metrics;
use crate::observe::status::Status;
use crate::observe::traces::Traces;
use crate::serve::sockets::{Inherited, Sockets, print_addresses};
use crate::serve::systemd;
use crate::serve::watched::Watched;
use crate::signals::{Request, Signals};

/// The interval between checks of watched files.
const WATCH: Duration = Duration::from_millis(500);

/// Runs all services of the process, from start to stop.
pub(crate) struct Supervisor {
    args: ServeArgs,
    /// The settings of the process at its start; a reload does not change them.
    process: ProcessArgs,
    signals: Signals,
    status: Status,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    admin: Admin,
    stdout: Output,
    stderr: Output,
    current: Vec<Current>,
    /// Versions that no longer accept, and have connections left. A task of `finishing`
    /// holds each until its last connection has ended.
    retired: Vec<Arc<ServerHandle>>,
    finishing: JoinSet<()>,
    /// Receives a message whenever a version has stopped accepting.
    stopped: (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>),
    /// The reload in progress.
    loading: Option<JoinHandle<anyhow::Result<Loaded>>>,
    /// A reload was requested during the one in progress.
    reload_again: bool,
    watched: Watched,
}

/// The version of a service that accepts connections.
struct Current {
    sockets: Sockets,
    server: Arc<ServerHandle>,
}

/// All services, loaded and not yet started.
struct Loaded {
    plan: Plan,
    servers: Vec<Server>,
}

impl Supervisor {
    /// Loads all services, prints their addresses, and starts to accept.
    pub(crate) async fn start(args: ServeArgs, plan: Plan, status: Status) -> anyhow::Result<Self> {
        // First, so that a signal during the start is not lost.
        let signals = Signals::with_reload()?;
        let metrics = Metrics::new();
        let admin = Admin::new(metrics.clone());
        let process = plan.process.clone();
        let watched = Watched::new(plan.files().chain(&args.process.config));
        let mut supervisor = Supervisor {
            args,
            process,
            signals,
            stdout: Output::new(status.above(std::io::stdout())),
            stderr: Output::new(status.above(std::io::stderr())),
            status,
            metrics,
            traces: Traces::from_env()?,
            admin,
            current: Vec::new(),
            retired: Vec::new(),
            finishing: JoinSet::new(),
            stopped: mpsc::unbounded_channel(),
            loading: None,
            reload_again: false,
            watched,
        };
        let inherited = systemd::sockets()?;
        let loaded = supervisor.load(plan).await??;
        let sockets = supervisor.open(&loaded.plan, inherited)?;
        let admin = match supervisor.process.admin {
            Some(address) => Some(supervisor.admin.listen(address).await?),
            None => None,
        };
        let first = print_addresses(&sockets)?;
        if let ([service], Some(address)) = (&*loaded.plan.services, first)
            && service.args.component.is_none()
        {
            supervisor.say(&format!(
                "serving the built-in echo; {}",
                how_to_try(address)
            ));
        }
        if let Some(address) = admin {
            supervisor.say(&format!("metrics on http://{address}/metrics"));
        }
        supervisor.replace(loaded, sockets)?;
        supervisor.admin.set_ready(true);
        supervisor.status.show(supervisor.metrics.clone());
        systemd::ready();
        Ok(supervisor)
    }

    /// Serves until a signal requests a stop, or all listeners have failed. Returns once
    /// all connections have ended.
    pub(crate) async fn run(&mut self) -> anyhow::Result<ExitCode> {
        let mut watching = self.process.watch.then(|| ticks(WATCH));
        let mut watchdog = systemd::watchdog().map(ticks);
        loop {
            tokio::select! {
                request = self.signals.next() => match request {
                    Request::Stop => break,
                    Request::Reload => self.reload(),
                },
                Some(_) = OptionFuture::from(watching.as_mut().map(|ticks| ticks.tick())) => {
                    if self.watched.changed() {
                        self.reload();
                    }
                }
                Some(_) = OptionFuture::from(watchdog.as_mut().map(|ticks| ticks.tick())) => {
                    systemd::alive();
                }
                Some(loaded) = OptionFuture::from(self.loading.as_mut()) => {
                    self.loading = None;
                    self.reloaded(loaded);
                }
                Some(_) = self.finishing.join_next() => {
                    // A finished version's task has dropped its handle.
                    self.retired.retain(|server| Arc::strong_count(server) > 1);
                }
                Some(()) = self.stopped.1.recv() => {
                    if self.current.iter().all(|current| !current.server.is_accepting()) {
                        break;
                    }
                }
            }
        }
        self.stop().await
    }

    /// Waits until the services' output and the traces are written; for the output, at
    /// most `limit` per stream.
    pub(crate) async fn flush(self, limit: Duration) {
        self.stdout.flush(limit).await;
        self.stderr.flush(limit).await;
        if let Some(traces) = self.traces {
            // The exporter blocks until its own thread has sent everything.
            let _ = tokio::task::spawn_blocking(move || traces.finish()).await;
        }
    }

    /// Stops accepting, and waits until all connections have ended.
    async fn stop(&mut self) -> anyhow::Result<ExitCode> {
        systemd::stopping();
        self.admin.set_ready(false);
        // Drops the sockets as well: as long as a descriptor is open, the kernel completes
        // connections to it.
        let current = std::mem::take(&mut self.current);
        let servers: Vec<_> = current
            .into_iter()
            .map(|current| current.server)
            .chain(self.retired.iter().cloned())
            .collect();
        for server in &servers {
            server.stop();
        }
        let grace = servers.iter().map(|server| server.grace()).max();
        let grace = grace.unwrap_or_default().as_secs_f64();
        let open: usize = servers.iter().map(|server| server.connections()).sum();
        self.say(&format!(
            "stopping; {open} connections have {grace} s to finish; a second signal ends them at once"
        ));
        let finished = async {
            let mut accepted = 0;
            let mut aborted = 0;
            for server in &servers {
                let summary = server.wait().await;
                accepted += summary.accepted;
                aborted += summary.aborted;
            }
            (accepted, aborted)
        };
        let (accepted, aborted) = tokio::select! {
            finished = finished => finished,
            () = self.signals.stop() => {
                self.status.clear();
                self.say("stopped at once");
                return Ok(ExitCode::FAILURE);
            }
        };
        self.status.clear();
        if aborted > 0 {
            self.say(&format!(
                "{aborted} of {accepted} connections did not finish within {grace} s and were reset"
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints a message to the operator. The log's filter does not apply to it.
    fn say(&self, text: &str) {
        self.status.say(&format!("halfopen: {text}"));
    }

    /// Begins to load everything again; `reloaded` takes the outcome.
    fn reload(&mut self) {
        if self.loading.is_some() {
            self.reload_again = true;
            return;
        }
        systemd::reloading();
        match Plan::of(&self.args) {
            Ok(plan) => {
                self.watched = Watched::new(plan.files().chain(&self.args.process.config));
                self.loading = Some(self.load(plan));
            }
            Err(error) => self.reloaded(Ok(Err(error))),
        }
    }

    /// Switches to the new version, or keeps the current one and says why.
    fn reloaded(&mut self, loaded: Result<anyhow::Result<Loaded>, JoinError>) {
        let connections = |current: &Current| current.server.connections();
        let open: usize = self.current.iter().map(connections).sum();
        let done = loaded
            .context("the task that loads it failed")
            .and_then(|loaded| loaded)
            .and_then(|loaded| {
                let sockets = self.open(&loaded.plan, Vec::new())?;
                self.replace(loaded, sockets)
            });
        self.metrics.reloaded(done.is_ok());
        match done {
            Ok(()) => self.say(&format!(
                "reloaded; {open} connections go on with the previous version"
            )),
            Err(error) => self.say(&format!("not reloaded, and nothing has changed: {error:#}")),
        }
        systemd::ready();
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    /// Loads all services of a plan on a blocking thread, because compiling takes long.
    fn load(&self, plan: Plan) -> JoinHandle<anyhow::Result<Loaded>> {
        let stdout = self.stdout.clone();
        let stderr = self.stderr.clone();
        let access_log = self.process.log.access_log;
        let metrics = self.metrics.clone();
        let traces = self.traces.clone();
        tokio::task::spawn_blocking(move || {
            let mut servers = Vec::new();
            for service in &plan.services {
                let name = service.name.clone();
                let counting = metrics.observer(&name);
                let tracing = traces.as_ref().map(|traces| traces.observer(&name));
                let observe = |builder: ServerBuilder| {
                    let mut builder = builder.observer(counting);
                    if let Some(tracing) = tracing {
                        builder = builder.observer(tracing);
                    }
                    match access_log {
                        true => builder.observer(move |report: &Report| log::access(&name, report)),
                        false => builder,
                    }
                };
                let server = service
                    .args
                    .server(stdout.clone(), stderr.clone(), observe)
                    .map_err(|error| service.located(error))?;
                servers.push(server);
            }
            Ok(Loaded { plan, servers })
        })
    }

    /// Opens the sockets of a plan, and keeps sockets that are open already.
    fn open(&self, plan: &Plan, inherited: Vec<Inherited>) -> anyhow::Result<Vec<Sockets>> {
        let previous: Vec<_> = self
            .current
            .iter()
            .map(|current| &current.sockets)
            .collect();
        Sockets::open(&plan.services, &previous, inherited)
    }

    /// Starts the new servers, and retires the current ones. If it fails, nothing changes.
    fn replace(&mut self, loaded: Loaded, sockets: Vec<Sockets>) -> anyhow::Result<()> {
        let mut listeners = Vec::new();
        for sockets in &sockets {
            listeners.push(sockets.listeners()?);
        }
        let before = std::mem::take(&mut self.current);
        let services = loaded.plan.services.into_iter();
        for (((service, server), sockets), listeners) in
            services.zip(loaded.servers).zip(sockets).zip(listeners)
        {
            let server = self.started(server.start(listeners));
            self.metrics.watch(&service.name, &server);
            self.current.push(Current { sockets, server });
        }
        for Current { server, .. } in before {
            server.retire();
            self.retired.push(server.clone());
            self.finishing.spawn(async move {
                server.wait().await;
            });
        }
        Ok(())
    }

    /// Watches for the moment at which a server stops accepting.
    fn started(&self, server: ServerHandle) -> Arc<ServerHandle> {
        let server = Arc::new(server);
        let accepting = server.clone();
        let stopped = self.stopped.0.clone();
        tokio::spawn(async move {
            accepting.stopped_accepting().await;
            // The receiver is gone once the process stops.
            let _ = stopped.send(());
        });
        server
    }
}

/// Ticks every `period`. A delayed tick delays the following ones, so that they never come
/// in a burst.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn how_to_try(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        ip => ip.to_string(),
    };
    format!("try it: printf 'hi' | nc -N {ip} {}", address.port())
}
