//! `halfopen check`: reports every mistake in a configuration file.

use std::io::Write;
use std::process::ExitCode;

use halfopen::Output;

use crate::args::CheckArgs;
use crate::args::process::ProcessArgs;
use crate::config;

pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.display();
    let plan = match config::read(&args.config, &ProcessArgs::default())? {
        Ok(plan) => plan,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let stdout = Output::stdout();
    let stderr = Output::stderr();
    let mut mistakes = Vec::new();
    let mut lines = String::new();
    for service in &plan.services {
        let loaded = service
            .args
            .server(stdout.clone(), stderr.clone(), |builder| builder);
        match loaded {
            Ok(_) => lines += &format!("{path}: `{}` can be served\n", service.name),
            Err(error) => mistakes.push(service.mistake(&error)),
        }
    }
    // A closed pipe, as with `| head`, is not an error.
    let _ = std::io::stdout().write_all(lines.as_bytes());
    for doubt in plan.doubts() {
        eprintln!("{path}:{}: warning: {}", doubt.line, doubt.message);
    }
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    for mistake in &mistakes {
        eprintln!("{path}:{}: {}", mistake.line, mistake.message);
    }
    Ok(match mistakes.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
