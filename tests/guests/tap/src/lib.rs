//! The logging proxy of the SDK's cookbook.

use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt, future::try_join};
use halfopen_guest::{Connection, ReadHalf, WriteHalf, env, log, print::Buffer, service};

service!(handle);

async fn handle(client: Connection) -> Result<(), Box<dyn std::error::Error>> {
    let upstream = env::args().pop().ok_or("give the address of the server")?;
    let server = Connection::connect(upstream.parse()?).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    try_join(
        forward(">", from_client, to_server),
        forward("<", from_server, to_client),
    )
    .await?;
    Ok(())
}

async fn forward(mark: &str, mut from: ReadHalf, mut to: WriteHalf) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.close().await; // pass on FIN
        }
        log!("{mark} {}", Buffer(&buffer[..length]));
        to.write_all(&buffer[..length]).await?;
    }
}
