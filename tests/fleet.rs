//! A fleet on a real engine: three Docker nodes on one machine, joined into a Swarm, with the
//! stack of `host/packaging/swarm` as it is. Clients keep long connections and short ones through
//! HAProxy, while the component and the binary are replaced, a node is drained, a process is
//! upgraded in place, a node is cut off, and a node dies. The clients count what they see.
//!
//! Everything lives in namespaces that the test makes, and ends with its process. It needs root,
//! `dockerd` and `haproxy`, and runs only with HALFOPEN_FLEET=1: once in the clear, and once under
//! TLS, some seven minutes each. HALFOPEN_FLEET_BINARY names another binary than that of the
//! profile, and HALFOPEN_FLEET_EVENTS the events, such as `346`.

#![allow(clippy::print_stdout, reason = "a test prints what it measured")]

#[path = "fleet/balancer.rs"]
mod balancer;
#[path = "fleet/clients.rs"]
mod clients;
#[path = "fleet/cost.rs"]
mod cost;
#[path = "fleet/counts.rs"]
mod counts;
#[path = "fleet/events.rs"]
mod events;
#[path = "fleet/images.rs"]
mod images;
#[path = "fleet/inside.rs"]
mod inside;
#[path = "fleet/link.rs"]
mod link;
#[path = "fleet/nodes.rs"]
mod nodes;
#[path = "fleet/outside.rs"]
mod outside;
#[path = "fleet/stack.rs"]
mod stack;

use std::env;
use std::process::ExitCode;

use halfopen_tests::each::trial;

/// How the clients' connections are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Clear,
    Tls,
}

impl Security {
    fn name(self) -> &'static str {
        match self {
            Security::Clear => "clear",
            Security::Tls => "tls",
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // One fleet takes all that the machine has.
    arguments.test_threads = Some(1);
    if env::var_os("HALFOPEN_FLEET").is_none() {
        println!(
            "!!! Only with HALFOPEN_FLEET=1: a fleet of three Docker nodes (fourteen minutes)"
        );
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    }
    let trials = [Security::Clear, Security::Tls].map(|security| {
        trial(security.name().to_owned(), move || {
            match env::var_os(outside::FOLDER) {
                Some(folder) => inside::run(folder.as_ref(), security),
                None => outside::run(security),
            }
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}
