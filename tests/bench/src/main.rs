//! Measures halfopen beside an echo on tokio, one on bare epoll, and Node: every figure
//! is a ratio to a peer that was measured in the same run, in turns with it.

#![allow(clippy::print_stdout, reason = "tables go to the standard output")]

mod load;
mod native;
mod plot;
mod report;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
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
    about = "Measures halfopen beside native servers and Node"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, and prints a table.
    Run(RunArgs),
    /// Prints the tables of a result again.
    Show {
        /// A file that `run --output` wrote.
        file: PathBuf,
    },
    /// Sets two results side by side.
    Compare {
        /// A file that `run --output` wrote.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// Serves an echo without WebAssembly, to compare with.
    #[command(hide = true)]
    Serve {
        /// `tokio` or `epoll`.
        kind: String,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// The loads and servers that tell most, in under three minutes.
    #[arg(long)]
    short: bool,
    /// How often all are measured, in turns.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds that each load lasts, after a warm-up.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only loads with this in their name. May be given several times.
    #[arg(long)]
    load: Vec<String>,
    /// Only these servers. May be given several times.
    #[arg(long)]
    server: Vec<String>,
    /// More and more connections, on one processor and on more: for the curves of growth.
    #[arg(long)]
    scaling: bool,
    /// Writes the results there as JSON, and a plot beside them as SVG.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Show { file } => {
            let run = Run::read(&file)?;
            println!("{}\n{}", run.table(), run.goals());
            Ok(())
        }
        Command::Compare { first, second } => {
            print!("{}", Run::read(&first)?.compare(&Run::read(&second)?));
            Ok(())
        }
        Command::Serve { kind } => match kind.as_str() {
            "tokio" => native::tokio_echo(),
            "epoll" => native::epoll_echo(),
            other => bail!("`{other}` is none of tokio, epoll"),
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
    "shared-pass",
    "shared-copy",
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
    let places = Places::find(processors.servers.as_deref())?;
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
    ensure!(!loads.is_empty(), "no load has that in its name");
    let kinds = chosen(args)?;
    let rounds = args.rounds.unwrap_or(if args.short { 3 } else { 5 });
    let seconds = args.seconds.unwrap_or(if args.short { 0.5 } else { 1.5 });
    let time = Duration::try_from_secs_f64(seconds).context("--seconds")?;
    for kind in &kinds {
        eprintln!("{}: {}", kind.name, kind.what);
    }
    eprintln!("{}", processors.told());
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
        versions: versions(),
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        rows,
    };
    println!("{}", run.table());
    if !args.scaling {
        println!("{}", run.goals());
    }
    if let Some(path) = &args.output {
        run.write(path)?;
        plot::draw(&run, &path.with_extension("svg"))?;
        eprintln!("{} and its plot written", path.display());
    }
    Ok(())
}

/// Puts each server under the load once.
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
            // It has no figure then, and the others have theirs.
            Err(error) => {
                eprintln!("!!! {} does not stand {name}: {error}", kind.name);
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

fn chosen(args: &RunArgs) -> Result<Vec<&'static Kind>> {
    for name in &args.server {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        ensure!(
            names.contains(&name.as_str()),
            "`{name}` is none of {}",
            names.join(", ")
        );
    }
    let wanted = |kind: &&Kind| match (args.server.is_empty(), args.scaling, args.short) {
        (false, ..) => args.server.iter().any(|name| name == kind.name),
        (_, true, _) => SCALING_SERVERS.contains(&kind.name),
        (_, _, true) => SHORT_SERVERS.contains(&kind.name),
        _ => true,
    };
    let (there, missing): (Vec<&Kind>, Vec<&Kind>) = KINDS
        .iter()
        .filter(wanted)
        .partition(|kind| kind.is_there());
    for kind in missing {
        eprintln!(
            "!!! SKIPPED: {} ({}): `node` is not installed",
            kind.name, kind.what
        );
    }
    Ok(there)
}

/// Which processors there are, and who gets which.
struct Processors {
    all: Vec<usize>,
    /// Half of them, where there are enough: so that servers and load do not take them from
    /// each other.
    servers: Option<Vec<usize>>,
}

impl Processors {
    /// Divides them. This process gets its own at once.
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

    fn told(&self) -> String {
        match &self.servers {
            Some(servers) => {
                format!("servers on processors {servers:?}, the load on as many others")
            }
            None => "servers and load share the processors".to_owned(),
        }
    }

    /// How many at a time, for curves of growth.
    fn growing(&self) -> impl Iterator<Item = usize> {
        let most = self.servers.as_ref().unwrap_or(&self.all).len();
        std::iter::successors(Some(1), |count| Some(2 * count))
            .take_while(move |&count| count <= most)
    }

    /// So many for the servers. Where the load shares them, it gets no others either.
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

/// Keeps this process, and those that it starts, to these processors.
fn restrict_to(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

fn date() -> String {
    // Whoever reads it wants no more than the day.
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
    let (kernel, told) = (kernel.trim(), processors.told());
    Ok(format!("{count} × {model}, Linux {kernel}, {told}"))
}

fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let beside = |name: &str| -> Option<PathBuf> {
        Some(std::env::current_exe().ok()?.parent()?.join(name))
    };
    for (name, program) in [
        ("halfopen", beside("halfopen")),
        ("wasmtime", beside("wasmtime")),
        ("node", Some(PathBuf::from("node"))),
    ] {
        if let Some(version) = program.and_then(|program| report::version_of(&program)) {
            versions.insert(name.to_owned(), version);
        }
    }
    versions
}
