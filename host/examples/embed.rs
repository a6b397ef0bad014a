//! Serves TCP through a component: the library in a program of your own.
//!
//! ```console
//! $ cargo run --example embed -- guest/dist/echo.wasm 127.0.0.1:0 --quiet
//! ```
//!
//! It prints the addresses it listens on, serves until Ctrl-C, and then lets the
//! connections finish.

use std::future::pending;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use halfopen::{Grants, Server, tcp};

const USAGE: &str = "usage: embed COMPONENT ADDRESS... [ARGS]";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let component: PathBuf = args.next().context(USAGE)?.into();
    let mut listeners = Vec::new();
    while let Some(address) = args.peek().and_then(|arg| arg.parse::<SocketAddr>().ok()) {
        let listener = tcp::bind(address, None);
        listeners.push(listener.with_context(|| format!("cannot listen on {address}"))?);
        args.next();
    }
    ensure!(!listeners.is_empty(), USAGE);

    let server = Server::builder()
        .grants(Grants::new().args(args).inherit_stdio())
        .grace(Duration::from_secs(5))
        .build(component)?;
    for listener in &listeners {
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    }
    let summary = server.run(listeners, ctrl_c()).await;
    eprintln!("served {} connections", summary.accepted);
    Ok(())
}

/// Resolves at Ctrl-C, or never if the signal cannot be caught.
async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        pending().await
    }
}
