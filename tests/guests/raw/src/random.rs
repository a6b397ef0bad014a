//! Arbitrary calls in arbitrary order, which the host has to survive.

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

use crate::{Ended, describe, listen, text};

/// A bound on the handles of each kind; beyond it, some are dropped.
const MANY: usize = 16;

/// The handles that the calls have made so far.
#[derive(Default)]
struct Heap {
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
    readers: Vec<StreamReader<u8>>,
    writers: Vec<StreamWriter<u8>>,
    futures: Vec<Ended>,
}

/// The source of decisions.
enum Source {
    /// A generator, and the number of calls left.
    Seeded(Rng, u32),
    /// Bytes, until they are used up.
    Given(std::vec::IntoIter<u8>),
}

impl Source {
    /// Whether to make another call.
    fn goes_on(&mut self) -> bool {
        match self {
            Source::Seeded(_, left) => {
                let more = *left > 0;
                *left = left.saturating_sub(1);
                more
            }
            Source::Given(bytes) => bytes.len() > 0,
        }
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        match self {
            Source::Seeded(random, _) => random.usize(..end),
            Source::Given(bytes) => {
                let mut next = || usize::from(bytes.next().unwrap_or(0));
                let number = if end > 256 {
                    next() << 8 | next()
                } else {
                    next()
                };
                // Every number in the range is possible, though not equally likely.
                number * (end / 65_536 + 1) % end
            }
        }
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// Makes the random calls of `SEED,COUNT`.
pub(crate) async fn play(script: &str) -> Result<String, String> {
    let (seed, count) = script.split_once(',').ok_or("random=SEED,COUNT")?;
    let random = Rng::with_seed(seed.parse().map_err(text)?);
    let count: u32 = count.parse().map_err(text)?;
    act_all(Source::Seeded(random, count)).await?;
    Ok(format!("{count} calls survived"))
}

/// Makes the calls that bytes, given in hexadecimal, encode.
pub(crate) async fn play_bytes(script: &str) -> Result<String, String> {
    let bytes = (0..script.len() / 2)
        .map(|index| u8::from_str_radix(script.get(2 * index..2 * index + 2).unwrap_or(""), 16))
        .collect::<Result<Vec<_>, _>>()
        .map_err(text)?;
    act_all(Source::Given(bytes.into_iter())).await?;
    Ok("survived".to_owned())
}

async fn act_all(mut source: Source) -> Result<(), String> {
    let mut heap = Heap::default();
    let bound = listen(SocketAddr::from(([127, 0, 0, 1], 0)), None).map_err(describe)?;
    heap.listeners.push(bound);
    while source.goes_on() {
        heap.act(&mut source).await?;
    }
    Ok(())
}

impl Heap {
    async fn act(&mut self, random: &mut Source) -> Result<(), String> {
        match random.below(20) {
            0 => {
                // A call that has to fail, and a call that may succeed.
                let taken = self.address(random);
                if listen(taken, None).is_ok() {
                    return Err("two listeners on one address".to_owned());
                }
                let backlog = random.below(3) as u32;
                let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(backlog));
                self.listeners.extend(listener);
            }
            // Connects to itself.
            1..=4 => {
                let listener = random.below(self.listeners.len());
                let listener = &self.listeners[listener];
                let to = listener.local_address().map_err(describe)?;
                let both = Box::pin(join(outbound::connect(to), listener.accept()));
                // The accepted connection may be another one, from the backlog.
                if let Some((connected, accepted)) = soon(both).await {
                    self.connections.extend(connected);
                    self.connections.extend(accepted);
                }
            }
            // Accepts, and cancels if nothing arrives.
            5 => {
                let listener = &self.listeners[random.below(self.listeners.len())];
                let twice = Box::pin(join(listener.accept(), listener.accept()));
                if let Some((one, two)) = soon(twice).await {
                    self.connections.extend(one);
                    self.connections.extend(two);
                }
            }
            // Connects and cancels at once; connects to a port where nothing listens.
            6 => {
                drop(Box::pin(outbound::connect(self.address(random).into())));
                let unused = SocketAddr::from(([127, 0, 0, 1], 1));
                let connected = soon(Box::pin(outbound::connect(unused.into()))).await;
                if let Some(Ok(_)) = connected {
                    return Err("connected to an unused port".to_owned());
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
                    // The data to write may be data that this or another connection reads.
                    let reader = match pick(&mut self.readers, random) {
                        Some(reader) if random.yes() => reader,
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
                    let room = random.below(3) * random.below(100_000);
                    let read = soon(Box::pin(reader.read(Vec::with_capacity(room)))).await;
                    if !matches!(read, Some((StreamResult::Dropped, _))) {
                        self.readers.push(reader);
                    }
                }
            }
            13..=14 => {
                if let Some(mut writer) = pick(&mut self.writers, random) {
                    let bytes = vec![0; random.below(3) * random.below(100_000)];
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
                    // Awaits the result for a moment, then drops it.
                    let _ = soon(Box::pin(ended.into_future())).await;
                }
            }
            18 => {
                if let Some(connection) = pick(&mut self.connections, random) {
                    let _ = options::set_no_delay(&connection, random.yes());
                    let _ = connection.local_address();
                    if random.yes() {
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

    fn address(&self, random: &mut Source) -> SocketAddr {
        let listener = &self.listeners[random.below(self.listeners.len())];
        listener
            .local_address()
            .map_or(SocketAddr::from(([127, 0, 0, 1], 1)), Into::into)
    }
}

fn pick<T>(from: &mut Vec<T>, random: &mut Source) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    let index = random.below(from.len());
    Some(from.swap_remove(index))
}

/// Returns the future's output if it is ready within 2 ms; cancels it otherwise.
async fn soon<F: Future + Unpin>(future: F) -> Option<F::Output> {
    let limit = Box::pin(sleep(Duration::from_millis(2)));
    match select(future, limit).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
