//! The echo server on the socket primitives themselves, await style.
//!
//! There are seven of them. On a listening socket: bind and listen (1, 2), accept (3),
//! close (4). On a connection: read (5), write (6), close (7), and that in two steps,
//! because a connection is two directions: ending our own (half-close, `shutdown` to
//! the system), and letting go of the whole.

use std::net::SocketAddr;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
use halfopen_guest::print::Buffer;
use halfopen_guest::{Connection, Listener, env, log, log_error, program, spawn};

program!(main);

async fn main() -> Result<(), String> {
    let arguments = Arguments::parse(env::args())?;
    let address = arguments.listen;
    // 1, 2: from here on clients can connect, though nobody has accepted them yet.
    let listener =
        Listener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    log!("{bound}");
    loop {
        // 3
        let connection = listener.accept().await.map_err(|error| error.to_string())?;
        if arguments.once {
            // 4: no more come in; the one that we have lives on.
            drop(listener);
            report(connection).await;
            return Ok(());
        }
        // Each on its own, so that none waits for another.
        spawn(report(connection));
    }
}

/// Serves one connection; its error harms no other.
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
        // 5: some bytes, as many as there are; none at the peer's FIN.
        let length = receive.read(&mut buffer).await?;
        if length == 0 {
            log!("EOF.");
            break;
        }
        let chunk = &buffer[..length];
        log!("data: {}", Buffer(chunk));
        if open {
            // 6: waits if the peer does not read.
            send.write_all(chunk).await?;
        }
        if open && chunk.contains(&b'q') {
            log!("closing.");
            // Half-close: our FIN, after all that was written. The peer may still send.
            send.close().await?;
            open = false;
        }
    }
    // 7: both directions have ended, and the connection goes with its halves.
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
