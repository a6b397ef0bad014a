//! A line protocol: one request per line, one answer per request.
//!
//! TCP has no messages. A line may arrive in many chunks, and one chunk may hold many
//! lines, so something has to reassemble them: here `LinesCodec` of tokio-util, on the
//! halves of the connection. The codec also limits the length of a line; without a limit, a
//! peer that never ends its line would fill the memory.
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

use futures::{AsyncReadExt as _, SinkExt, StreamExt as _};
use halfopen_guest::{Connection, ReadHalf, service};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, FuturesAsyncWriteCompatExt as _};

/// The most bytes in a line, without its end.
const LIMIT: usize = 1024;

/// The most bytes to read and discard after the last answer. A connection that is closed
/// with unread data is reset by the kernel, and the reset could overtake the answer.
const LEFTOVER: u64 = 1024 * 1024;

service!(handle);

async fn handle(connection: Connection) -> Result<(), LinesCodecError> {
    let (receive, send) = connection.split();
    let mut requests = FramedRead::new(receive.compat(), LinesCodec::new_with_max_length(LIMIT));
    let mut answers = FramedWrite::new(send.compat_write(), LinesCodec::new());
    while let Some(request) = requests.next().await {
        let (reply, last) = match request {
            Ok(line) => answer(&line),
            Err(mistake) => (explain(mistake)?, true),
        };
        answers.send(reply).await?;
        if last {
            break;
        }
    }
    // Our FIN. The peer's has arrived, or follows the data that is discarded here.
    SinkExt::<String>::close(&mut answers).await?;
    discard(requests.into_inner().into_inner()).await?;
    Ok(())
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

/// Returns the answer to a malformed request; any other error is the connection's.
fn explain(mistake: LinesCodecError) -> Result<String, LinesCodecError> {
    match mistake {
        LinesCodecError::MaxLineLengthExceeded => {
            Ok(format!("error: line longer than {LIMIT} bytes"))
        }
        LinesCodecError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Ok("error: line is not UTF-8".to_owned())
        }
        // The connection has failed, so no answer can be sent.
        error => Err(error),
    }
}

async fn discard(receive: ReadHalf) -> std::io::Result<()> {
    let mut leftover = receive.take(LEFTOVER);
    futures::io::copy(&mut leftover, &mut futures::io::sink()).await?;
    Ok(())
}
