//! The pinger of the SDK's cookbook.

use halfopen_guest::{Connection, Events, Options, Socket, service, spawn, time};
use std::time::Duration;

service!(handle);

async fn handle(connection: Connection) -> Result<(), String> {
    let open = |socket: &Socket| {
        spawn(ping(socket.clone()));
        Pinger
    };
    connection.serve(Options::default(), open).await;
    Ok(())
}

async fn ping(socket: Socket) {
    while socket.write("ping\n") {
        if socket.unsent() > 1 << 10 {
            return socket.reset(); // the client does not read
        }
        time::sleep(Duration::from_secs(1)).await;
    }
}

struct Pinger;
impl Events for Pinger {}
