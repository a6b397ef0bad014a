//! `halfopen serve`, and `halfopen` alone.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use halfopen::{Output, Server, Source};
use tokio::net::TcpListener;

use super::address::listen_error;
use super::args::{IsolationArg, ServeArgs};
use super::signals::Signals;

/// The service that runs when none is named.
const ECHO: &[u8] = include_bytes!("../../dist/echo.wasm");

/// How long what was printed may take to be written, at the end.
const FLUSH: Duration = Duration::from_secs(1);

pub(super) fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(serve_until_signalled(args));
    runtime.shutdown_background();
    done
}

async fn serve_until_signalled(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (stdout, written) = Output::stdout();
    let (stderr, errors_written) = Output::stderr();
    let (name, source) = match &args.component {
        Some(path) => (name_of(path), Source::from(path.as_path())),
        None => ("echo".to_owned(), Source::from(ECHO)),
    };
    let mut builder = Server::builder()
        .name(&name)
        .args(args.args)
        .isolation(args.isolation.into())
        .max_connections(args.max_connections)
        .grace(args.grace)
        .policy(args.network.policy())
        .max_memory((args.guest.max_memory as usize) << 20)
        .max_compute(args.max_compute)
        .allow_precompiled(args.guest.allow_precompiled)
        .cache(!args.guest.no_cache)
        .stdout(stdout)
        .stderr(stderr);
    if let Some(workers) = args.workers {
        ensure!(
            matches!(args.isolation, IsolationArg::Shared),
            "`--workers` spreads connections over instances that have many: add `--isolation shared`"
        );
        builder = builder.workers(workers);
    }
    for (name, value) in args.guest.env {
        builder = builder.env(name, value);
    }
    let server = builder
        .build(source)
        .with_context(|| match &args.component {
            Some(path) => format!("cannot serve `{}`", path.display()),
            None => "cannot serve the built-in echo".to_owned(),
        })?;
    let listeners = listen(&args.listen)?;
    let first = print_addresses(&listeners)?;
    if let (None, Some(address)) = (&args.component, first) {
        eprintln!(
            "halfopen: serving the built-in echo; {}",
            how_to_try(address)
        );
    }

    let grace = args.grace;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let running = server.run(listeners, async {
        // The sender is not dropped while the server runs.
        let _ = stopped.await;
    });
    tokio::pin!(running);
    let summary = tokio::select! {
        summary = &mut running => summary,
        () = signals.next() => {
            let _ = stop.send(());
            eprintln!(
                "halfopen: stopping; connections have {} s to finish, and a second signal ends them at once",
                grace.as_secs_f64()
            );
            tokio::select! {
                summary = &mut running => summary,
                () = signals.next() => {
                    eprintln!("halfopen: stopped at once");
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    };
    if summary.aborted > 0 {
        eprintln!(
            "halfopen: {} of {} connections did not finish within {} s and were reset",
            summary.aborted,
            summary.accepted,
            grace.as_secs_f64()
        );
    }
    written.wait(FLUSH).await;
    errors_written.wait(FLUSH).await;
    Ok(ExitCode::SUCCESS)
}

fn listen(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    addresses
        .iter()
        .map(|&address| {
            halfopen::tcp::bind(address, None).map_err(|error| listen_error(address, &error))
        })
        .collect()
}

/// Prints where it listens, before anything else is printed, and returns the first
/// address.
fn print_addresses(listeners: &[TcpListener]) -> anyhow::Result<Option<SocketAddr>> {
    let mut first = None;
    let mut lines = String::new();
    for listener in listeners {
        let address = listener.local_addr()?;
        first.get_or_insert(address);
        lines += &format!("{address}\n");
    }
    let mut stdout = io::stdout();
    // Nobody may be reading; that is no reason not to serve.
    let _ = stdout
        .write_all(lines.as_bytes())
        .and_then(|()| stdout.flush());
    Ok(first)
}

fn how_to_try(address: SocketAddr) -> String {
    format!(
        "try it: printf 'hi' | nc -N {} {}",
        address.ip(),
        address.port()
    )
}

/// The name of a component among its own arguments: that of its file.
pub(super) fn name_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
