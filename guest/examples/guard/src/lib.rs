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
    "the arguments are `redis` or `postgres`, the server's address, and the commands to refuse";

/// Reads the arguments.
fn arrange() -> Result<(Upstream, Box<dyn Inspect>), String> {
    let mut words = env::args().into_iter();
    let protocol = words.next().ok_or(USAGE)?;
    let address = words.next().ok_or(USAGE)?;
    let parsed = address.parse();
    let server = Upstream::new(parsed.map_err(|_| format!("`{address}` is no address; {USAGE}"))?);
    let (mut tls, mut server_name, mut refused) = (false, None, Vec::new());
    while let Some(word) = words.next() {
        match &*word {
            "--tls" => tls = true,
            "--server-name" => {
                let name = words.next();
                server_name = Some(name.ok_or("`--server-name` needs the server's name")?);
            }
            _ => refused.push(word),
        }
    }
    let (server, protocols, inspect): (_, &[&str], Box<dyn Inspect>) = match &*protocol {
        "redis" => (server, &[], Box::new(redis::Commands::new(refused))),
        "postgres" => {
            let messages = postgres::Messages::new(refused, tls);
            let server = server.pipe_later().asking(&postgres::SSL_REQUEST, b"S");
            (server, &["postgresql"], Box::new(messages))
        }
        _ => return Err(USAGE.to_owned()),
    };
    let secured = server_name.map(|name| server.clone().tls(name, protocols));
    Ok((secured.unwrap_or(server), inspect))
}

/// Whether a word is one of these, in capitals or not.
fn is_one_of(word: &[u8], names: &[impl AsRef<[u8]>]) -> bool {
    let mut names = names.iter();
    names.any(|name| word.eq_ignore_ascii_case(name.as_ref()))
}
