//! Random calls, as many as told, in whatever order: the host has to survive them.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use halfopen_guest::bindings::imports::halfopen::tcp::connections::Connection;
use halfopen_guest::bindings::imports::halfopen::tcp::listeners::Listener;
use halfopen_guest::bindings::imports::halfopen::tcp::options;
use halfopen_guest::bindings::imports::halfopen::tcp::outbound;
use halfopen_guest::bindings::imports::wit_stream;
use halfopen_guest::futures::future::{Either, join, select};
use halfopen_guest::time::sleep;
use halfopen_guest::wit_bindgen::rt::async_support::{StreamReader, StreamResult, StreamWriter};

use crate::{Ended, listen, said, told};

/// More than this is let go of again.
const MANY: usize = 16;

#[derive(Default)]
struct Heap {
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
    readers: Vec<StreamReader<u8>>,
    writers: Vec<StreamWriter<u8>>,
    futures: Vec<Ended>,
}

/// Plays `SEED,COUNT`.
pub(crate) async fn play(script: &str) -> Result<String, String> {
    let (seed, count) = script.split_once(',').ok_or("random=SEED,COUNT")?;
    let mut random = Rng::with_seed(seed.parse().map_err(told)?);
    let count: u32 = count.parse().map_err(told)?;
    let mut heap = Heap::default();
    let bound = listen(SocketAddr::from(([127, 0, 0, 1], 0)), None).map_err(said)?;
    heap.listeners.push(bound);
    for _ in 0..count {
        heap.act(&mut random).await?;
    }
    Ok(format!("{count} calls survived"))
}

impl Heap {
    async fn act(&mut self, random: &mut Rng) -> Result<(), String> {
        match random.u8(..20) {
            0 => {
                // One that fails, and one that does not.
                let taken = self.address(random);
                if listen(taken, None).is_ok() {
                    return Err("two listeners on one address".to_owned());
                }
                let backlog = random.u32(..3);
                let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(backlog));
                self.listeners.extend(listener);
            }
            // Both ends of a connection.
            1..=4 => {
                let listener = random.usize(..self.listeners.len());
                let listener = &self.listeners[listener];
                let to = listener.local_address().map_err(said)?;
                let both = Box::pin(join(outbound::connect(to), listener.accept()));
                // Another one that waits in the backlog may be accepted in its place.
                if let Some((connected, accepted)) = soon(both).await {
                    self.connections.extend(connected);
                    self.connections.extend(accepted);
                }
            }
            // Accepts, and changes its mind.
            5 => {
                let listener = &self.listeners[random.usize(..self.listeners.len())];
                let twice = Box::pin(join(listener.accept(), listener.accept()));
                if let Some((one, two)) = soon(twice).await {
                    self.connections.extend(one);
                    self.connections.extend(two);
                }
            }
            // Connects, and changes its mind at once, or to nobody.
            6 => {
                drop(Box::pin(outbound::connect(self.address(random).into())));
                let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
                let connected = soon(Box::pin(outbound::connect(nobody.into()))).await;
                if let Some(Ok(_)) = connected {
                    return Err("connected to nobody".to_owned());
                }
            }
            7..=8 => {
                if let Some(connection) = pick(&mut self.connections, random) {
                    let (reader, ended) = connection.read();
                    self.readers.push(reader);
                    self.futures.push(ended);
                    self.connections.push(connection);
                }
            }
            9..=10 => {
                if let Some(connection) = pick(&mut self.connections, random) {
                    // What is written may be what is read, from itself or another.
                    let reader = match pick(&mut self.readers, random) {
                        Some(reader) if random.bool() => reader,
                        _ => {
                            let (writer, reader) = wit_stream::new();
                            self.writers.push(writer);
                            reader
                        }
                    };
                    self.futures.push(connection.write(reader));
                    self.connections.push(connection);
                }
            }
            11..=12 => {
                if let Some(mut reader) = pick(&mut self.readers, random) {
                    let room = random.usize(..3) * random.usize(..100_000);
                    let read = soon(Box::pin(reader.read(Vec::with_capacity(room)))).await;
                    if !matches!(read, Some((StreamResult::Dropped, _))) {
                        self.readers.push(reader);
                    }
                }
            }
            13..=14 => {
                if let Some(mut writer) = pick(&mut self.writers, random) {
                    let bytes = vec![0; random.usize(..3) * random.usize(..100_000)];
                    let written = soon(Box::pin(writer.write(bytes))).await;
                    if !matches!(written, Some((StreamResult::Dropped, _))) {
                        self.writers.push(writer);
                    }
                }
            }
            15 => drop(pick(&mut self.readers, random)),
            16 => drop(pick(&mut self.writers, random)),
            17 => {
                if let Some(ended) = pick(&mut self.futures, random) {
                    // Awaited for a moment, or forgotten.
                    let _ = soon(Box::pin(ended.into_future())).await;
                }
            }
            18 => {
                if let Some(connection) = pick(&mut self.connections, random) {
                    let _ = options::set_no_delay(&connection, random.bool());
                    let _ = connection.local_address();
                    if random.bool() {
                        Connection::reset(connection);
                    }
                }
            }
            _ => {
                if self.listeners.len() > 1 {
                    drop(pick(&mut self.listeners, random));
                }
            }
        }
        let hoarded = self.connections.len() + self.readers.len() + self.writers.len();
        if hoarded > 3 * MANY {
            self.connections.truncate(MANY / 2);
            self.readers.truncate(MANY / 2);
            self.writers.truncate(MANY / 2);
            self.futures.truncate(MANY / 2);
        }
        Ok(())
    }

    fn address(&self, random: &mut Rng) -> SocketAddr {
        let listener = &self.listeners[random.usize(..self.listeners.len())];
        listener
            .local_address()
            .map_or(SocketAddr::from(([127, 0, 0, 1], 1)), Into::into)
    }
}

fn pick<T>(from: &mut Vec<T>, random: &mut Rng) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    let index = random.usize(..from.len());
    Some(from.swap_remove(index))
}

/// What comes of it within a moment; after that it is cancelled.
async fn soon<F: Future + Unpin>(future: F) -> Option<F::Output> {
    let limit = Box::pin(sleep(Duration::from_millis(2)));
    match select(future, limit).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
