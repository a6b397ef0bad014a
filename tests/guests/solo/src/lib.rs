//! A service that keeps the state of its connection in a static, for the tests: it counts
//! the lines of its client, and so declares that each connection has its own instance.

use std::sync::atomic::{AtomicUsize, Ordering};

use halfopen_guest::futures::{AsyncWriteExt, StreamExt};
use halfopen_guest::{Connection, service};

static LINES: AtomicUsize = AtomicUsize::new(0);

service!(handle, isolation = connection);

async fn handle(connection: Connection) -> std::io::Result<()> {
    let (receive, mut send) = connection.split();
    let mut lines = receive.lines();
    while let Some(line) = lines.next().await {
        line?;
        let count = LINES.fetch_add(1, Ordering::Relaxed) + 1;
        send.write_all(format!("{count}\n").as_bytes()).await?;
    }
    send.close().await
}
