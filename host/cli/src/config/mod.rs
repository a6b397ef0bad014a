//! What to serve: a configuration file with several services, or the command line's one.

mod reader;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::args::ServeArgs;
use crate::args::process::ProcessArgs;
use crate::args::service::ServiceArgs;

pub(crate) use reader::parse;

/// The services to run, and the settings of the process that runs them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) process: ProcessArgs,
    pub(crate) services: Vec<Service>,
}

/// A service and its name.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) args: ServiceArgs,
    /// The line of its table in the configuration file, if it comes from one.
    pub(crate) line: Option<usize>,
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
            return Ok(read(path)??);
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

    /// The files that the services are loaded from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.services
            .iter()
            .flat_map(|service| service.args.files())
    }
}

/// Reads a configuration file.
///
/// # Errors
/// The outer error: the file cannot be read. The inner error: all mistakes in it.
pub(crate) fn read(path: &Path) -> anyhow::Result<Result<Plan, Mistakes>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(parse(&text, folder).map_err(|mistakes| Mistakes {
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
