//! Measures halfopen next to an echo on tokio, an echo on bare epoll, Node and workerd. The
//! servers are measured in turns, and every figure is also given as a ratio to one of the same
//! run.

#![allow(clippy::print_stdout, reason = "tables go to standard output")]
#![allow(clippy::print_stderr, reason = "errors go to standard error")]

mod devices;
mod goals;
mod languages;
mod load;
mod native;
mod plot;
mod published;
mod report;
mod server;
mod state;
mod topics;
mod watched;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use load::Load;
use report::{Row, Run};
use server::{KINDS, Kind, Places};

#[derive(Parser)]
#[command(
    name = "halfopen-bench",
    version,
    about = "Measures halfopen next to native servers, Node and workerd"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print tables.
    Run(RunArgs),
    /// Print the tables of an earlier result.
    Show {
        /// A file that `run --output` wrote.
        file: PathBuf,
    },
    /// Compare two results.
    Compare {
        /// A file that `run --output` wrote.
        first: PathBuf,
        /// Another such file.
        second: PathBuf,
    },
    /// Measure state in a file and on a Redis server, beside the stores by themselves.
    State(state::StateArgs),
    /// Measure messages on topics, between instances and over Redis, beside Redis by itself.
    Topics(topics::TopicsArgs),
    /// Measure what it costs to be watched.
    Watched(watched::WatchedArgs),
    /// Simulate devices for the gateway of the examples, and fail if something that it has
    /// acknowledged is lost.
    Devices(devices::DevicesArgs),
    /// Measure the echo in each language, as `cargo test --test languages` has built it.
    Languages {
        /// Write the table to guest/LANGUAGES.md.
        #[arg(long)]
        write: bool,
    },
    /// Serve an echo without WebAssembly, to compare with.
    #[command(hide = true)]
    Serve {
        /// `tokio` or `epoll`.
        kind: String,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// Measure a selection of loads and servers, in under three minutes.
    #[arg(long)]
    short: bool,
    /// Number of rounds, in each of which every server is measured once (default: 5, or 3
    /// with `--short`).
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds that each measurement lasts, after a warm-up (default: 1.5, or 0.5 with
    /// `--short`).
    #[arg(long)]
    seconds: Option<f64>,
    /// Measure only loads with this text in their name. May be given several times.
    #[arg(long)]
    load: Vec<String>,
    /// Measure only this server. May be given several times.
    #[arg(long)]
    server: Vec<String>,
    /// Measure this component as `shared-copy` and `connection-copy` (default:
    /// guest/dist/echo.wasm).
    #[arg(long, value_name = "FILE")]
    echo: Option<PathBuf>,
    /// Measure with increasing numbers of connections and of processors.
    #[arg(long)]
    scaling: bool,
    /// Write the results to this file as JSON, and a plot next to it as SVG.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run(&args),
        Command::Show { file } => {
            let run = Run::read(&file)?;
            println!("{}\n{}\n{}", run.table(), run.goals(), run.published());
            Ok(())
        }
        Command::Compare { first, second } => {
            print!("{}", Run::read(&first)?.compare(&Run::read(&second)?));
            Ok(())
        }
        Command::State(args) => state::measure(&args),
        Command::Topics(args) => {
            let processors = Processors::divide()?;
            eprintln!("{}", processors.describe());
            let places = Places::find(processors.servers.as_deref(), None)?;
            topics::measure(&args, &places)
        }
        Command::Watched(args) => {
            let processors = Processors::divide()?;
            eprintln!("{}", processors.describe());
            let places = Places::find(processors.servers.as_deref(), None)?;
            watched::measure(&args, &places)
        }
        Command::Devices(args) => devices::run(&args),
        Command::Languages { write } => languages::measure(write),
        Command::Serve { kind } => match kind.as_str() {
            "tokio" => native::tokio_echo(),
            "epoll" => native::epoll_echo(),
            other => bail!("unknown server `{other}`; there are tokio and epoll"),
        },
    }
}

const LOADS: &[Load] = &[
    Load::RoundTrips {
        connections: 1,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 64,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 1000,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 1,
        bytes: 4096,
    },
    Load::RoundTrips {
        connections: 64,
        bytes: 4096,
    },
    Load::RoundTrips {
        connections: 1000,
        bytes: 4096,
    },
    Load::Bulk { connections: 1 },
    Load::Bulk { connections: 8 },
    Load::Skewed { busy: 63 },
    Load::Churn,
    Load::Idle { connections: 1000 },
    Load::Idle {
        connections: 10_000,
    },
    Load::Start { warm: false },
    Load::Start { warm: true },
];

const SHORT_LOADS: &[Load] = &[
    Load::RoundTrips {
        connections: 64,
        bytes: 64,
    },
    Load::Bulk { connections: 8 },
    Load::Churn,
    Load::Idle { connections: 1000 },
    Load::Start { warm: true },
];

const SHORT_SERVERS: &[&str] = &[
    "tokio",
    "node",
    "workerd",
    "shared-pass",
    "shared-copy",
    "shared-await",
    "connection-copy",
    "wasmtime-copy",
];

const SCALING_SERVERS: &[&str] = &[
    "tokio",
    "node",
    "shared-pass",
    "shared-copy",
    "connection-pass",
    "connection-copy",
    "wasmtime-copy",
];

const SCALING_LOADS: &[Load] = &[
    Load::RoundTrips {
        connections: 1,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 10,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 100,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 1000,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 5000,
        bytes: 64,
    },
    Load::RoundTrips {
        connections: 15_000,
        bytes: 64,
    },
    Load::Idle {
        connections: 15_000,
    },
];

fn run(args: &RunArgs) -> Result<()> {
    let processors = Processors::divide()?;
    let places = Places::find(processors.servers.as_deref(), args.echo.as_deref())?;
    let loads = match (args.scaling, args.short) {
        (true, _) => SCALING_LOADS,
        (_, true) => SHORT_LOADS,
        _ => LOADS,
    };
    let loads: Vec<&Load> = loads
        .iter()
        .filter(|load| {
            args.load.is_empty() || args.load.iter().any(|part| load.name().contains(part))
        })
        .collect();
    ensure!(!loads.is_empty(), "no load has this text in its name");
    let kinds = chosen(args, &places)?;
    let rounds = args.rounds.unwrap_or(if args.short { 3 } else { 5 });
    let seconds = args.seconds.unwrap_or(if args.short { 0.5 } else { 1.5 });
    let time = Duration::try_from_secs_f64(seconds).context("--seconds")?;
    for kind in &kinds {
        eprintln!("{}: {}", kind.name, kind.what);
    }
    eprintln!("{}", processors.describe());
    let mut rows = Vec::new();
    let mut measure_all = |places: &Places, suffix: &str| {
        for load in &loads {
            let name = format!("{}{suffix}", load.name());
            for round in 1..=rounds {
                eprintln!("{name}, round {round} of {rounds}");
                measure(load, &name, &kinds, places, time, &mut rows);
            }
        }
    };
    if args.scaling {
        for count in processors.growing() {
            let places = places.on(processors.take(count)?, count);
            measure_all(&places, &format!(" on {count}"));
        }
    } else {
        measure_all(&places, "");
    }
    let run = Run {
        date: date(),
        machine: machine(&processors)?,
        versions: versions(&places),
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        rows,
    };
    println!("{}", run.table());
    if !args.scaling {
        println!("{}\n{}", run.goals(), run.published());
    }
    if let Some(path) = &args.output {
        run.write(path)?;
        plot::draw(&run, &path.with_extension("svg"))?;
        eprintln!("{} and its plot written", path.display());
    }
    Ok(())
}

/// Measures each server under a load once.
fn measure(
    load: &Load,
    name: &str,
    kinds: &[&Kind],
    places: &Places,
    time: Duration,
    rows: &mut Vec<Row>,
) {
    for kind in kinds.iter().filter(|kind| kind.takes(load.connections())) {
        let figures = match load.measure(kind, places, time) {
            Ok(figures) => figures,
            // The server has no figure for this load; the other servers go on.
            Err(error) => {
                eprintln!("!!! {} fails under {name}: {error:#}", kind.name);
                continue;
            }
        };
        for (metric, value) in figures {
            let there = rows.iter_mut().find(|row| {
                row.load == name && row.metric == metric.name && row.server == kind.name
            });
            match there {
                Some(row) => row.rounds.push(value),
                None => rows.push(Row {
                    load: name.to_owned(),
                    metric: metric.name.to_owned(),
                    unit: metric.unit.to_owned(),
                    more_is_better: metric.more_is_better,
                    server: kind.name.to_owned(),
                    rounds: vec![value],
                }),
            }
        }
    }
}

/// Returns the servers to measure.
fn chosen(args: &RunArgs, places: &Places) -> Result<Vec<&'static Kind>> {
    for name in &args.server {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        ensure!(
            names.contains(&name.as_str()),
            "unknown server `{name}`; there are {}",
            names.join(", ")
        );
    }
    let wanted = |kind: &&Kind| match (args.server.is_empty(), args.scaling, args.short) {
        (false, ..) => args.server.iter().any(|name| name == kind.name),
        (_, true, _) => SCALING_SERVERS.contains(&kind.name),
        (_, _, true) => SHORT_SERVERS.contains(&kind.name),
        _ => true,
    };
    let mut there = Vec::new();
    for kind in KINDS.iter().filter(wanted) {
        match kind.lacks(places) {
            Some(what) => eprintln!("!!! SKIPPED: {} ({}): {what}", kind.name, kind.what),
            None => there.push(kind),
        }
    }
    Ok(there)
}

/// The processors of this machine, and how servers and load divide them.
struct Processors {
    all: Vec<usize>,
    /// The servers' half, if there are at least three processors: servers and load then do
    /// not compete. `None` if they share all of them.
    servers: Option<Vec<usize>>,
}

impl Processors {
    /// Divides the processors, and restricts this process to its half.
    fn divide() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&cpu| allowed.is_set(cpu))
            .collect();
        let mut servers = None;
        if all.len() >= 3 {
            let (for_servers, for_load) = all.split_at(all.len() / 2);
            restrict_to(for_load)?;
            servers = Some(for_servers.to_vec());
        }
        Ok(Processors { all, servers })
    }

    fn describe(&self) -> String {
        match &self.servers {
            Some(servers) => {
                format!("servers on processors {servers:?}, the load on as many others")
            }
            None => "servers and load share the processors".to_owned(),
        }
    }

    /// Returns the numbers of processors to measure growth on: 1, 2, 4 and so on.
    fn growing(&self) -> impl Iterator<Item = usize> {
        let most = self.servers.as_ref().unwrap_or(&self.all).len();
        std::iter::successors(Some(1), |count| Some(2 * count))
            .take_while(move |&count| count <= most)
    }

    /// Gives this many processors to the servers. Where the load shares them, it is
    /// restricted to the same ones.
    fn take(&self, count: usize) -> Result<Option<&[usize]>> {
        match &self.servers {
            Some(servers) => Ok(Some(&servers[..count])),
            None => {
                restrict_to(&self.all[..count])?;
                Ok(None)
            }
        }
    }
}

/// Restricts this process and its later children to these processors.
fn restrict_to(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

fn date() -> String {
    // Asks date(1), because the standard library has no calendar.
    let output = std::process::Command::new("date").arg("+%Y-%m-%d").output();
    output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

fn machine(processors: &Processors) -> Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let count = processors.all.len();
    let (kernel, division) = (kernel.trim(), processors.describe());
    Ok(format!("{count} × {model}, Linux {kernel}, {division}"))
}

fn versions(places: &Places) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let beside = |name: &str| -> Option<PathBuf> {
        Some(std::env::current_exe().ok()?.parent()?.join(name))
    };
    for (name, program) in [
        ("halfopen", beside("halfopen")),
        ("wasmtime", beside("wasmtime")),
        ("node", Some(PathBuf::from("node"))),
        ("workerd", Some(places.workerd_binary())),
    ] {
        if let Some(version) = program.and_then(|program| report::version_of(&program)) {
            versions.insert(name.to_owned(), version);
        }
    }
    versions
}
