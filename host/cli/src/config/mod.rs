//! What to serve: a configuration file with several services, or the command line's one.

mod conflicts;
mod environment;
mod flags;
mod keys;
mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use crate::args::ServeArgs;
use crate::args::process::ProcessArgs;
use crate::args::service::{COMPONENT, ServiceArgs, tls_error};
use crate::args::state::state_problem;

pub(crate) use reader::parse;

/// The services to run, and the settings of the process that runs them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) process: ProcessArgs,
    pub(crate) services: Vec<Service>,
    /// The lines of the settings of the process.
    lines: Lines,
    /// What is odd, and no mistake for certain.
    pub(crate) warnings: Vec<String>,
}

/// A service and its name.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) args: ServiceArgs,
    /// The lines of its settings.
    pub(crate) lines: Lines,
}

impl Service {
    /// Why the service cannot be loaded, with the line of the key that is to be changed.
    pub(crate) fn mistake(&self, error: &anyhow::Error) -> Mistake {
        let (key, index) = self.args.key_of(error).unwrap_or((COMPONENT, 0));
        Mistake {
            line: self.lines.of(key, index),
            message: match tls_error(error) {
                Some(error) => format!("`{key}`: {error}"),
                None => match state_problem(error) {
                    Some(problem) => format!("`{key}`: {problem}"),
                    None => format!("{error:#}"),
                },
            },
        }
    }

    /// Adds to an error where the service comes from, if that is a configuration file.
    pub(crate) fn located(&self, error: anyhow::Error) -> anyhow::Error {
        if self.lines.table == 0 {
            return error;
        }
        let Mistake { line, message } = self.mistake(&error);
        anyhow!("line {line} of the configuration: {message}")
    }
}

/// The lines of a table in a configuration file, counted from 1. From a command line there
/// are none, and every line is 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    table: usize,
    /// The line of each value of a key, or of the only one.
    keys: BTreeMap<String, Vec<usize>>,
}

impl Lines {
    /// The line of a value of a key; the line of the table, if the key is not in it.
    pub(crate) fn of(&self, key: &str, index: usize) -> usize {
        let lines = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let line = lines.get(index).or(lines.first());
        line.copied().unwrap_or(self.table).max(1)
    }
}

/// Everything that is wrong with a configuration file.
#[derive(Debug)]
pub(crate) struct Mistakes {
    path: PathBuf,
    mistakes: Vec<Mistake>,
}

/// One thing that is wrong, and its line, counted from 1.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Plan {
    /// The plan of a command line, which may name a configuration file.
    ///
    /// # Errors
    /// If the flags do not fit together, or the file cannot be read or has mistakes.
    pub(crate) fn of(args: &ServeArgs) -> anyhow::Result<Self> {
        if let Some(path) = &args.process.config {
            return Ok(read(path, &args.process)??);
        }
        args.service.check()?;
        let mut plan = Plan {
            process: args.process.clone(),
            services: vec![Service {
                name: args.service.name(),
                args: args.service.clone(),
                lines: Lines::default(),
            }],
            lines: Lines::default(),
            warnings: environment::without_effect(&args.service.name()),
        };
        plan.process.record.check()?;
        plan.warnings.extend(plan.process.without_effect());
        match plan.conflicts().into_iter().next() {
            Some(conflict) => bail!(conflict.message),
            None => Ok(plan),
        }
    }

    /// The files that the services are loaded from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.services
            .iter()
            .flat_map(|service| service.args.files())
    }
}

/// Reads a configuration file; `flags` override it.
///
/// # Errors
/// The outer error: the file cannot be read. The inner error: all mistakes in it.
pub(crate) fn read(path: &Path, flags: &ProcessArgs) -> anyhow::Result<Result<Plan, Mistakes>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let plan = parse(&text, folder).and_then(|mut plan| {
        plan.process.override_with(flags);
        plan.warnings.extend(plan.process.without_effect());
        let mut mistakes = plan.conflicts();
        if let Err(misfit) = plan.process.record.check() {
            mistakes.push(Mistake {
                line: plan.lines.of(misfit.key, misfit.index),
                message: misfit.to_string(),
            });
        }
        match mistakes.is_empty() {
            true => Ok(plan),
            false => Err(mistakes),
        }
    });
    Ok(plan.map_err(|mistakes| Mistakes {
        path: path.to_owned(),
        mistakes,
    }))
}

/// One line per mistake, in the form `file:line: message`.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let path = self.path.display();
            write!(f, "{path}:{}: {}", mistake.line, mistake.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
