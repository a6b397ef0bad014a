//! Stands before a Redis or PostgreSQL server, and refuses the commands that its arguments name:
//! `redis 127.0.0.1:6379 FLUSHALL CONFIG`, or `postgres 127.0.0.1:5432 DROP DELETE`.
//!
//! It reads what clients send. In the place of a refused command the server gets one that it
//! answers by an error, so that every answer comes from the server, in its order, and the host
//! pipes the answers to the client.

mod postgres;
mod redis;
mod sql;

use halfopen_guest::callbacks::inspected::{Inspect, Inspected, Upstream};
use halfopen_guest::{callbacks, env};

callbacks!(|client| Inspected::new(client, arrange), secure);

const USAGE: &str =
    "the arguments are redis|postgres ADDRESS [--tls] [--server-name NAME] COMMAND...";

/// Reads the arguments.
fn arrange() -> Result<(Upstream, Box<dyn Inspect>), String> {
    let mut words = env::args().into_iter();
    let protocol = words.next().ok_or(USAGE)?;
    let word = words.next().ok_or(USAGE)?;
    let address = word.parse();
    let address = address.map_err(|_| format!("`{word}` is no address; {USAGE}"))?;
    let mut server = Upstream::new(address);
    let (mut tls, mut refused) = (false, Vec::new());
    while let Some(word) = words.next() {
        match &*word {
            "--tls" => tls = true,
            "--server-name" => server = server.tls(words.next().ok_or(USAGE)?),
            _ => refused.push(word.to_ascii_uppercase()),
        }
    }
    match &*protocol {
        "redis" => Ok((server, Box::new(redis::inspect(refused)))),
        "postgres" => {
            let server = server.asking(postgres::SSL_REQUEST, b"S").pipe_later();
            let inspect = postgres::inspect(refused, tls);
            Ok((server.protocols(&["postgresql"]), Box::new(inspect)))
        }
        _ => Err(USAGE.to_owned()),
    }
}
