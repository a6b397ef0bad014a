//! A service in await style that asks for every grant: for the tests of what is granted and
//! denied. `asker` is its twin in callback style.
//!
//! A client sends lines, see `answer`; each answer is a line.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use halfopen_guest::{
    Connection, Error, Events, Options, Socket, background, env, files, lookup, service, time,
};

service!(handle, isolation = shared);
background!(run);

thread_local! {
    /// How often the service has been started, and how often it has waited since.
    static STARTS: Cell<u32> = const { Cell::new(0) };
    static TICKS: Cell<u32> = const { Cell::new(0) };
}

async fn run() -> Result<(), String> {
    STARTS.set(STARTS.get() + 1);
    match env::var("TRAP").as_deref() {
        Some("start") => panic!("as asked"),
        Some("error") => return Err("as asked".to_owned()),
        _ => {}
    }
    loop {
        time::sleep(Duration::from_millis(10)).await;
        TICKS.set(TICKS.get() + 1);
        if env::var("TRAP").as_deref() == Some("tick") {
            panic!("as asked");
        }
    }
}

async fn handle(connection: Connection) -> io::Result<()> {
    if env::var("SERVE").is_some() {
        let options = Options::default().timeout(Duration::from_millis(50));
        connection.serve(options, |_| Idle).await;
        return Ok(());
    }
    let (receive, mut send) = connection.split();
    let mut lines = receive.lines();
    while let Some(line) = lines.next().await {
        let line = line?;
        if line == "idle" {
            break;
        }
        send.write_all((answer(&line).await + "\n").as_bytes())
            .await?;
    }
    // Gives up on a client that says nothing.
    let mut receive = lines.into_inner();
    let idle = time::timeout(Duration::from_millis(50), receive.read(&mut [0])).await;
    if let Err(error) = idle {
        send.write_all(format!("error {:?}\n", error.kind()).as_bytes())
            .await?;
    }
    send.close().await
}

/// Says when a connection is idle, and changes the time when it gets data.
struct Idle;

impl Events for Idle {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        socket.set_timeout(Duration::from_millis(100));
        socket.write(chunk);
    }

    fn timeout(&mut self, socket: &Socket) {
        socket.write("idle\n");
    }
}

async fn answer(line: &str) -> String {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    match words[..] {
        ["connect", name, port] => {
            connected(Connection::connect_to_name(name, port.parse().unwrap_or(0)).await)
        }
        ["address", address] => {
            connected(Connection::connect(address.parse().expect("an address")).await)
        }
        ["lookup", name] => match lookup(name).await {
            Ok(found) => format!("found {found:?}"),
            Err(error) => failed(&error),
        },
        ["read", path] => {
            told(files::read(path).map(|data| format!("data {}", String::from_utf8_lossy(&data))))
        }
        ["write", path, text] => told(files::write(path, text).map(|()| "written".to_owned())),
        ["list", path] => told(files::list(path).map(|mut names| {
            names.sort();
            format!("names {}", names.join(","))
        })),
        ["arguments"] => format!("arguments {}", env::args().join(",")),
        ["variable", name] => format!("variable {:?}", env::var(name)),
        ["starts"] => format!("starts {}", STARTS.get()),
        ["ticks"] => format!("ticks {}", TICKS.get()),
        ["sleep", milliseconds] => {
            let time = milliseconds.parse().expect("a number");
            time::sleep(Duration::from_millis(time)).await;
            "slept".to_owned()
        }
        _ => format!("unknown {line}"),
    }
}

fn connected(connection: Result<Connection, Error>) -> String {
    match connection.and_then(|connection| connection.peer_addr()) {
        Ok(peer) => format!("connected {peer}"),
        Err(error) => failed(&error),
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
