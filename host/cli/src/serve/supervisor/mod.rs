//! Keeps services running over reloads: the current version of each accepts connections,
//! and retired versions finish theirs.

mod drain;
mod orders;
mod reload;
mod stop;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use halfopen::tls::Tickets;
use halfopen::{Output, Server, ServerHandle};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::ServeArgs;
use crate::args::process::ProcessArgs;
use crate::args::topics::Buses;
use crate::config::{Plan, Service};
use crate::control::now;
use crate::descriptors;
use crate::observe::admin::{Admin, Listening};
use crate::observe::counts;
use crate::observe::guest;
use crate::observe::log::Log;
use crate::observe::metrics::Metrics;
use crate::observe::page::Page;
use crate::observe::status::StatusLine;
use crate::observe::traces::Traces;
use crate::record::Excluded;
use crate::serve::control::{Answer, Control, Followed, Order};
use crate::serve::recording::Recording;
use crate::serve::sockets::{Sockets, addresses_of};
use crate::serve::systemd;
use crate::serve::upgrade::{Accepting, Arrivals, Arrived, Generations, Step, Takeover};
use crate::serve::watched::Watched;
use crate::signals::{Request, Signals};
use crate::watch::feed::Watching;

/// The interval between checks of watched files.
const WATCH: Duration = Duration::from_millis(500);
/// How often to ask systemd for more time during a stop.
const EXTEND: Duration = Duration::from_secs(5);
/// How long to wait for output to be written: its reader may have stalled.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs all services of the process, from start to stop.
pub(crate) struct Supervisor {
    args: ServeArgs,
    /// The settings of the process at its start; a reload does not change them.
    process: ProcessArgs,
    signals: Signals,
    log: Log,
    status: StatusLine,
    metrics: Arc<Metrics>,
    watching: Watching,
    recording: Option<Recording>,
    /// The services that are not recorded.
    unrecorded: Excluded,
    traces: Option<Traces>,
    admin: Admin,
    admin_address: Option<Listening>,
    control: Option<Control>,
    /// Orders of the control socket.
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    /// The task that draws the status line.
    counting: Option<JoinHandle<()>>,
    stdout: Output,
    stderr: Output,
    /// The topics of the current version.
    buses: Buses,
    current: Vec<Current>,
    /// Versions that no longer accept, and have connections left. A task of `finishing`
    /// holds each until its last connection has ended.
    retired: Vec<Retired>,
    finishing: JoinSet<()>,
    /// Receives a message whenever a version has stopped accepting.
    stopped: (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>),
    /// The reload in progress.
    loading: Option<JoinHandle<anyhow::Result<Loaded>>>,
    /// A reload was requested during the one in progress.
    reload_again: bool,
    watched: Watched,
    /// The binary of this process, as its path was at the start.
    binary: io::Result<PathBuf>,
    /// The keys of TLS session tickets, for all versions of the services.
    tickets: Tickets,
    /// How many processes there were before this one, and one more.
    generation: u32,
    /// Since when this process accepts, in seconds since 1970.
    since: u64,
    /// The processes before this one that still drain.
    generations: Generations,
    /// Connections that they hand over.
    arrivals: (Arrivals, mpsc::UnboundedReceiver<Arrived>),
    /// The upgrade in progress.
    upgrading: Option<JoinHandle<anyhow::Result<Step>>>,
    /// The process that is to take over, and since when it starts, in seconds since 1970.
    starting: Option<(u32, u64)>,
    /// Whoever asked for it over the control socket.
    upgrade_asked: Option<Answer>,
}

/// Why the process accepts no more.
enum Over {
    /// A signal requested a stop.
    Stopped,
    /// All listeners have failed.
    Lost,
    /// A successor accepts.
    Upgraded(Accepting),
}

/// The version of a service that accepts connections.
struct Current {
    sockets: Sockets,
    server: Arc<ServerHandle>,
}

/// A version of a service that no longer accepts.
struct Retired {
    /// The name of the service.
    service: String,
    server: Arc<ServerHandle>,
}

/// All services, loaded and not yet started.
struct Loaded {
    plan: Plan,
    servers: Vec<Server>,
    buses: Buses,
}

impl Supervisor {
    /// Loads all services, prints their addresses, and starts to accept. With `takeover`, on the
    /// sockets of the process before, once that lets it.
    pub(crate) async fn start(
        args: ServeArgs,
        plan: Plan,
        log: Log,
        status: StatusLine,
        takeover: &mut Option<Takeover>,
    ) -> anyhow::Result<Self> {
        // First, so that a signal during the start is not lost.
        let signals = Signals::of_a_server()?;
        let metrics = Metrics::new(log.lines());
        let process = plan.process.clone();
        let watching = Watching::new();
        let page = Page::new(watching.clone(), &process.admin_host, process.admin_write);
        let admin = Admin::new(metrics.clone(), page);
        let watched = Watched::new(plan.files().chain(&args.process.config));
        let mut supervisor = Supervisor {
            args,
            process,
            signals,
            stdout: Output::new(status.above_stdout()),
            stderr: guest::stderr(&log, &status),
            log,
            status,
            metrics,
            watching,
            recording: None,
            unrecorded: Excluded::default(),
            traces: Traces::from_env()?,
            admin,
            admin_address: None,
            control: None,
            orders: mpsc::channel(1),
            counting: None,
            buses: Buses::default(),
            current: Vec::new(),
            retired: Vec::new(),
            finishing: JoinSet::new(),
            stopped: mpsc::unbounded_channel(),
            loading: None,
            reload_again: false,
            watched,
            binary: std::env::current_exe(),
            tickets: Tickets::new()?,
            generation: 1,
            since: 0,
            generations: Generations::default(),
            arrivals: mpsc::unbounded_channel(),
            upgrading: None,
            starting: None,
            upgrade_asked: None,
        };
        let payload = supervisor.process.watch_payload;
        supervisor.watching.show_payload(payload);
        let inherited = systemd::sockets()?;
        if let Some(raised) = descriptors::raise() {
            supervisor.say(&raised);
        }
        let loaded = supervisor.load(plan).await??;
        let sockets = match takeover {
            Some(takeover) => supervisor.take_over(&loaded.plan, inherited, takeover)?,
            None => supervisor.open(&loaded.plan, inherited)?,
        };
        if let Some(address) = supervisor.process.admin {
            let handed = takeover
                .as_mut()
                .and_then(|before| before.take_admin(address));
            let listening = supervisor.admin.listen(address, handed).await?;
            supervisor.admin_address = Some(listening);
        }
        if let Some(path) = &supervisor.process.control {
            let handed = takeover
                .as_mut()
                .and_then(|before| before.take_control(path));
            let orders = supervisor.orders.0.clone();
            let watching = supervisor.watching.clone();
            supervisor.control = Some(Control::listen(path, handed, orders, watching)?);
        }
        match takeover.take() {
            None => {
                supervisor.record(&loaded.plan)?;
                supervisor.introduce(&loaded, &sockets).await?;
                supervisor.replace(loaded, sockets)?;
            }
            Some(before) => supervisor.succeed(before, loaded, sockets).await?,
        }
        supervisor.since = now();
        supervisor.admin.set_ready(true);
        if supervisor.status.is_shown() {
            let stderr = supervisor.log.stderr().clone();
            let metrics = supervisor.metrics.clone();
            supervisor.counting = Some(counts::show(stderr, metrics));
        }
        systemd::ready();
        Ok(supervisor)
    }

    /// Prints the addresses, before a service starts, because scripts read these lines first.
    async fn introduce(&self, loaded: &Loaded, sockets: &[Sockets]) -> anyhow::Result<()> {
        let addresses = addresses_of(sockets)?;
        for address in &addresses {
            self.stdout.line(&address.to_string()).await;
        }
        // So that a person sees them first as well, if standard output can be written.
        self.stdout.flush(FLUSH).await;
        if let ([service], Some(&address)) = (&*loaded.plan.services, addresses.first())
            && service.args.component.is_none()
        {
            let how = how_to_try(address);
            self.say(&format!("serving the built-in echo; {how}"));
        }
        if let Some(Listening { bound, .. }) = self.admin_address {
            self.say(&format!(
                "metrics on http://{bound}/metrics, connections on http://{bound}/watch"
            ));
        }
        Ok(())
    }

    /// What the process shows of its connections.
    pub(crate) fn watching(&self) -> Watching {
        self.watching.clone()
    }

    /// Begins the recording, if there is to be one.
    pub(super) fn record(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.name_services(plan);
        let (args, log) = (&self.process.record, self.log.clone());
        self.recording = Recording::start(args, &self.watching, self.unrecorded.clone(), log)?;
        Ok(())
    }

    /// Names the services to watchers and to the recording.
    fn name_services(&self, plan: &Plan) {
        let names = |services: &mut dyn Iterator<Item = &Service>| -> Vec<String> {
            services.map(|service| service.name.clone()).collect()
        };
        let mut unrecorded = plan
            .services
            .iter()
            .filter(|service| service.args.no_record);
        let unrecorded = names(&mut unrecorded).into_iter().collect();
        self.unrecorded.set(unrecorded);
        self.watching.set_services(names(&mut plan.services.iter()));
    }

    /// Serves until a signal requests a stop, or all listeners have failed, which is a
    /// failure. Returns once all connections have ended.
    pub(crate) async fn run(&mut self) -> anyhow::Result<ExitCode> {
        let mut watching = self.process.watch.then(|| ticks(WATCH));
        let mut watchdog = systemd::watchdog().map(ticks);
        let over = loop {
            tokio::select! {
                request = self.signals.next() => match request {
                    Request::Stop => break Over::Stopped,
                    Request::Reload => self.reload(),
                    Request::Upgrade => self.upgrade(None, None),
                    Request::Reopen => self.reopen(),
                },
                Some(order) = self.orders.1.recv() => match self.follow(order) {
                    Followed::On => {}
                    Followed::Stop => break Over::Stopped,
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
                Some(step) = OptionFuture::from(self.upgrading.as_mut()) => {
                    self.upgrading = None;
                    if let Some(accepting) = self.stepped(step).await {
                        break Over::Upgraded(accepting);
                    }
                }
                Some(arrived) = self.arrivals.1.recv() => self.go_on(arrived),
                Some(_) = self.finishing.join_next() => {
                    // A finished version's task has dropped its handle.
                    self.retired.retain(|one| Arc::strong_count(&one.server) > 1);
                }
                Some(()) = self.stopped.1.recv() => {
                    if self.current.iter().all(|current| !current.server.is_accepting()) {
                        break Over::Lost;
                    }
                }
            }
        };
        Ok(match over {
            Over::Stopped => {
                self.drain(self.process.drain_delay.unwrap_or_default())
                    .await;
                self.stop().await
            }
            Over::Lost => {
                self.say("every listener has failed, so the server stops; the log says why");
                self.drain(Duration::ZERO).await;
                self.stop().await;
                ExitCode::FAILURE
            }
            Over::Upgraded(accepting) => self.retire(accepting).await,
        })
    }

    /// Waits until the services' output and the traces are written; for the output, only so
    /// long.
    pub(crate) async fn flush(self) {
        self.watching.end(FLUSH).await;
        if let Some(recording) = self.recording {
            recording.finish(FLUSH).await;
        }
        if let Some(control) = self.control {
            control.finish(FLUSH).await;
        }
        tokio::join!(self.stdout.flush(FLUSH), self.stderr.flush(FLUSH));
        if let Some(traces) = self.traces {
            // The exporter blocks until its own thread has sent everything.
            let _ = tokio::task::spawn_blocking(move || traces.finish()).await;
        }
    }

    /// Opens the file of the log anew, here and in the processes that still drain.
    fn reopen(&self) {
        self.log.reopen();
        self.generations.reopen();
    }

    /// Prints a message to the operator. The log's filter does not apply to it.
    fn say(&self, text: &str) {
        self.log.say(text);
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
