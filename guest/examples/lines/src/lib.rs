//! A line protocol: one request per line, one answer per request.
//!
//! TCP has no messages. A line may arrive in many chunks, and one chunk may hold many
//! lines, so something has to reassemble them: here `ReadHalf::lines`. It also limits the
//! length of a line; without a limit, a peer that never ends its line would fill the memory.
//!
//! ```text
//! > upper hello
//! < HELLO
//! > reverse hello
//! < olleh
//! > count hello
//! < 5
//! > quit
//! < bye
//! ```

use std::io;

use halfopen_guest::futures::io::{copy, sink};
use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use halfopen_guest::{Connection, LineError, ReadHalf, service};

/// The most bytes in a line, without its end.
const LIMIT: usize = 1024;

/// The most bytes to read and discard after the last answer. A connection that is closed
/// with unread data is reset by the kernel, and the reset could overtake the answer.
const LEFTOVER: u64 = 1024 * 1024;

service!(handle);

async fn handle(connection: Connection) -> io::Result<()> {
    let (receive, mut send) = connection.split();
    let mut requests = receive.lines().limit(LIMIT);
    while let Some(request) = requests.next().await {
        let (reply, last) = match request {
            Ok(line) => answer(&line),
            // The connection has failed, so no answer can be sent.
            Err(LineError::Io(error)) => return Err(error),
            Err(mistake) => (format!("error: {mistake}"), true),
        };
        send.write_all(format!("{reply}\n").as_bytes()).await?;
        if last {
            break;
        }
    }
    // Our FIN. The peer's has arrived, or follows the data that is discarded here.
    send.close().await?;
    discard(requests.into_inner()).await
}

/// Returns the answer, and whether it is the last.
fn answer(request: &str) -> (String, bool) {
    let (command, text) = request.split_once(' ').unwrap_or((request, ""));
    let reply = match command {
        "upper" => text.to_uppercase(),
        "reverse" => text.chars().rev().collect(),
        "count" => text.chars().count().to_string(),
        "quit" => return ("bye".to_owned(), true),
        _ => {
            format!("error: unknown request `{command}`; there are upper, reverse, count and quit")
        }
    };
    (reply, false)
}

async fn discard(receive: ReadHalf) -> io::Result<()> {
    let mut leftover = receive.take(LEFTOVER);
    copy(&mut leftover, &mut sink()).await?;
    Ok(())
}
