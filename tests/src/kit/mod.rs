//! The kit for whoever writes a host: the scenarios on a command that the project does not
//! have, with a report by rule.

mod report;
mod template;

use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};
use halfopen_compose::Interfaces;

pub use report::{Outcome, Played, Report};
pub use template::{ARGS, COMPONENT, Foreign, LISTEN, STANDALONE, Template};

use crate::case::Case;
use crate::runner::{Binaries, Runner, guest_path};
use crate::scenario::Scenario;
use crate::scenarios;

/// The prefix of the contract's interfaces.
const PACKAGE: &str = "halfopen:tcp/";

/// What is played, and on what.
#[derive(Debug)]
pub struct Kit {
    /// The command.
    pub template: Template,
    /// What is said of it.
    pub foreign: Foreign,
    /// The service that the command is by itself, if it hosts no component.
    pub native: Option<String>,
    /// Whether such a service always allows half-open.
    pub allow_half_open: bool,
    /// The interfaces that the host does not provide, or call, by their names in the WIT.
    pub without: Vec<String>,
    /// Only what has one of these words in its name, or is about a rule of this name; everything
    /// if there are none.
    pub only: Vec<String>,
    /// How many scenarios are played at a time.
    pub jobs: usize,
}

/// Cases that start the same service.
#[derive(Clone, Copy, Debug)]
pub struct Cases<'a> {
    /// The service.
    pub guest: &'a str,
    /// Whether it gets arguments.
    pub arguments: bool,
    /// The cases.
    pub cases: &'a [Case],
}

/// Something that can be played.
struct Trial<'a> {
    name: &'static str,
    rules: &'static [&'static str],
    skipped: Option<String>,
    play: Play<'a>,
}

type Play<'a> = Box<dyn Fn(&Binaries) -> Result<()> + Send + Sync + 'a>;

impl Kit {
    /// Plays everything that fits the command. `finished` is told of each outcome.
    ///
    /// # Errors
    ///
    /// If the command does not start, or nothing fits it.
    pub fn run(&self, cases: &[Cases<'_>], finished: impl Fn(&Played) + Sync) -> Result<Report> {
        let runner = Runner::Foreign(self.foreign);
        let binaries = Binaries::foreign(self.template.clone())?;
        let trials = self.trials(runner, cases);
        let queue = Mutex::new(trials.iter().collect::<VecDeque<_>>());
        let next = || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        if trials.iter().all(|trial| trial.skipped.is_some()) {
            let why: Vec<_> = trials
                .iter()
                .filter_map(|trial| trial.skipped.as_deref())
                .collect();
            let why = why
                .first()
                .copied()
                .unwrap_or("no name or rule has these words");
            return Err(anyhow!("nothing to play: {why}"));
        }
        let service = self.native.as_deref().unwrap_or("echo");
        let started = runner.start(&binaries, service, &[]);
        drop(started.context("the command has to print its address as its first line")?);
        let played = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(trial) = next() {
                        let outcome = trial.outcome(&binaries);
                        finished(&outcome);
                        let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
                        played.push(outcome);
                    }
                });
            }
        });
        let played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
        let report = Report::new(played)?;
        Ok(match self.only.is_empty() {
            true => report,
            false => report.of_what_was_played(),
        })
    }

    fn trials<'a>(&'a self, runner: Runner, cases: &'a [Cases<'a>]) -> Vec<Trial<'a>> {
        let scenarios = scenarios::all().map(|scenario| Trial {
            name: scenario.name,
            rules: scenario.rules,
            skipped: self.misses(runner, scenario),
            play: Box::new(move |binaries: &Binaries| scenario.run(runner, binaries)),
        });
        let cases = cases.iter().flat_map(|group| {
            group.cases.iter().map(move |case| Trial {
                name: case.name,
                rules: case.rules,
                skipped: self.misses_case(runner, group, case),
                play: Box::new(move |binaries: &Binaries| (case.run)(runner, binaries)),
            })
        });
        let wanted = |trial: &Trial<'_>| {
            let mut only = self.only.iter();
            only.len() == 0
                || only.any(|word| {
                    trial.name.contains(word.as_str()) || trial.rules.contains(&word.as_str())
                })
        };
        scenarios.chain(cases).filter(wanted).collect()
    }

    /// Returns why a scenario cannot be played on the command.
    fn misses(&self, runner: Runner, scenario: &Scenario) -> Option<String> {
        self.misses_service(runner, scenario.guest).or_else(|| {
            if scenario.listens && !self.template.has(LISTEN) {
                return Some(format!("the command has no `{LISTEN}`"));
            }
            self.misses_arguments(scenario.arguments)
        })
    }

    fn misses_case(&self, runner: Runner, group: &Cases<'_>, case: &Case) -> Option<String> {
        if self.native.is_some() {
            return Some("the command hosts no component".to_owned());
        }
        if !(case.runners)(runner) {
            return Some(case.elsewhere.to_owned());
        }
        if group.arguments && !self.template.has(ARGS) {
            return Some(format!("the command has no `{ARGS}`"));
        }
        self.misses_service(runner, group.guest)
    }

    fn misses_arguments(&self, arguments: &[&str]) -> Option<String> {
        if self.template.has(ARGS) {
            return None;
        }
        let half_open = arguments.contains(&"--allow-half-open");
        if self.native.is_some() && self.allow_half_open {
            return (!half_open).then(|| "the command always allows half-open".to_owned());
        }
        // A service that prints more than it has to is as good where nobody reads it.
        let needs = arguments.iter().any(|&argument| argument != "--quiet");
        needs.then(|| format!("the command has no `{ARGS}`"))
    }

    /// Returns why a service cannot be served by the command.
    fn misses_service(&self, runner: Runner, guest: &str) -> Option<String> {
        if let Some(native) = &self.native {
            return (native != guest).then(|| format!("the command is the service `{native}`"));
        }
        if self.template.has(STANDALONE) {
            let standalone = guest_path(&format!("{guest}-standalone"));
            return (!standalone.exists()).then(|| format!("`{guest}` is not composed"));
        }
        let Some(component) = runner.guest(guest) else {
            return Some("no such service in its style".to_owned());
        };
        let missing = interfaces(component).into_iter().flatten();
        let mut missing = missing.filter(|name| self.without.contains(name));
        let name = missing.next()?;
        Some(format!("the host is without `{PACKAGE}{name}`"))
    }
}

/// Returns the names of the contract's interfaces that a component imports or exports.
fn interfaces(component: &str) -> Result<Vec<String>> {
    let component = fs::read(guest_path(component))?;
    let interfaces = Interfaces::unvalidated(&component)?;
    let names = interfaces.imports.iter().chain(&interfaces.exports);
    let names = names.filter_map(|name| name.strip_prefix(PACKAGE)?.split('@').next());
    Ok(names.map(str::to_owned).collect())
}

impl Trial<'_> {
    fn outcome(&self, binaries: &Binaries) -> Played {
        let outcome = match &self.skipped {
            Some(why) => Outcome::Skipped(why.clone()),
            None => match catch_unwind(AssertUnwindSafe(|| (self.play)(binaries))) {
                Ok(Ok(())) => Outcome::Passed,
                Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
                Err(_) => Outcome::Failed("it panicked".to_owned()),
            },
        };
        Played {
            name: self.name,
            rules: self.rules,
            outcome,
        }
    }
}
