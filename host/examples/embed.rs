//! A program of its own that serves TCP through a component: the library instead
//! of the `halfopen` binary.
//!
//! ```console
//! $ cargo run --example embed -- guest/dist/echo.wasm 127.0.0.1:0 --quiet
//! ```
//!
//! It prints the addresses it listens on, serves until Ctrl-C, and then lets
//! the connections finish.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use halfopen::{Output, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let usage = "usage: embed COMPONENT ADDRESS... [ARGS]";
    let component: PathBuf = args.next().context(usage)?.into();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    while let Some(address) = args.peek().and_then(|arg| arg.parse().ok()) {
        addresses.push(address);
        args.next();
    }
    anyhow::ensure!(!addresses.is_empty(), usage);

    let (stdout, written) = Output::stdout();
    let (stderr, _) = Output::stderr();
    let server = Server::builder()
        .args(args)
        .grace(Duration::from_secs(5))
        .stdout(stdout.clone())
        .stderr(stderr)
        .build(component)?;
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = halfopen::tcp::bind(address, None)
            .with_context(|| format!("cannot listen on {address}"))?;
        stdout.line(&listener.local_addr()?.to_string()).await;
        listeners.push(listener);
    }
    drop(stdout);

    let summary = server.run(listeners, ctrl_c()).await;
    written.wait(Duration::from_secs(1)).await;
    eprintln!("served {} connections", summary.accepted);
    Ok(())
}

/// Resolves at Ctrl-C, or never if that cannot be caught.
async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
