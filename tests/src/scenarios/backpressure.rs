//! ESTABLISHED, with a closed window: an end that does not read holds up the other end, and
//! nobody else.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Groups, MEBIBYTE, QUIET, echo, pass};
use crate::client::{Client, End};
use crate::scenario::Play::Code;
use crate::stage::Stage;

pub(super) const SCENARIOS: Groups = &[&[
    echo(
        "backpressure",
        &["R5", "W6", "K6"],
        Code(|stage| {
            let mut client = Client::connect(stage.server.address())?;
            let taken = client.fill(3, 64 * MEBIBYTE)?;
            client.drain(3, taken)
        }),
    )
    .with(QUIET)
    .without_node(),
    echo(
        "slow-readers-and-writers",
        &["E3", "W6"],
        Code(slow_clients),
    )
    .with(QUIET)
    .without_node(),
    pass("passed-through-slowly", &["W9", "W6"], Code(slow_clients)),
]];

/// Clients that send and read byte by byte, or do not read at all, get all their bytes and
/// hold up nobody.
fn slow_clients(stage: &Stage<'_>) -> Result<()> {
    let address = stage.server.address();
    let mut stuck: Vec<_> = (0..8)
        .map(|_| Client::connect(address))
        .collect::<Result<_>>()?;
    // At the same time, because each takes seconds until nothing moves any more.
    let filled = thread::scope(|scope| {
        let filling: Vec<_> = stuck
            .iter_mut()
            .map(|client| scope.spawn(|| client.fill(1, 64 * MEBIBYTE)))
            .collect();
        filling
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    let slow: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || -> Result<()> {
                let mut client = Client::connect(address)?;
                for byte in 0..50 {
                    client.send(&[byte])?;
                    thread::sleep(Duration::from_millis(5));
                }
                for byte in 0..50 {
                    ensure!(client.receive(1)? == [byte]);
                    thread::sleep(Duration::from_millis(5));
                }
                client.fin()?;
                ensure!(client.end()? == (Vec::new(), End::Fin));
                Ok(())
            })
        })
        .collect();
    for seed in 0..4 {
        Client::connect(address)?.exchange(4 * MEBIBYTE, seed)?;
    }
    for client in slow {
        client.join().expect("a client does not panic")?;
    }
    for (client, filled) in stuck.iter_mut().zip(filled) {
        client.drain(1, filled)?;
    }
    Ok(())
}
