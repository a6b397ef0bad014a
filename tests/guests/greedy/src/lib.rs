//! A service that takes more than its connection needs, for the tests of what bounds it. The
//! first line of a connection is a command:
//!
//! | command | what the service does |
//! |---|---|
//! | `leave` | drops the connection and goes on |
//! | `upstream PORT` | connects to a port of 127.0.0.1, answers `connected`, echoes, and waits for data from there; prints how that ends |
//! | `orphan PORT` | the same, but drops its connection after the answer |
//! | `connect PORT` | connects there until it fails, answers how often it did and why it failed, and keeps the connections |
//! | `listen` | listens on free ports of 127.0.0.1 until it fails, answers the same, and keeps the listeners |
//! | `streams N` | makes N streams, answers `made`, and keeps them |
//! | `compute MILLISECONDS` | computes without waiting, and answers `computed` |
//! | anything else | is echoed |

use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use halfopen_guest::bindings::imports::wasi::clocks::monotonic_clock;
use halfopen_guest::bindings::imports::wit_stream;
use halfopen_guest::futures::future::join;
use halfopen_guest::futures::io::{BufReader, copy};
use halfopen_guest::futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use halfopen_guest::{Connection, Listener, log, service, time};

service!(handle);

/// How many sockets the service opens where nothing limits it.
const MANY: usize = 300;

async fn handle(connection: Connection) -> io::Result<()> {
    let (receive, mut send) = connection.split();
    let mut receive = BufReader::new(receive);
    let mut line = String::new();
    if receive.read_line(&mut line).await? == 0 {
        return Ok(());
    }
    let (command, number) = line
        .trim_end()
        .split_once(' ')
        .unwrap_or((line.trim_end(), ""));
    let number = number.parse().unwrap_or(0);
    match command {
        "leave" => {
            drop((receive, send));
            loop {
                time::sleep(Duration::from_secs(3600)).await;
            }
        }
        "upstream" | "orphan" => {
            let upstream = Connection::connect(local(number)).await?;
            send.write_all(b"connected\n").await?;
            let (mut upstream, _open) = upstream.split();
            let waiting = async move {
                match upstream.read(&mut [0]).await {
                    Ok(length) => log!("upstream: {length} bytes"),
                    Err(error) => log!("upstream: {error}"),
                }
            };
            if command == "orphan" {
                drop((receive, send));
                waiting.await;
                return Ok(());
            }
            let (copied, ()) = join(copy(receive, &mut send), waiting).await;
            copied?;
        }
        "connect" => {
            let mut kept = Vec::new();
            let why = loop {
                match Connection::connect(local(number)).await {
                    Ok(connection) if kept.len() < MANY => kept.push(connection),
                    Ok(_) => break "nothing limits it".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            let answer = format!("{}: {why}\n", kept.len());
            send.write_all(answer.as_bytes()).await?;
            while receive.read(&mut [0]).await? > 0 {}
        }
        "listen" => {
            let mut kept = Vec::new();
            let why = loop {
                match Listener::bind(local(0)) {
                    Ok(listener) if kept.len() < MANY => kept.push(listener),
                    Ok(_) => break "nothing limits it".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            let answer = format!("{}: {why}\n", kept.len());
            send.write_all(answer.as_bytes()).await?;
            while receive.read(&mut [0]).await? > 0 {}
        }
        "streams" => {
            let kept: Vec<_> = (0..number).map(|_| wit_stream::new::<u8>()).collect();
            send.write_all(b"made\n").await?;
            while receive.read(&mut [0]).await? > 0 {}
            drop(kept);
        }
        "compute" => {
            let end = monotonic_clock::now() + u64::from(number) * 1_000_000;
            while monotonic_clock::now() < end {
                black_box(());
            }
            send.write_all(b"computed\n").await?;
        }
        _ => send.write_all(line.as_bytes()).await?,
    }
    send.close().await
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
