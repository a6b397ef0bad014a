//! What it costs to be watched: round trips with an echo that nobody watches, that somebody watches
//! who reads, and that somebody watches who does not, in turns.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::Load;
use crate::report::{digits, median};
use crate::server::{Places, Server};

#[derive(clap::Args)]
pub(crate) struct WatchedArgs {
    /// Rounds, in each of which every way is measured once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each measurement lasts, after a warm-up.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Connections at once.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Measure this binary as well, such as one from before a change.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The echo on tokio.
    Tokio,
    /// Another binary of halfopen.
    Before,
    Nobody,
    Reader,
    Stalled,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Tokio => "tokio",
            Way::Before => "halfopen, before",
            Way::Nobody => "watched by nobody",
            Way::Reader => "by one who reads",
            Way::Stalled => "by one who does not",
        }
    }
}

/// A watcher, for as long as it lives.
struct Watcher(UnixStream);

impl Watcher {
    /// Asks for events, and sees to it that they come.
    fn attach(control: &Path, reads: bool) -> Result<Self> {
        let mut stream = UnixStream::connect(control)?;
        stream.write_all(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        ensure!(start == *b"HTTP/1.1 200", "there are no events");
        let mut own = stream.try_clone()?;
        if reads {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match own.read(&mut buffer) {
                        Ok(1..) => {}
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        _ => return,
                    }
                }
            });
        }
        Ok(Watcher(stream))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The server may have gone.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

pub(crate) fn measure(args: &WatchedArgs, places: &Places) -> Result<()> {
    let time = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let load = Load::RoundTrips {
        connections: args.connections,
        bytes: 64,
    };
    let ways = [
        Way::Tokio,
        Way::Before,
        Way::Nobody,
        Way::Reader,
        Way::Stalled,
    ];
    let ways = ways.map(|way| (way != Way::Before || args.before.is_some()).then_some(way));
    let ways: Vec<_> = ways.into_iter().flatten().collect();
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 1..=args.rounds {
        eprintln!("round {round} of {}", args.rounds);
        for (way, rates) in ways.iter().zip(&mut rates) {
            let command = match way {
                Way::Tokio => places.tokio(),
                Way::Before => places.watched(args.before.as_deref(), None),
                _ => places.watched(None, Some(&control)),
            };
            let server = Server::start(command, way.name())?;
            let _watcher = match way {
                Way::Reader => Some(Watcher::attach(&control, true)?),
                Way::Stalled => Some(Watcher::attach(&control, false)?),
                _ => None,
            };
            let figures = load.measure_server(&server, time)?;
            rates.push(figures.first().context("no rate")?.1);
            drop(server);
            // It was killed.
            let _ = std::fs::remove_file(&control);
        }
    }
    let nobody = ways.iter().position(|way| *way == Way::Nobody);
    let nobody = rates[nobody.context("it is always measured")?].clone();
    println!("| {} | 1/s | : nobody |\n|---|---:|---:|", load.name());
    for (way, rates) in ways.iter().zip(&rates) {
        let rate = median(rates.iter().copied());
        // Within a round, so that what disturbs all of them disturbs no ratio.
        let ratio = median(
            rates
                .iter()
                .zip(&nobody)
                .map(|(rate, nobody)| rate / nobody),
        );
        println!("| {} | {} | {ratio:.3} |", way.name(), digits(rate));
    }
    Ok(())
}
