//! A service that misbehaves on request, for the tests that the host and the other
//! connections do not suffer. The first byte of a connection selects how; see the code.

use std::hint::black_box;
use std::io;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
use halfopen_guest::{Connection, log, service};

service!(handle);

async fn handle(connection: Connection) -> io::Result<()> {
    let server = connection.local_addr()?;
    let (mut receive, mut send) = connection.split();
    let mut first = [0];
    if receive.read(&mut first).await? == 0 {
        return Ok(());
    }
    match first[0] {
        // Returns an error, which ends this connection.
        b'e' => return Err(io::Error::other("asked to fail")),
        // Panics, which is a trap.
        b't' => panic!("asked to trap"),
        // Allocates memory until it traps.
        b'm' => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        // Loops without ever yielding.
        b'l' => loop {
            black_box(());
        },
        // Writes after the end, again and again: an error each time, never a trap.
        b'w' => {
            send.close().await?;
            for _ in 0..100 {
                assert!(send.write(b"late").await.is_err());
            }
            log!("refused");
        }
        // Prints faster than anything can read.
        b'p' => {
            for line in 0..100_000 {
                log!("line {line} {}", "x".repeat(100));
            }
        }
        // Drops one half, and leaks the other.
        b'f' => {
            send.write_all(b"unfinished").await?;
            drop(send);
            std::mem::forget(receive);
            return Ok(());
        }
        // Opens connections to its own server until that fails.
        b'c' => {
            let mut hoard = Vec::new();
            let why = loop {
                match Connection::connect(server).await {
                    Ok(connection) if hoard.len() < 300 => hoard.push(connection),
                    Ok(_) => break "that is enough".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            log!("{} connections: {why}", hoard.len());
            send.write_all(b"c").await?;
        }
        // Behaves: an echo.
        _ => {
            send.write_all(&first).await?;
            halfopen_guest::futures::io::copy(receive, &mut send).await?;
            send.close().await?;
        }
    }
    Ok(())
}
