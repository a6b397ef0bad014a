//! `halfopen check`: reports every mistake in a configuration file.

use std::io::Write;
use std::process::ExitCode;

use halfopen::Output;

use crate::args::CheckArgs;
use crate::args::process::ProcessArgs;
use crate::args::service::COMPONENT;
use crate::args::state::STATE;
use crate::asks::{Asked, asked};
use crate::config;

pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.display();
    let plan = match config::read(&args.config, &ProcessArgs::default())? {
        Ok(plan) => plan,
        Err(mistakes) => {
            let _ = writeln!(std::io::stderr(), "{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let stdout = Output::stdout();
    let stderr = Output::stderr();
    let mut mistakes = Vec::new();
    let mut lines = String::new();
    let mut warnings = String::new();
    for service in &plan.services {
        let loaded = service.args.server(
            None,
            stdout.clone(),
            stderr.clone(),
            None,
            None,
            |builder| builder,
        );
        match loaded {
            Ok(server) => {
                let (name, sharing) = (&service.name, service.args.sharing(&server));
                let state = service.args.state().described();
                let kept = match (&state, server.asks_for_state()) {
                    (Some(store), true) => format!(", state in {store}"),
                    _ => String::new(),
                };
                lines += &format!("{path}: `{name}` can be served, {sharing}{kept}\n");
                for Asked { ask, granted } in asked(server.interfaces(), service.args.asked()) {
                    if ask.certain && granted.is_none() {
                        let (what, flag) = (ask.what, ask.flag);
                        lines += &format!(
                            "{path}: `{name}` asks for {what}, and is not granted any: `{flag}`\n"
                        );
                    }
                }
                if let Some(doubt) = doubt(state.is_some(), server.asks_for_state()) {
                    let line = service.lines.of(STATE, 0);
                    warnings += &format!("{path}:{line}: warning: `{name}` {doubt}\n");
                }
                if let Some(contradiction) = server.contradiction() {
                    let line = service.lines.of(COMPONENT, 0);
                    warnings += &format!("{path}:{line}: warning: `{name}`: {contradiction}\n");
                }
            }
            Err(error) => mistakes.push(service.mistake(&error)),
        }
    }
    // A closed pipe, as with `| head`, is not an error.
    let _ = std::io::stdout().write_all(lines.as_bytes());
    for doubt in plan.doubts() {
        warnings += &format!("{path}:{}: warning: {}\n", doubt.line, doubt.message);
    }
    for warning in &plan.warnings {
        warnings += &format!("warning: {warning}\n");
    }
    let _ = std::io::stderr().write_all(warnings.as_bytes());
    for mistake in &mistakes {
        let _ = writeln!(
            std::io::stderr(),
            "{path}:{}: {}",
            mistake.line,
            mistake.message
        );
    }
    Ok(match mistakes.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What is odd about the state of a service.
fn doubt(granted: bool, asked: bool) -> Option<&'static str> {
    match (granted, asked) {
        (false, true) => {
            Some("asks for state (`wasi:keyvalue`), which it is denied: add `state = \"FILE\"`")
        }
        (true, false) => Some("has `state`, and does not ask for it"),
        _ => None,
    }
}
