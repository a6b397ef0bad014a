//! `halfopen ctl`: orders to a running server, over its control socket.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use hyper::Method;

use crate::args::{CtlArgs, Order};
use crate::control::Status;
use crate::control::client::ask;

pub(crate) fn ctl(args: CtlArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let without = |method, path: &str| (method, path.to_owned(), String::new());
    let (method, path, body) = match &args.order {
        Order::Status { .. } => without(Method::GET, "/status"),
        Order::Drain => without(Method::POST, "/drain"),
        Order::Upgrade { binary } => {
            let body = named(binary.as_deref())?;
            (Method::POST, "/upgrade".to_owned(), body)
        }
        Order::Reset { id } => without(Method::POST, &format!("/connections/{id}/reset")),
        Order::Ban { peers, seconds } => {
            let seconds = seconds.as_secs_f64();
            without(
                Method::POST,
                &format!("/peers/{peers}/ban?seconds={seconds}"),
            )
        }
        Order::Unban { peers } => without(Method::DELETE, &format!("/peers/{peers}/ban")),
        Order::Bans => without(Method::GET, "/bans"),
    };
    let answer = runtime.block_on(ask(&args.control, method, &path, body))?;
    let shown = match args.order {
        Order::Status { json: false } => show(&serde_json::from_str(&answer)?),
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

/// The status, for people.
fn show(status: &Status) -> String {
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
    for process in &status.draining {
        let _ = writeln!(text, "process {process} drains");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::control::Service;

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
            draining: vec![5, 6],
        };
        assert_eq!(
            show(&status),
            "process 7, version 0.1.0, accepts\n  \
             echo: 3 connections, on 127.0.0.1:1, [::1]:2\n  \
             1 connections of versions that accept no more\n\
             process 5 drains\nprocess 6 drains\n"
        );
    }
}
