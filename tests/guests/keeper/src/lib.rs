//! A service that never lets go of a connection, for the tests that what a connection takes
//! up is free all the same once it has ended. The first byte selects what it does before.

use std::io;
use std::mem::forget;
use std::time::Duration;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
use halfopen_guest::{Connection, service, time};

service!(handle);

async fn handle(connection: Connection) -> io::Result<()> {
    let (mut receive, mut send) = connection.split();
    let mut first = [0];
    receive.read_exact(&mut first).await?;
    send.write_all(&first).await?;
    match first[0] {
        // Reads to the end, and ends its own direction.
        b'e' => {
            let mut rest = Vec::new();
            // An error ends it as well.
            let _ = receive.read_to_end(&mut rest).await;
            let _ = send.close().await;
        }
        // Ends its own direction, and does not read.
        b'f' => send.close().await?,
        // Neither reads nor writes.
        _ => {}
    }
    forget((receive, send));
    loop {
        time::sleep(Duration::from_secs(3600)).await;
    }
}
