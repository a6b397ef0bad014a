//! A soak: one server with several services, and for a given time everything at once: random
//! scripts, hostile guests, hostile peers, and beside them well-behaved clients on services
//! of their own, who must not notice.
//!
//! The time is divided into equal rounds. At the end of each of them the hostile parts rest,
//! and keep the connections that they hold. The server's limits end these, and after that it
//! has the descriptors that it had at the start, and those of its well-behaved clients. What
//! it does not give back, round after round, is a leak.

mod clients;
mod figures;
mod guests;
mod peers;
mod process;
mod scripts;
mod services;
mod stage;
mod watch;
mod wire;

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread::{self, Scope};
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;

pub use figures::Figures;

use clients::{Counts, Measured, WellBehaved};
use guests::Turns;
use peers::ATTACKS;
use process::Process;
use services::{Addresses, Services};
use stage::{Phase, Stage};
use watch::{Watch, progress};

use crate::patience::PATIENCE;

/// The threads that order guests to misbehave.
const DRIVERS: u64 = 10;

/// What a soak is to do.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The `halfopen` binary.
    pub host: PathBuf,
    /// How long it goes on.
    pub time: Duration,
    /// The number of well-behaved clients, at most 250.
    pub clients: u8,
    /// The seed of everything random.
    pub seed: u64,
}

impl Soak {
    /// Runs the soak.
    ///
    /// # Errors
    ///
    /// If the server does not start, or does not stop. What goes wrong in between is among
    /// the [violations](Figures::violations).
    pub fn run(&self) -> Result<Figures> {
        let services = Services::write()?;
        let (process, events) = Process::start(&self.host, &services.path(), services.count())?;
        let printed = process.addresses.clone();
        let addresses = services.addresses(&printed)?;
        let tls = wire::trusting(services.certificate.clone())?;
        let measured = addresses
            .good
            .iter()
            .map(|&(name, address)| Measured::new(name, address))
            .collect::<Result<Vec<_>>>()?;
        warm_up(&addresses, &tls)?;
        let stage = Stage::new();
        let counts = Counts::default();
        let mut watch = Watch {
            soak: self,
            stage: &stage,
            counts: &counts,
            process,
            rests: Vec::new(),
            minutes: Vec::new(),
            most: (0, 0),
            bar: progress(self.time),
            hostile_connections: services.hostile_connections(),
            names: services.names(&printed),
        };
        // What the first connections leave is given back, or kept for good.
        thread::sleep(Duration::from_secs(2));
        watch.rest()?;
        thread::scope(|scope| {
            self.start(scope, &stage, &counts, &measured, &addresses, &tls, events);
            if let Err(error) = watch.rounds() {
                let log = watch.process.last_log();
                stage.violation(format!("the server cannot be looked at: {error:#}:\n{log}"));
            }
            stage.set(Phase::Over);
        });
        let Watch {
            process,
            rests,
            minutes,
            most,
            bar,
            ..
        } = watch;
        bar.finish_and_clear();
        let (endings, logged, last_log) = (process.endings(), process.logged(), process.last_log());
        let stopped = process.stop()?;
        if !stopped.success() {
            stage.violation(format!("the server ended with {stopped}:\n{last_log}"));
        }
        Ok(Figures {
            seed: self.seed,
            took: stage.elapsed(),
            clients: usize::from(self.clients),
            rests,
            minutes,
            most_descriptors: most.0,
            most_memory: most.1,
            measured,
            reported: stage.reported(),
            endings: endings.unwrap_or_else(|error| vec![format!("{error:#}")]),
            logged,
            last_log,
        })
    }

    /// Starts every thread.
    #[allow(clippy::too_many_arguments, reason = "what the threads share")]
    fn start<'s>(
        &self,
        scope: &'s Scope<'s, '_>,
        stage: &'s Stage,
        counts: &'s Counts,
        measured: &'s [Measured],
        addresses: &'s Addresses,
        tls: &std::sync::Arc<rustls::ClientConfig>,
        events: Receiver<String>,
    ) {
        let mut random = Rng::with_seed(self.seed);
        for number in 0..self.clients {
            let measured = &measured[usize::from(number) % measured.len()];
            let client = WellBehaved {
                stage,
                counts,
                measured,
                tls: measured.name.ends_with("tls").then(|| tls.clone()),
                from: [127, 0, 1, number + 1],
                stays: number / 4 % 2 == 0,
                seed: random.u64(..),
            };
            scope.spawn(move || client.run());
        }
        let seed = random.u64(..);
        scope.spawn(move || scripts::play(stage, &addresses.scripted, &events, seed));
        let turns = std::sync::Arc::new(Turns::new());
        for _ in 0..DRIVERS {
            let (turns, seed) = (turns.clone(), random.u64(..));
            scope.spawn(move || guests::drive(stage, addresses, &turns, seed));
        }
        for &attack in ATTACKS {
            let (tls, seed) = (tls.clone(), random.u64(..));
            scope.spawn(move || peers::run(attack, stage, addresses, tls, seed));
        }
    }
}

/// Has each service for well-behaved clients serve once, so that what is allocated once is.
fn warm_up(addresses: &Addresses, tls: &std::sync::Arc<rustls::ClientConfig>) -> Result<()> {
    let plain = addresses
        .good
        .iter()
        .filter(|(name, _)| !name.ends_with("tls"));
    for &(name, address) in plain {
        let mut client = crate::client::Client::connect(address)?;
        client.exchange(1000, 1).with_context(|| name.to_owned())?;
    }
    for &(name, address) in &addresses.good {
        if name.ends_with("tls") {
            let stream = wire::connect([127, 0, 1, 1], address, PATIENCE)?;
            wire::Wire::finish(&mut wire::secure(stream, tls)?)?;
        }
    }
    Ok(())
}
