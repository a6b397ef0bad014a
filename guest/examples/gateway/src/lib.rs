//! A gateway for devices: it acknowledges each reading once that is stored, and tells the
//! watchers of it.
//!
//! ```text
//! > hello boiler-7 s3cret
//! < ok
//! > 41 temperature=61.5,pressure=1.9
//! < ack 41
//! > last
//! < last 41 temperature=61.5,pressure=1.9
//! ```
//!
//! Each connection has an instance, which waits for the store by itself. `README.md` says what a
//! device and a watcher may send, and how to run the gateway.

mod framing;
mod message;

use std::time::Duration;

use framing::Framing;
use halfopen_guest::state::{self, Bucket};
use halfopen_guest::topics::{self, Delivery, Subscription};
use halfopen_guest::{Events, Socket, callbacks, env, files, log};
use message::Request;

callbacks!(Device::new, topics, isolation = connection);

/// The topic on which each reading is published.
const TELEMETRY: &str = "telemetry";
/// How many readings of a device are kept, beside the last one.
const KEPT: u64 = 100;
/// How long a device may take to log in, and how long it may be silent unless `--idle` says
/// otherwise.
const LOGIN: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
/// The most unsent bytes of a watcher: one that reads too slowly is dropped.
const BEHIND: usize = 1 << 20;

struct Device {
    framing: Framing,
    session: Option<Session>,
    /// Ends with the connection.
    _watching: Option<Subscription>,
}

/// A device that has logged in.
struct Session {
    name: String,
    store: Bucket,
    /// The last reading that is stored: its number and text.
    last: Option<(u64, String)>,
}

/// Ends the connection, with this answer before.
struct Refused(String);

impl Device {
    fn new(socket: &Socket) -> Self {
        socket.set_timeout(LOGIN);
        Device {
            framing: Framing::new(),
            session: None,
            _watching: None,
        }
    }

    /// Answers one message.
    fn answer(&mut self, socket: &Socket, text: &str) -> Result<String, Refused> {
        let request = message::parse(text).ok_or_else(|| refused("not understood"))?;
        match (request, &mut self.session) {
            (Request::Hello { name, token }, None) => {
                self.session = Some(Session::log_in(name, token)?);
                socket.set_timeout(idle());
                Ok("ok".to_owned())
            }
            (Request::Reading { number, values }, Some(session)) if !session.is_watcher() => {
                session.store(number, values)?;
                Ok(format!("ack {number}"))
            }
            (Request::Last, Some(session)) => Ok(match &session.last {
                Some((number, values)) => format!("last {number} {values}"),
                None => "last 0".to_owned(),
            }),
            (Request::Watch, Some(session)) if session.is_watcher() => {
                self.watch(socket)?;
                Ok("ok".to_owned())
            }
            (_, None) => Err(refused("log in first")),
            (_, Some(_)) => Err(refused("not for you")),
        }
    }

    fn watch(&mut self, socket: &Socket) -> Result<(), Refused> {
        let (watcher, framing) = (socket.clone(), self.framing.kind());
        let tell = move |delivery| {
            let text = match delivery {
                Delivery::Message(message) => {
                    String::from_utf8_lossy(&message.payload).into_owned()
                }
                Delivery::Missed(count) => format!("missed {count}"),
                Delivery::Subscribed => return,
            };
            watcher.write(framing.frame(&text));
            if watcher.unsent() > BEHIND {
                watcher.reset();
            }
        };
        let watching = topics::subscribe(TELEMETRY, tell);
        self._watching = Some(watching.map_err(|error| refused(&error.to_string()))?);
        Ok(())
    }
}

impl Session {
    /// Checks name and token against the file of the device in the folder `devices`.
    fn log_in(name: &str, token: &str) -> Result<Self, Refused> {
        let known = files::read(&format!("devices/{name}"));
        if !known.is_ok_and(|known| equal(known.trim_ascii(), token.as_bytes())) {
            return Err(refused("unknown device or wrong token"));
        }
        let read = || -> Result<(Bucket, Option<Vec<u8>>), state::Error> {
            let store = state::open()?;
            let last = store.get(&format!("last/{name}"))?;
            Ok((store, last))
        };
        let (store, last) = read().map_err(|error| not_stored(name, &error))?;
        let last = last.and_then(|last| {
            let last = String::from_utf8(last).ok()?;
            let (number, values) = last.split_once(' ')?;
            Some((number.parse().ok()?, values.to_owned()))
        });
        Ok(Session {
            name: name.to_owned(),
            store,
            last,
        })
    }

    fn is_watcher(&self) -> bool {
        self.name.starts_with('@')
    }

    /// Stores a reading, and publishes it. A device sends a reading again if it has missed the
    /// acknowledgement: that is acknowledged again.
    fn store(&mut self, number: u64, values: &str) -> Result<(), Refused> {
        if self.last.as_ref().is_some_and(|(last, _)| number <= *last) {
            return Ok(());
        }
        let Session { name, store, .. } = self;
        let reading = format!("{number} {values}");
        let keys = [
            format!("last/{name}"),
            format!("reading/{name}/{}", number % KEPT),
        ];
        store
            .set_many(keys.map(|key| (key, reading.clone())))
            .map_err(|error| not_stored(name, &error))?;
        // Without the grant there are no watchers.
        let _ = topics::publish(TELEMETRY, format!("{name} {reading}"));
        self.last = Some((number, values.to_owned()));
        Ok(())
    }
}

impl Events for Device {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.framing.push(&chunk);
        while socket.is_writable() {
            let Some(text) = self.framing.next() else {
                return;
            };
            let answer = text
                .map_err(refused)
                .and_then(|text| self.answer(socket, &text));
            match answer {
                Ok(answer) => _ = socket.write(self.framing.kind().frame(&answer)),
                Err(Refused(why)) => {
                    socket.write(self.framing.kind().frame(&format!("error: {why}")));
                    socket.end();
                }
            }
        }
    }

    fn timeout(&mut self, socket: &Socket) {
        // RST: the device knows that something is lost.
        socket.reset();
    }
}

/// How long a device may be silent.
fn idle() -> Duration {
    let arguments = env::args();
    let mut after = arguments
        .iter()
        .skip_while(|argument| *argument != "--idle");
    let seconds = after.nth(1).and_then(|seconds| seconds.parse().ok());
    seconds.map_or(IDLE, Duration::from_secs)
}

fn refused(why: &str) -> Refused {
    Refused(why.to_owned())
}

/// The device is to try again later; the operator learns why.
fn not_stored(name: &str, error: &state::Error) -> Refused {
    log!("{name}: not stored: {error}");
    refused("not stored; try again later")
}

/// Compares in the same time whatever differs.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
