//! A service in await style that begins TLS when its clients say so: for the tests of `secure`.
//!
//! A client sends lines: `STARTTLS`; `tls`, which is answered by the session; `CLIENT PORT NAME`,
//! for which the service connects to a server like this, begins TLS with it, and copies its
//! answer. Other lines come back in capitals.

use std::io;

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
use halfopen_guest::{Connection, log_error, service};

service!(handle);

async fn handle(connection: Connection) -> io::Result<()> {
    let (receive, mut send) = connection.split();
    let mut lines = receive.lines();
    while let Some(line) = lines.next_bytes().await {
        let line = String::from_utf8_lossy(&line?).into_owned();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["STARTTLS"] => {
                send.write_all(b"220 go ahead\n").await?;
                match send.secure_as_server().await {
                    Ok(()) => send.write_all(b"secured\n").await?,
                    Err(error) => {
                        log_error!("no TLS: {error}");
                        send.write_all(format!("no TLS: {error}\n").as_bytes())
                            .await?;
                    }
                }
            }
            ["tls"] => {
                let tls = send.tls();
                let version = tls.and_then(|tls| tls.version).unwrap_or_default();
                send.write_all(format!("tls {version}\n").as_bytes())
                    .await?;
            }
            ["CLIENT", port, name] => {
                let answer = ask(port.parse().unwrap_or(0), name).await;
                let answer = answer.unwrap_or_else(|error| format!("no answer: {error}\n"));
                send.write_all(answer.as_bytes()).await?;
            }
            _ => {
                let capitals = line.to_uppercase() + "\n";
                send.write_all(capitals.as_bytes()).await?;
            }
        }
    }
    send.close().await
}

/// Asks a server like this one for its session, within TLS.
async fn ask(port: u16, name: &str) -> io::Result<String> {
    let connection = Connection::connect(([127, 0, 0, 1], port).into()).await?;
    let (receive, mut send) = connection.split();
    send.write_all(b"STARTTLS\n").await?;
    let mut lines = receive.lines();
    let greeting = lines.next_bytes().await.transpose()?;
    if greeting.as_deref() != Some(b"220 go ahead") {
        return Err(io::Error::other("no STARTTLS"));
    }
    send.secure_as_client(name, &["upgrade"]).await?;
    send.write_all(b"tls\n").await?;
    send.close().await?;
    let mut answer = String::new();
    lines.into_inner().read_to_string(&mut answer).await?;
    Ok(answer)
}
