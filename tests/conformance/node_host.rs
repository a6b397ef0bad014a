//! What Node cannot do as a host, with jco 1.35.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use halfopen_tests::client::Client;
use halfopen_tests::runner::{Binaries, Runner, guest_path, root};
use halfopen_tests::server::Server;

use crate::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "standalone-hangs-on-jco",
    rules: &[],
    runners: &[Runner::NodeHost],
    elsewhere: "a known fault of jco",
    run: hangs,
}];

/// A composed component listens on Node, and then does nothing: jco 1.35 does not get
/// on with calls between components while one is pending. So the services run there by
/// themselves. When this fails, the fault has been mended.
fn hangs(_: Runner, binaries: &Binaries) -> Result<()> {
    let node = binaries.node.as_deref().context("no node")?;
    let mut command = Command::new(node);
    command.arg(root().join("tests/node/command.mjs"));
    command.arg(guest_path("echo-standalone"));
    command.args(["--listen", "127.0.0.1:0"]);
    let server = Server::start(command, 1)?;
    let mut client = Client::connect(server.address())?;
    client.send(b"hi")?;
    client
        .silence(Duration::from_secs(3))
        .context("jco runs composed components now: make the standalones a runner of their own")
}
