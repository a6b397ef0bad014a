//! The counter of the SDK's cookbook.

use halfopen_guest::{Connection, futures::AsyncWriteExt, service};
use std::cell::Cell;

thread_local! {
    static VISITS: Cell<u64> = const { Cell::new(0) };
}

service!(handle, isolation = shared);

async fn handle(connection: Connection) -> std::io::Result<()> {
    VISITS.set(VISITS.get() + 1);
    let (_receive, mut send) = connection.split();
    send.write_all(format!("visit {}\n", VISITS.get()).as_bytes())
        .await?;
    send.close().await
}
