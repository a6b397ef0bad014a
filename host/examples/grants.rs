//! Grants a service everything that there is to grant, by the builder, one by one.
//!
//! ```console
//! $ cargo run --example grants -- guest/dist/monitor.wasm 127.0.0.1:0 example.com:443
//! ```
//!
//! It serves until Ctrl-C. Without the line of a grant, the service sees an error value, and the
//! program prints what was denied.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use halfopen::state::{Durability, StateStore};
use halfopen::tcp::Denied;
use halfopen::topics::Topics;
use halfopen::{Grants, HostRule, Isolation, Observer, Policy, Server, tcp};

const USAGE: &str = "usage: grants COMPONENT ADDRESS NAME:PORT...";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let component: PathBuf = args.next().context(USAGE)?.into();
    let address: SocketAddr = args.next().context(USAGE)?.parse().context(USAGE)?;
    let servers: Vec<String> = args.collect();

    // Where the service may connect: to names, and to what they have when it looks them up.
    let mut policy = Policy::deny_all();
    for server in &servers {
        policy = policy.allow_connect_name(server.parse::<HostRule>()?);
    }
    // A private address is granted by itself, whatever names it has.
    policy = policy.allow_connect("127.0.0.1:*".parse()?);

    let folder = std::env::current_dir()?;
    // What the service keeps lasts as long as this program.
    let kept = tempfile::tempdir()?;
    let state = StateStore::file(&kept.path().join("state"), Durability::default())?;
    let grants = Grants::new()
        .args(servers)
        .env("EVERY", "10")
        .dir_read_only(folder, "data")
        .policy(policy)
        .state(state)
        .topics(Topics::local())
        .connect_timeout(Duration::from_secs(5))
        .max_memory(64 << 20)
        .inherit_stdio();
    let server = Server::builder()
        .grants(grants)
        .isolation(Isolation::Shared)
        .keep_running(true)
        .observer(Denials)
        .build(component)?;

    let listener = tcp::bind(address, None)?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    server
        .run([listener], async { drop(tokio::signal::ctrl_c().await) })
        .await;
    Ok(())
}

/// Prints what the service tried to use and was not granted.
struct Denials;

impl Observer for Denials {
    fn denied(&self, denied: &Denied) {
        eprintln!("denied ({}): {denied}", denied.what());
    }
}
