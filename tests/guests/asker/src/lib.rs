//! A service in callback style that asks for every grant: for the tests of what is granted and
//! denied. `inquirer` is its twin in await style.
//!
//! A client sends lines, see `Client::line`; each answer is a line.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use halfopen_guest::{Error, Events, LineBuffer, Socket, callbacks, env, files, starting};

callbacks!(Client::new, timers, isolation = shared);
starting!(begin);

thread_local! {
    /// How often the service has been started, and its timer has fired.
    static STARTS: Cell<u32> = const { Cell::new(0) };
    static TICKS: Cell<u32> = const { Cell::new(0) };
}

fn begin() {
    STARTS.set(STARTS.get() + 1);
    assert_ne!(env::var("TRAP").as_deref(), Some("start"));
    let tick = || {
        TICKS.set(TICKS.get() + 1);
        if env::var("TRAP").as_deref() == Some("tick") {
            halfopen_guest::log!("tick");
            panic!("as asked");
        }
    };
    if let Some(timer) = callbacks::set_interval(Duration::from_millis(10), tick) {
        timer.forget();
    }
}

struct Client(LineBuffer);

impl Client {
    fn new(_: &Socket) -> Self {
        Client(LineBuffer::new())
    }

    fn line(&mut self, socket: &Socket, line: &str) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let answer = match words[..] {
            ["connect", name, port] => {
                let begun = callbacks::connect_to_name(name, port.parse().unwrap_or(0), |_| {
                    Target(socket.clone())
                });
                begun.map_or_else(|error| failed(&error), |_| "begun".to_owned())
            }
            ["address", address] => {
                let begun = callbacks::connect(address.parse().expect("an address"), |_| {
                    Target(socket.clone())
                });
                begun.map_or_else(|error| failed(&error), |_| "begun".to_owned())
            }
            ["read", path] => told(
                files::read(path).map(|data| format!("data {}", String::from_utf8_lossy(&data))),
            ),
            ["write", path, text] => told(files::write(path, text).map(|()| "written".to_owned())),
            ["list", path] => told(files::list(path).map(|mut names| {
                names.sort();
                format!("names {}", names.join(","))
            })),
            ["arguments"] => format!("arguments {}", env::args().join(",")),
            ["variable", name] => format!("variable {:?}", env::var(name)),
            ["starts"] => format!("starts {}", STARTS.get()),
            ["ticks"] => format!("ticks {}", TICKS.get()),
            _ => format!("unknown {line}"),
        };
        socket.write(answer + "\n");
    }
}

fn failed(error: &Error) -> String {
    match error.code() {
        halfopen_guest::ErrorCode::Other(Some(text)) => format!("error {text}"),
        _ => format!("error {}", error.name()),
    }
}

fn told(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("error {:?}", error.kind()))
}

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.0.push(&chunk);
        while let Some(Ok(line)) = self.0.next_line() {
            self.line(socket, &line);
        }
    }
}

/// A connection that a client has asked for.
struct Target(Socket);

impl Events for Target {
    fn connect(&mut self, socket: &Socket) {
        let peer = socket.peer_addr().map(|peer| peer.to_string());
        self.0
            .write(format!("connected {}\n", peer.unwrap_or_default()));
        socket.end();
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        self.0.write(failed(error) + "\n");
    }
}
