//! The classic use of half-close: the peer sends its request up to FIN, and gets the answer
//! on the direction that is still open. Here the answer is the number of received bytes and
//! their SHA-256.

use std::fmt::Write as _;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
use halfopen_guest::{Connection, service};
use sha2::{Digest, Sha256};

service!(handle);

async fn handle(connection: Connection) -> std::io::Result<()> {
    let (mut receive, mut send) = connection.split();
    let mut hash = Sha256::new();
    let mut count: u64 = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = receive.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        count += length as u64;
    }
    let answer = format!("{count} bytes, SHA-256 {}\n", hexadecimal(&hash.finalize()));
    send.write_all(answer.as_bytes()).await?;
    send.close().await
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
