//! `halfopen ctl`: orders to a running server, over its control socket.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::{Method, StatusCode};

use crate::args::{CtlArgs, Order};
use crate::control::client::attempt;
use crate::control::{State, Status, now};

/// How long to wait before an order is given again.
const AGAIN: Duration = Duration::from_millis(500);

pub(crate) fn ctl(args: CtlArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ask = |method, path: &str, body: &str| {
        runtime.block_on(attempt(&args.control, method, path, body.to_owned()))
    };
    let (status, answer) = match &args.order {
        Order::Status { .. } => ask(Method::GET, "/status", "")?,
        Order::Drain => ask(Method::POST, "/drain", "")?,
        Order::Upgrade { binary, wait } => {
            let binary = named(binary.as_deref())?;
            let until = Instant::now() + wait.unwrap_or_default();
            loop {
                let answer = ask(Method::POST, "/upgrade", &binary)?;
                if answer.0 != StatusCode::SERVICE_UNAVAILABLE || Instant::now() >= until {
                    break answer;
                }
                std::thread::sleep(AGAIN);
            }
        }
        Order::Reset { id } => ask(Method::POST, &format!("/connections/{id}/reset"), "")?,
        Order::Ban { peers, seconds } => {
            let seconds = seconds.as_secs_f64();
            let path = format!("/peers/{peers}/ban?seconds={seconds}");
            ask(Method::POST, &path, "")?
        }
        Order::Unban { peers } => ask(Method::DELETE, &format!("/peers/{peers}/ban"), "")?,
        Order::Bans => ask(Method::GET, "/bans", "")?,
    };
    if !status.is_success() {
        bail!("{}", answer.trim_end());
    }
    let shown = match args.order {
        Order::Status { json: false } => show(&serde_json::from_str(&answer)?, now()),
        Order::Bans if answer.is_empty() => "nobody is banned\n".to_owned(),
        _ => answer,
    };
    // A closed pipe, as with `| head`, is not an error.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The path of a binary, which does not depend on the folder that the server runs in.
fn named(binary: Option<&Path>) -> anyhow::Result<String> {
    let Some(binary) = binary else {
        return Ok(String::new());
    };
    let path = std::path::absolute(binary)?;
    let path = path.to_str().map(ToOwned::to_owned);
    path.with_context(|| format!("{} is not UTF-8", binary.display()))
}

/// The status at a time in seconds since 1970, for people.
fn show(status: &Status, now: u64) -> String {
    let mut text = format!(
        "process {}, version {}, {}\n",
        status.process, status.version, status.state
    );
    for service in &status.services {
        let addresses = service.addresses.join(", ");
        let open = service.connections;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {}: {open} connections, on {addresses}",
            service.name
        );
    }
    if status.earlier_connections > 0 {
        let open = status.earlier_connections;
        let _ = writeln!(text, "  {open} connections of versions that accept no more");
    }
    for one in &status.generations {
        let state = match one.state {
            State::Starting => "starting",
            State::Serving => "serving",
            State::Draining => "draining",
        };
        let (generation, process, time) =
            (one.generation, one.process, now.saturating_sub(one.since));
        let left = match one.connections {
            Some(open) => format!(", {open} connections"),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "generation {generation}: process {process}, {state} for {time} s{left}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::control::{Generation, Service};

    use super::*;

    #[test]
    fn the_status_names_every_process_and_service() {
        let status = Status {
            process: 7,
            version: "0.1.0".to_owned(),
            state: "accepts".to_owned(),
            services: vec![Service {
                name: "echo".to_owned(),
                addresses: vec!["127.0.0.1:1".to_owned(), "[::1]:2".to_owned()],
                connections: 3,
            }],
            earlier_connections: 1,
            generations: [
                (5, State::Draining, Some(2)),
                (7, State::Serving, Some(4)),
                (8, State::Starting, None),
            ]
            .into_iter()
            .zip(1..)
            .map(|((process, state, connections), generation)| Generation {
                process,
                generation,
                state,
                since: 100,
                connections,
            })
            .collect(),
        };
        assert_eq!(
            show(&status, 112),
            "process 7, version 0.1.0, accepts\n  \
             echo: 3 connections, on 127.0.0.1:1, [::1]:2\n  \
             1 connections of versions that accept no more\n\
             generation 1: process 5, draining for 12 s, 2 connections\n\
             generation 2: process 7, serving for 12 s, 4 connections\n\
             generation 3: process 8, starting for 12 s\n"
        );
    }
}
