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
/// How many readings of a device are kept.
const KEPT: usize = 20;
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
    key: String,
    store: Bucket,
}

impl Device {
    fn new(socket: &Socket) -> Self {
        socket.set_timeout(LOGIN);
        Device {
            framing: Framing::new(),
            session: None,
            _watching: None,
        }
    }

    /// Answers one message. An error is the last answer: the connection ends.
    fn answer(&mut self, socket: &Socket, text: &str) -> Result<String, String> {
        let request = message::parse(text).ok_or("not understood")?;
        match (request, &self.session) {
            (Request::Hello { name, token }, None) => {
                self.session = Some(Session::log_in(name, token)?);
                socket.set_timeout(idle());
                Ok("ok".to_owned())
            }
            (Request::Reading { number, values }, Some(session)) if !session.is_watcher() => {
                session.store(number, values)?;
                Ok(format!("ack {number}"))
            }
            (Request::Last, Some(session)) => Ok(format!("last {}", session.last()?)),
            (Request::Watch, Some(session)) if session.is_watcher() => {
                self.watch(socket)?;
                Ok("ok".to_owned())
            }
            (_, None) => Err("log in first".to_owned()),
            (_, Some(_)) => Err("not for you".to_owned()),
        }
    }

    fn watch(&mut self, socket: &Socket) -> Result<(), String> {
        let (watcher, framing) = (socket.clone(), self.framing.kind());
        let tell = move |delivery| {
            let text = match delivery {
                Delivery::Message(message) => text(Some(message.payload)),
                Delivery::Missed(count) => format!("missed {count}"),
                Delivery::Subscribed => return,
            };
            watcher.write(framing.frame(&text));
            if watcher.unsent() > BEHIND {
                watcher.reset();
            }
        };
        let watching = topics::subscribe(TELEMETRY, tell);
        self._watching = Some(watching.map_err(|error| error.to_string())?);
        Ok(())
    }
}

impl Session {
    /// Checks name and token against the file of the device in the folder `devices`.
    fn log_in(name: &str, token: &str) -> Result<Self, String> {
        let known = files::read(&format!("devices/{name}"));
        if !known.is_ok_and(|known| equal(known.trim_ascii(), token.as_bytes())) {
            return Err("unknown device or wrong token".to_owned());
        }
        Ok(Session {
            name: name.to_owned(),
            key: format!("readings/{name}"),
            store: state::open().map_err(|error| not_stored(name, &error))?,
        })
    }

    fn is_watcher(&self) -> bool {
        self.name.starts_with('@')
    }

    /// Stores a reading behind those that are kept, and publishes it, unless it is stored already:
    /// a device sends it again if it has missed the acknowledgement.
    fn store(&self, number: u64, values: &str) -> Result<(), String> {
        let Session { name, key, store } = self;
        let reading = format!("{number} {values}");
        // Another connection of the device may store at the same time; an old one, an old reading.
        let is_new = store.update(key, |readings| {
            let readings = text(readings);
            if number_of(&readings).is_some_and(|last| number <= last) {
                return None;
            }
            let count = readings.lines().count();
            let kept = readings.lines().skip((count + 1).saturating_sub(KEPT));
            Some(
                kept.chain([&*reading])
                    .collect::<Vec<_>>()
                    .join("\n")
                    .into_bytes(),
            )
        });
        if is_new.map_err(|error| not_stored(name, &error))? {
            // Without the grant there are no watchers.
            let _ = topics::publish(TELEMETRY, format!("{name} {reading}"));
        }
        Ok(())
    }

    /// The last reading that is stored.
    fn last(&self) -> Result<String, String> {
        let readings = self.store.get(&self.key);
        let readings = text(readings.map_err(|error| not_stored(&self.name, &error))?);
        Ok(readings.lines().last().unwrap_or("0").to_owned())
    }
}

/// What the gateway itself has written.
fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

/// The number of the last reading.
fn number_of(readings: &str) -> Option<u64> {
    readings.lines().last()?.split(' ').next()?.parse().ok()
}

impl Events for Device {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.framing.push(&chunk);
        while socket.is_writable()
            && let Some(text) = self.framing.next()
        {
            let answer = text.and_then(|text| self.answer(socket, &text));
            let text = answer.clone().unwrap_or_else(|why| format!("error: {why}"));
            socket.write(self.framing.kind().frame(&text));
            if answer.is_err() {
                socket.end();
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
    let place = arguments.iter().position(|argument| argument == "--idle");
    let seconds = place.and_then(|place| arguments.get(place + 1)?.parse().ok());
    seconds.map_or(IDLE, Duration::from_secs)
}

/// The device is to try again later; the operator learns why.
fn not_stored(name: &str, error: &state::Error) -> String {
    log!("{name}: not stored: {error}");
    "not stored; try again later".to_owned()
}

/// Compares in the same time whatever differs.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
