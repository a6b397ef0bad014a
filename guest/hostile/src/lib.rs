//! A service that misbehaves when told to: what the tests use to see that the host and
//! the other connections do not suffer from it. The first byte of a connection says
//! how; see the code.

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
        // An error, which is the end of this connection.
        b'e' => return Err(io::Error::other("asked to fail")),
        // A panic, which is a trap.
        b't' => panic!("asked to trap"),
        // All the memory there is, until a trap.
        b'm' => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        // A loop that never gives way.
        b'l' => loop {
            black_box(());
        },
        // Writing after the end, again and again: an error each time, and no trap.
        b'w' => {
            send.close().await?;
            for _ in 0..100 {
                assert!(send.write(b"late").await.is_err());
            }
            log!("refused");
        }
        // Printing without end, faster than anybody can read.
        b'p' => {
            for line in 0..100_000 {
                log!("line {line} {}", "x".repeat(100));
            }
        }
        // Letting go of the handles in the wrong order, and of the rest not at all.
        b'f' => {
            send.write_all(b"unfinished").await?;
            drop(send);
            std::mem::forget(receive);
            return Ok(());
        }
        // Connections to this very server, more than anybody needs.
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
        // Behaving: an echo.
        _ => {
            send.write_all(&first).await?;
            halfopen_guest::futures::io::copy(receive, &mut send).await?;
            send.close().await?;
        }
    }
    Ok(())
}
