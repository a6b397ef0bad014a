//! Keeps services running: one version of each that accepts, and older ones whose
//! connections finish.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use futures::future::OptionFuture;
use halfopen::{Finished, Output, Running, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::address::{DEFAULT, Listen};
use super::args::{ProcessArgs, ServeArgs};
use super::config::{Plan, Service};
use super::log;
use super::signals::{Asked, Signals};
use super::systemd;

/// How often files are looked at.
const WATCH: Duration = Duration::from_millis(500);

/// Whatever serves, and what it is made of.
pub(super) struct Supervisor {
    args: ServeArgs,
    process: ProcessArgs,
    signals: Signals,
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
    name: String,
    sockets: Vec<Socket>,
    running: Arc<Running>,
}

/// A listening socket; servers get copies of it.
struct Socket {
    origin: Origin,
    socket: std::net::TcpListener,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Bound(Listen),
    Systemd,
}

/// A version that is ready to run.
struct Loaded {
    plan: Plan,
    servers: Vec<Server>,
}

impl Supervisor {
    /// Loads and starts all services.
    pub(super) async fn start(args: ServeArgs, plan: Plan) -> anyhow::Result<Self> {
        // From here on a signal is not lost.
        let signals = Signals::with_reload()?;
        let (stdout, written) = Output::stdout();
        let (stderr, errors_written) = Output::stderr();
        let process = plan.process.clone();
        let watched = Watched::new(&args, &plan);
        let mut supervisor = Supervisor {
            args,
            signals,
            stdout: (stdout, written),
            stderr: (stderr, errors_written),
            services: Vec::new(),
            retired: JoinSet::new(),
            older: Vec::new(),
            ended: mpsc::unbounded_channel(),
            loading: None,
            once_more: false,
            watched,
            process,
        };
        let mut inherited = systemd::sockets()?;
        let loaded = supervisor.load(plan).await??;
        let sockets = supervisor.open(&loaded.plan, &mut inherited)?;
        if let Some((name, _)) = inherited.first() {
            bail!("systemd passed a socket `{name}`, and no service has that name");
        }
        let first = print_addresses(&sockets)?;
        if let ([service], Some(address)) = (&*loaded.plan.services, first)
            && service.args.component.is_none()
        {
            eprintln!(
                "halfopen: serving the built-in echo; {}",
                how_to_try(address)
            );
        }
        supervisor.replace(loaded, sockets)?;
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
    }

    async fn stop(&mut self) -> anyhow::Result<ExitCode> {
        systemd::stopping();
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
        eprintln!(
            "halfopen: stopping; {open} connections have {grace} s to finish, and a second signal ends them at once"
        );
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
                eprintln!("halfopen: stopped at once");
                return Ok(ExitCode::FAILURE);
            }
        };
        if aborted > 0 {
            eprintln!(
                "halfopen: {aborted} of {accepted} connections did not finish within {grace} s and were reset"
            );
        }
        Ok(ExitCode::SUCCESS)
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
                self.watched = Watched::new(&self.args, &plan);
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
                let sockets = self.open(&loaded.plan, &mut Vec::new())?;
                self.replace(loaded, sockets)
            });
        match done {
            Ok(()) => eprintln!(
                "halfopen: reloaded; {open} connections go on with the version that they began with"
            ),
            Err(error) => {
                eprintln!("halfopen: not reloaded, and nothing has changed: {error:#}");
            }
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
        tokio::task::spawn_blocking(move || {
            let mut servers = Vec::new();
            for service in &plan.services {
                let name = service.name.clone();
                let server = service
                    .args
                    .server(stdout.clone(), stderr.clone(), |builder| match access_log {
                        true => builder.on_close(move |report| log::access(&name, report)),
                        false => builder,
                    })?;
                servers.push(server);
            }
            Ok(Loaded { plan, servers })
        })
    }

    /// The sockets of each service: those that are open already, and new ones.
    fn open(
        &self,
        plan: &Plan,
        inherited: &mut Vec<(String, std::net::TcpListener)>,
    ) -> anyhow::Result<Vec<Vec<Socket>>> {
        let mut known: Vec<_> = self
            .services
            .iter()
            .flat_map(|live| &live.sockets)
            .collect();
        let alone = plan.services.len() == 1;
        let mut all = Vec::new();
        for service in &plan.services {
            let mut sockets = Vec::new();
            for (name, socket) in std::mem::take(inherited) {
                if alone || name == service.name {
                    let origin = Origin::Systemd;
                    sockets.push(Socket { origin, socket });
                } else {
                    inherited.push((name, socket));
                }
            }
            // What systemd has given is not given again.
            if let Some(live) = self.services.iter().find(|live| live.name == service.name) {
                for socket in &live.sockets {
                    if socket.origin == Origin::Systemd {
                        sockets.push(socket.try_clone()?);
                    }
                }
            }
            let listen = match &*service.args.listen {
                [] if sockets.is_empty() => &[DEFAULT],
                listen => listen,
            };
            for &listen in listen {
                let origin = Origin::Bound(listen);
                let open = known.iter().position(|socket| socket.origin == origin);
                sockets.push(match open {
                    Some(index) => known.swap_remove(index).try_clone()?,
                    None => Socket {
                        origin,
                        socket: listen.bind()?.into_std()?,
                    },
                });
            }
            all.push(sockets);
        }
        Ok(all)
    }

    /// Lets the servers accept, and those before them no more.
    fn replace(&mut self, loaded: Loaded, sockets: Vec<Vec<Socket>>) -> anyhow::Result<()> {
        let mut listeners = Vec::new();
        for sockets in &sockets {
            let copies = sockets.iter().map(Socket::listener);
            listeners.push(copies.collect::<io::Result<Vec<_>>>()?);
        }
        let before = std::mem::take(&mut self.services);
        let services = loaded.plan.services.into_iter();
        for (((service, server), sockets), listeners) in
            services.zip(loaded.servers).zip(sockets).zip(listeners)
        {
            self.services.push(Live {
                name: service.name,
                sockets,
                running: self.started(server.start(listeners)),
            });
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

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Socket {
            origin: self.origin,
            socket: self.socket.try_clone()?,
        })
    }

    fn listener(&self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.socket.try_clone()?)
    }
}

impl Plan {
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

/// The files that a plan is made of, and how they were.
struct Watched {
    files: Vec<(PathBuf, Option<State>)>,
    /// A change that may not be finished yet.
    changing: bool,
}

/// What changes with a file: when it was written, how long it is, which it is.
type State = (SystemTime, u64, u64);

impl Watched {
    fn new(args: &ServeArgs, plan: &Plan) -> Self {
        let files = plan
            .services
            .iter()
            .flat_map(|service| service.args.files());
        let files = files.chain(args.process.config.clone());
        Watched {
            files: files.map(|path| (path.clone(), state(&path))).collect(),
            changing: false,
        }
    }

    /// Whether one has changed, and none has since it was looked at before.
    fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = state(path);
            changed |= now != *before;
            *before = now;
        }
        let finished = self.changing && !changed;
        self.changing = changed;
        finished
    }
}

fn state(path: &std::path::Path) -> Option<State> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Prints where it listens, before anything else is printed, and returns the first
/// address.
fn print_addresses(services: &[Vec<Socket>]) -> anyhow::Result<Option<SocketAddr>> {
    let mut first = None;
    let mut lines = String::new();
    for socket in services.iter().flatten() {
        let address = socket.socket.local_addr()?;
        first.get_or_insert(address);
        lines += &format!("{address}\n");
    }
    let mut stdout = io::stdout();
    // Nobody may be reading; that is no reason not to serve.
    let _ = stdout
        .write_all(lines.as_bytes())
        .and_then(|()| stdout.flush());
    Ok(first)
}

fn how_to_try(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        ip => ip.to_string(),
    };
    format!("try it: printf 'hi' | nc -N {ip} {}", address.port())
}
