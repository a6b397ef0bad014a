//! An echo server on the socket primitives, in await style.
//!
//! There are seven primitives. On a listening socket: bind (1), listen (2), accept (3) and
//! close (4). On a connection: read (5), write (6) and close (7). Closing a connection takes
//! two steps, because it has two directions: ending our own direction (half-close,
//! shutdown(2)), and dropping the connection.

use std::net::SocketAddr;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
use halfopen_guest::print::Buffer;
use halfopen_guest::{Connection, Listener, env, log, log_error, program, spawn};

program!(main);

async fn main() -> Result<(), String> {
    let arguments = Arguments::parse(env::args())?;
    let address = arguments.listen;
    // 1, 2: from here on clients can connect; they wait in the backlog.
    let listener =
        Listener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    log!("{bound}");
    loop {
        // 3
        let connection = listener.accept().await.map_err(|error| error.to_string())?;
        if arguments.once {
            // 4: no further connection can arrive; the accepted one stays open.
            drop(listener);
            report(connection).await;
            return Ok(());
        }
        // A task of its own for each connection, so that none waits for another.
        spawn(report(connection));
    }
}

/// Serves one connection, and prints its error.
async fn report(connection: Connection) {
    if let Err(error) = echo(connection).await {
        log_error!("error: {error}");
    }
}

async fn echo(connection: Connection) -> std::io::Result<()> {
    let peer = connection.peer_addr()?;
    log!("new connection {} {}", peer.ip(), peer.port());
    let (mut receive, mut send) = connection.split();
    let mut buffer = vec![0; 64 * 1024];
    let mut open = true;
    loop {
        // 5: the bytes that have arrived; 0 at the peer's FIN.
        let length = receive.read(&mut buffer).await?;
        if length == 0 {
            log!("EOF.");
            break;
        }
        let chunk = &buffer[..length];
        log!("data: {}", Buffer(chunk));
        if open {
            // 6: waits while the peer does not read.
            send.write_all(chunk).await?;
        }
        if open && chunk.contains(&b'q') {
            log!("closing.");
            // Half-close: FIN behind the written data. The peer may still send.
            send.close().await?;
            open = false;
        }
    }
    // 7: both directions have ended; the connection closes when its halves are dropped.
    send.close().await
}

struct Arguments {
    listen: SocketAddr,
    once: bool,
}

impl Arguments {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Arguments {
            listen: SocketAddr::from(([127, 0, 0, 1], 1234)),
            once: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--once" => parsed.once = true,
                "--listen" => {
                    let text = arguments.next().unwrap_or_default();
                    parsed.listen = text.parse().map_err(|_| {
                        format!("bad address `{text}`: write an IP address and a port, such as 127.0.0.1:1234 or [::1]:0")
                    })?;
                }
                other => {
                    return Err(format!(
                        "unknown argument `{other}`; there are `--listen ADDR` and `--once`"
                    ));
                }
            }
        }
        Ok(parsed)
    }
}
