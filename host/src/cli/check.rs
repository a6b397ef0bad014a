//! `halfopen check`: whether a configuration can be served, and everything that is wrong
//! with it.

use std::io::Write;
use std::process::ExitCode;

use halfopen::Output;

use super::args::CheckArgs;
use super::config::{Mistake, Plan};

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.display();
    let plan = match Plan::read(&args.config)? {
        Ok(plan) => plan,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let (stdout, _) = Output::stdout();
    let (stderr, _) = Output::stderr();
    let mut mistakes = Vec::new();
    let mut lines = String::new();
    for service in &plan.services {
        let loaded = service
            .args
            .server(stdout.clone(), stderr.clone(), |builder| builder);
        match loaded {
            Ok(_) => lines += &format!("{path}: `{}` can be served\n", service.name),
            Err(error) => mistakes.push(Mistake {
                line: service.line.unwrap_or(1),
                message: format!("{error:#}"),
            }),
        }
    }
    // A reader that has gone is no error.
    let _ = std::io::stdout().write_all(lines.as_bytes());
    for mistake in &mistakes {
        eprintln!("{path}:{}: {}", mistake.line, mistake.message);
    }
    Ok(match mistakes.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
