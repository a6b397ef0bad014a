//! A protocol with boundaries: one request per line, one answer per request.
//!
//! TCP knows no messages. A line may come in many chunks and many lines in one, so
//! something has to put them together: here `LinesCodec` of tokio-util, on the halves
//! of the connection. It also sets the limit without which a peer that never ends its
//! line would fill the memory.
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

/// Bytes in a line, its end not counted.
const LIMIT: usize = 1024;

/// How much of what a peer still sends after a mistake is read, so that the answer
/// reaches it: data that nobody reads makes the system reset the connection.
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
    // Our FIN. The peer's was read above, or comes after what it still sends.
    SinkExt::<String>::close(&mut answers).await?;
    discard(requests.into_inner().into_inner()).await?;
    Ok(())
}

/// The answer, and whether it is the last.
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

/// What to tell the peer about its mistake.
fn explain(mistake: LinesCodecError) -> Result<String, LinesCodecError> {
    match mistake {
        LinesCodecError::MaxLineLengthExceeded => {
            Ok(format!("error: line longer than {LIMIT} bytes"))
        }
        LinesCodecError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Ok("error: line is not UTF-8".to_owned())
        }
        // The connection's own error: there is nobody to tell.
        error => Err(error),
    }
}

async fn discard(receive: ReadHalf) -> std::io::Result<()> {
    let mut leftover = receive.take(LEFTOVER);
    futures::io::copy(&mut leftover, &mut futures::io::sink()).await?;
    Ok(())
}
