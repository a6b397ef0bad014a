//! State in await style: obeys its client's lines, and answers each with one line.
//! `tests/guests/ledger` is the same in callback style.

#[path = "../../ledger/src/orders.rs"]
mod orders;

use halfopen_guest::futures::{AsyncWriteExt, StreamExt};
use halfopen_guest::{Connection, service};

service!(handle);

async fn handle(connection: Connection) -> std::io::Result<()> {
    let (receive, mut send) = connection.split();
    let mut lines = receive.lines();
    while let Some(line) = lines.next().await {
        let answer = orders::obey(&line?) + "\n";
        send.write_all(answer.as_bytes()).await?;
    }
    send.close().await
}
