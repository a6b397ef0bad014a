//! Keeps services running: one version of each that accepts, and older ones whose
//! connections finish.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::OptionFuture;
use halfopen::{Finished, Output, Running, Server, ServerBuilder};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Admin;
use super::args::{ProcessArgs, ServeArgs};
use super::config::{Plan, Service};
use super::log;
use super::metrics::Metrics;
use super::signals::{Asked, Signals};
use super::sockets::{Inherited, Sockets, print_addresses};
use super::status::Status;
use super::systemd;
use super::traces::Traces;
use super::watched::Watched;

/// How often files are looked at.
const WATCH: Duration = Duration::from_millis(500);

/// Whatever serves, and what it is made of.
pub(super) struct Supervisor {
    args: ServeArgs,
    process: ProcessArgs,
    signals: Signals,
    status: Status,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    admin: Admin,
    stdout: (Output, Finished),
    stderr: (Output, Finished),
    services: Vec<Live>,
    /// Older versions.
    retired: JoinSet<()>,
    older: Vec<Arc<Running>>,
    /// Told when a version accepts no more.
    ended: (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>),
    loading: Option<JoinHandle<anyhow::Result<Loaded>>>,
    /// Another change has come meanwhile.
    once_more: bool,
    watched: Watched,
}

/// A service that accepts connections.
struct Live {
    sockets: Sockets,
    running: Arc<Running>,
}

/// A version that is ready to run.
struct Loaded {
    plan: Plan,
    servers: Vec<Server>,
}

impl Supervisor {
    /// Loads and starts all services.
    pub(super) async fn start(args: ServeArgs, plan: Plan, status: Status) -> anyhow::Result<Self> {
        // From here on a signal is not lost.
        let signals = Signals::with_reload()?;
        let metrics = Metrics::new();
        let admin = Admin::new(metrics.clone());
        let process = plan.process.clone();
        let watched = Watched::new(plan.files(&args));
        let mut supervisor = Supervisor {
            args,
            signals,
            stdout: Output::new(status.above(std::io::stdout())),
            stderr: Output::new(status.above(std::io::stderr())),
            status,
            metrics,
            traces: Traces::from_env()?,
            admin,
            services: Vec::new(),
            retired: JoinSet::new(),
            older: Vec::new(),
            ended: mpsc::unbounded_channel(),
            loading: None,
            once_more: false,
            watched,
            process,
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

    /// Serves until it is told to stop.
    pub(super) async fn run(&mut self) -> anyhow::Result<ExitCode> {
        let mut looking = self.process.watch.then(|| ticks(WATCH));
        let mut alive = systemd::watchdog().map(ticks);
        loop {
            tokio::select! {
                asked = self.signals.next() => match asked {
                    Asked::Stop => break,
                    Asked::Reload => self.reload(),
                },
                Some(_) = OptionFuture::from(looking.as_mut().map(|looking| looking.tick())) => {
                    if self.watched.changed() {
                        self.reload();
                    }
                }
                Some(_) = OptionFuture::from(alive.as_mut().map(|alive| alive.tick())) => {
                    systemd::alive();
                }
                Some(loaded) = OptionFuture::from(self.loading.as_mut()) => {
                    self.loading = None;
                    self.reloaded(loaded);
                }
                Some(_) = self.retired.join_next() => {
                    self.older.retain(|running| Arc::strong_count(running) > 1);
                }
                Some(()) = self.ended.1.recv() => {
                    if self.services.iter().all(|live| !live.running.is_accepting()) {
                        break;
                    }
                }
            }
        }
        self.stop().await
    }

    /// Waits until what was printed has been written, or for so long.
    pub(super) async fn flush(self, time: Duration) {
        drop(self.services);
        drop(self.older);
        drop((self.stdout.0, self.stderr.0));
        self.stdout.1.wait(time).await;
        self.stderr.1.wait(time).await;
        if let Some(traces) = self.traces {
            // It waits for its own thread.
            let _ = tokio::task::spawn_blocking(move || traces.finish()).await;
        }
    }

    async fn stop(&mut self) -> anyhow::Result<ExitCode> {
        systemd::stopping();
        self.admin.set_ready(false);
        // Their sockets go as well: a copy that is left open is still connected to.
        let services = std::mem::take(&mut self.services);
        let all: Vec<_> = services
            .into_iter()
            .map(|live| live.running)
            .chain(self.older.iter().cloned())
            .collect();
        for running in &all {
            running.stop();
        }
        let grace = all.iter().map(|running| running.grace()).max();
        let grace = grace.unwrap_or_default().as_secs_f64();
        let open: usize = all.iter().map(|running| running.connections()).sum();
        self.say(&format!(
            "stopping; {open} connections have {grace} s to finish, and a second signal ends them at once"
        ));
        let finished = async {
            let mut accepted = 0;
            let mut aborted = 0;
            for running in &all {
                let summary = running.wait().await;
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

    /// Tells the operator, whatever is logged.
    fn say(&self, text: &str) {
        self.status.say(&format!("halfopen: {text}"));
    }

    /// Begins to load everything anew.
    fn reload(&mut self) {
        if self.loading.is_some() {
            self.once_more = true;
            return;
        }
        systemd::reloading();
        match Plan::of(&self.args) {
            Ok(plan) => {
                self.watched = Watched::new(plan.files(&self.args));
                self.loading = Some(self.load(plan));
            }
            Err(error) => self.reloaded(Ok(Err(error))),
        }
    }

    /// Goes over to what was loaded, or says why not.
    fn reloaded(&mut self, loaded: Result<anyhow::Result<Loaded>, tokio::task::JoinError>) {
        let open: usize = self
            .services
            .iter()
            .map(|live| live.running.connections())
            .sum();
        let done = loaded
            .context("loading it failed")
            .and_then(|loaded| loaded)
            .and_then(|loaded| {
                let sockets = self.open(&loaded.plan, Vec::new())?;
                self.replace(loaded, sockets)
            });
        self.metrics.reloaded(done.is_ok());
        match done {
            Ok(()) => self.say(&format!(
                "reloaded; {open} connections go on with the version that they began with"
            )),
            Err(error) => self.say(&format!("not reloaded, and nothing has changed: {error:#}")),
        }
        systemd::ready();
        if std::mem::take(&mut self.once_more) {
            self.reload();
        }
    }

    /// Loads components where it holds up nobody.
    fn load(&self, plan: Plan) -> JoinHandle<anyhow::Result<Loaded>> {
        let stdout = self.stdout.0.clone();
        let stderr = self.stderr.0.clone();
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
                        true => builder.observer(move |report: &_| log::access(&name, report)),
                        false => builder,
                    }
                };
                let server = service
                    .args
                    .server(stdout.clone(), stderr.clone(), observe)?;
                servers.push(server);
            }
            Ok(Loaded { plan, servers })
        })
    }

    /// The sockets of each service: those that are open already, and new ones.
    fn open(&self, plan: &Plan, inherited: Vec<Inherited>) -> anyhow::Result<Vec<Sockets>> {
        let before: Vec<_> = self.services.iter().map(|live| &live.sockets).collect();
        Sockets::open(&plan.services, &before, inherited)
    }

    /// Lets the servers accept, and those before them no more.
    fn replace(&mut self, loaded: Loaded, sockets: Vec<Sockets>) -> anyhow::Result<()> {
        let mut listeners = Vec::new();
        for sockets in &sockets {
            listeners.push(sockets.listeners()?);
        }
        let before = std::mem::take(&mut self.services);
        let services = loaded.plan.services.into_iter();
        for (((service, server), sockets), listeners) in
            services.zip(loaded.servers).zip(sockets).zip(listeners)
        {
            let running = self.started(server.start(listeners));
            self.metrics.watch(&service.name, &running);
            self.services.push(Live { sockets, running });
        }
        for live in before {
            live.running.retire();
            self.older.push(live.running.clone());
            self.retired.spawn(async move {
                live.running.wait().await;
            });
        }
        Ok(())
    }

    fn started(&self, running: Running) -> Arc<Running> {
        let running = Arc::new(running);
        let accepting = running.clone();
        let ended = self.ended.0.clone();
        tokio::spawn(async move {
            accepting.accepts_no_more().await;
            // The receiver goes with the process.
            let _ = ended.send(());
        });
        running
    }
}

impl Plan {
    /// The files that it is made of.
    fn files(&self, args: &ServeArgs) -> impl Iterator<Item = PathBuf> {
        let services = self
            .services
            .iter()
            .flat_map(|service| service.args.files());
        services.chain(args.process.config.clone())
    }

    /// What the arguments ask for, or the configuration that they name.
    pub(super) fn of(args: &ServeArgs) -> anyhow::Result<Self> {
        if let Some(path) = &args.process.config {
            return Ok(Plan::read(path)??);
        }
        args.service.check()?;
        Ok(Plan {
            process: args.process.clone(),
            services: vec![Service {
                name: args.service.name(),
                args: args.service.clone(),
                line: None,
            }],
        })
    }
}

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
