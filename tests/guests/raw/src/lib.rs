//! A program that calls the primitives directly, without the SDK, for the tests of their
//! results: each argument is a call, and each result is printed.
//!
//! | argument | call |
//! |---|---|
//! | `listen=ADDR`, `backlog=N` | listens; sets the backlog of later `listen`s |
//! | `accept`, `accept-twice` | accepts; accepts twice at the same time |
//! | `accept-cancelled` | accepts three times at the same time, and gives up the second call |
//! | `connect=ADDR` | connects, replacing the current connection |
//! | `read`, `read-all`, `ready`, `drop-read` | takes the receiving direction; reads to its end; waits with a read of length 0; drops it |
//! | `write=TEXT`, `flood`, `finish`, `drop-write` | writes; writes until an error; ends the sending direction and awaits the result; drops both |
//! | `reset`, `drop` | resets, drops the connection; directions already taken stay |
//! | `read-again`, `write-again` | takes a direction a second time |
//! | `ended` | awaits the result of the receiving direction |
//! | `keep-alive`, `bad-keep-alive`, `no-delay` | sets an option |
//! | `hoard-listeners`, `hoard-connections=ADDR` | opens sockets until an error |
//! | `sleep` | waits 200 ms |
//! | `random=SEED,COUNT` | makes COUNT random calls, on connections to itself |
//! | `bytes=HEX` | makes the calls that the bytes encode |

mod accepting;
mod random;

use std::net::SocketAddr;

use halfopen_guest::bindings::imports::halfopen::tcp::connections::Connection;
use halfopen_guest::bindings::imports::halfopen::tcp::listeners::{ListenOptions, Listener};
use halfopen_guest::bindings::imports::halfopen::tcp::options;
use halfopen_guest::bindings::imports::halfopen::tcp::outbound;
use halfopen_guest::bindings::imports::wit_stream;
use halfopen_guest::wit_bindgen::rt::async_support::{
    FutureReader, StreamReader, StreamResult, StreamWriter,
};
use halfopen_guest::{Error, ErrorCode, env, log, program, time};

type Ended = FutureReader<Result<(), ErrorCode>>;

program!(main);

async fn main() -> Result<(), String> {
    let mut hands = Hands::default();
    for argument in env::args() {
        let (call, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let result = hands.call(call, value).await?;
        log!("{call}: {result}");
    }
    Ok(())
}

/// The handles that the program holds.
#[derive(Default)]
struct Hands {
    backlog: Option<u32>,
    listener: Option<Listener>,
    connection: Option<Connection>,
    receiving: Option<StreamReader<u8>>,
    received: Option<Ended>,
    sending: Option<StreamWriter<u8>>,
    sent: Option<Ended>,
}

impl Hands {
    async fn call(&mut self, call: &str, value: &str) -> Result<String, String> {
        let result = match call {
            "backlog" => {
                self.backlog = value.parse().ok();
                "set".to_owned()
            }
            "listen" => match listen(value.parse().map_err(text)?, self.backlog) {
                Ok(listener) => {
                    let bound = listener.local_address().map(SocketAddr::from);
                    self.listener = Some(listener);
                    bound.map_or_else(describe, |bound| bound.to_string())
                }
                Err(error) => describe(error),
            },
            "accept" => {
                let accepted = self.listener()?.accept().await;
                self.hold(accepted)
            }
            "accept-twice" => accepting::twice(self.listener()?).await,
            "accept-cancelled" => accepting::cancelled(self.listener()?).await?,
            "connect" => {
                let connected = outbound::connect(address(value)?.into()).await;
                self.hold(connected)
            }
            "read" => {
                let (receiving, received) = self.connection()?.read();
                self.receiving = Some(receiving);
                self.received = Some(received);
                "taken".to_owned()
            }
            "read-all" => {
                let stream = self.receiving.take().ok_or("nothing to read")?;
                format!("{} bytes", read_all(stream).await)
            }
            "ready" => {
                let stream = self.receiving.as_mut().ok_or("nothing to read")?;
                match stream.read(Vec::new()).await.0 {
                    StreamResult::Complete(length) => format!("{length} bytes taken"),
                    StreamResult::Dropped => "ended".to_owned(),
                    StreamResult::Cancelled => "cancelled".to_owned(),
                }
            }
            "drop-read" => {
                self.receiving = None;
                "dropped".to_owned()
            }
            "ended" => outcome(self.received.take()).await,
            "write" => self.write(value.into()).await?,
            "flood" => loop {
                let written = self.write(vec![b'x'; 1 << 20]).await?;
                if written != "ok" {
                    break written;
                }
            },
            "finish" => {
                self.sending()?;
                self.sending = None;
                outcome(self.sent.take()).await
            }
            "drop-write" => {
                self.sending = None;
                self.sent = None;
                "dropped".to_owned()
            }
            "reset" => {
                Connection::reset(self.connection.take().ok_or("no connection")?);
                "done".to_owned()
            }
            "drop" => {
                self.connection = None;
                self.listener = None;
                "done".to_owned()
            }
            "read-again" => {
                let (stream, ended) = self.connection()?.read();
                let bytes = read_all(stream).await;
                format!("{bytes} bytes, {}", outcome(Some(ended)).await)
            }
            "write-again" => {
                let (mut stream, reader) = wit_stream::new();
                let ended = self.connection()?.write(reader);
                let rest = stream.write_all(b"again".to_vec()).await;
                format!("{} bytes left, {}", rest.len(), outcome(Some(ended)).await)
            }
            "keep-alive" | "bad-keep-alive" => {
                let idle_time = if call == "keep-alive" {
                    1_000_000_000
                } else {
                    0
                };
                let value = options::KeepAlive {
                    idle_time,
                    interval: 1_000_000_000,
                    count: 1,
                };
                done(options::set_keep_alive(self.connection()?, Some(value)))
            }
            "no-delay" => done(options::set_no_delay(self.connection()?, true)),
            "hoard-listeners" => {
                let mut hoard = Vec::new();
                loop {
                    match listen(SocketAddr::from(([127, 0, 0, 1], 0)), None) {
                        Ok(listener) => hoard.push(listener),
                        Err(error) => break describe(error),
                    }
                }
            }
            "hoard-connections" => {
                let to = address(value)?;
                let mut hoard = Vec::new();
                loop {
                    match outbound::connect(to.into()).await {
                        Ok(connection) => hoard.push(connection),
                        Err(error) => break describe(error),
                    }
                }
            }
            "sleep" => {
                time::sleep(std::time::Duration::from_millis(200)).await;
                "done".to_owned()
            }
            "random" => random::play(value).await?,
            "bytes" => random::play_bytes(value).await?,
            other => return Err(format!("unknown call `{other}`; the source lists them")),
        };
        Ok(result)
    }

    /// Makes a new connection the current one.
    fn hold(&mut self, connection: Result<Connection, ErrorCode>) -> String {
        match connection {
            Ok(connection) => {
                let peer = peer(&connection);
                *self = Hands {
                    listener: self.listener.take(),
                    backlog: self.backlog,
                    connection: Some(connection),
                    ..Hands::default()
                };
                peer
            }
            Err(error) => describe(error),
        }
    }

    /// Writes all of `bytes`.
    async fn write(&mut self, bytes: Vec<u8>) -> Result<String, String> {
        let stream = self.sending()?;
        let rest = stream.write_all(bytes).await;
        if rest.is_empty() {
            return Ok("ok".to_owned());
        }
        // The host has dropped the reader; to write again would trap.
        self.sending = None;
        let error = outcome(self.sent.take()).await;
        Ok(format!("{error}, bytes left: {}", !rest.is_empty()))
    }

    /// The writer of the sending direction, which it takes if that was not done.
    fn sending(&mut self) -> Result<&mut StreamWriter<u8>, String> {
        if self.sending.is_none() {
            let (writer, reader) = wit_stream::new();
            self.sent = Some(self.connection()?.write(reader));
            self.sending = Some(writer);
        }
        self.sending
            .as_mut()
            .ok_or_else(|| "nothing to write to".to_owned())
    }

    fn listener(&self) -> Result<&Listener, String> {
        self.listener
            .as_ref()
            .ok_or_else(|| "no listener".to_owned())
    }

    fn connection(&self) -> Result<&Connection, String> {
        self.connection
            .as_ref()
            .ok_or_else(|| "no connection".to_owned())
    }
}

fn listen(address: SocketAddr, backlog: Option<u32>) -> Result<Listener, ErrorCode> {
    Listener::listen(address.into(), ListenOptions { backlog })
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(text)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn peer(connection: &Connection) -> String {
    match connection.remote_address() {
        Ok(address) => SocketAddr::from(address).to_string(),
        Err(error) => describe(error),
    }
}

/// The name of an error, and its message.
fn describe(error: ErrorCode) -> String {
    let error = Error::from(error);
    format!("{} ({error})", error.name())
}

fn done(result: Result<(), ErrorCode>) -> String {
    result.map_or_else(describe, |()| "ok".to_owned())
}

async fn outcome(ended: Option<Ended>) -> String {
    match ended {
        Some(ended) => done(ended.await),
        None => "nothing to await".to_owned(),
    }
}

async fn read_all(mut stream: StreamReader<u8>) -> usize {
    let mut total = 0;
    loop {
        let (result, bytes) = stream.read(Vec::with_capacity(64 * 1024)).await;
        total += bytes.len();
        if result == StreamResult::Dropped {
            return total;
        }
    }
}
