//! A service that sends and receives independently at the same time, for the tests. The
//! first line it receives, `SEED BYTES STALLS`, says what to send; all data after it is
//! hashed. When both directions have ended, it prints the seed, the number of received
//! bytes and their XXH3.

use std::time::Duration;

use fastrand::Rng;
use halfopen_guest::futures::future::try_join;
use halfopen_guest::futures::io::BufReader;
use halfopen_guest::futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use halfopen_guest::{Connection, ReadHalf, WriteHalf, log, service, time};
use xxhash_rust::xxh3::Xxh3;

service!(handle);

const BLOCK: usize = 64 * 1024;

async fn handle(connection: Connection) -> std::io::Result<()> {
    let (receive, send) = connection.split();
    let mut receive = BufReader::new(receive);
    let mut line = String::new();
    receive.read_line(&mut line).await?;
    let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
    let &[seed, bytes, stalls] = numbers.as_slice() else {
        return Err(std::io::Error::other("expected `SEED BYTES STALLS`"));
    };
    let ((count, hash), ()) = try_join(
        hash(receive, seed, stalls),
        noise(send, seed, bytes, stalls),
    )
    .await?;
    log!("{seed} {count} {hash:016x}");
    Ok(())
}

/// Receives until the peer's FIN, stalling at random; returns the length and the hash.
async fn hash(
    mut receive: BufReader<ReadHalf>,
    seed: u64,
    mut stalls: u64,
) -> std::io::Result<(u64, u64)> {
    let mut random = Rng::with_seed(!seed);
    let mut hash = Xxh3::new();
    let mut count = 0;
    let mut buffer = vec![0; BLOCK];
    loop {
        let length = receive.read(&mut buffer).await?;
        if length == 0 {
            return Ok((count, hash.digest()));
        }
        hash.update(&buffer[..length]);
        count += length as u64;
        stall(&mut random, &mut stalls).await;
    }
}

/// Sends `bytes` random bytes in pieces of random length, stalling at random, then FIN.
async fn noise(
    mut send: WriteHalf,
    seed: u64,
    mut bytes: u64,
    mut stalls: u64,
) -> std::io::Result<()> {
    let mut content = Rng::with_seed(seed);
    let mut random = Rng::with_seed(seed + 1);
    let mut block = vec![0; BLOCK];
    while bytes > 0 {
        content.fill(&mut block);
        let length = usize::try_from(bytes).map_or(BLOCK, |bytes| bytes.min(BLOCK));
        bytes -= length as u64;
        let (first, second) = block[..length].split_at(random.usize(..=length));
        send.write_all(first).await?;
        stall(&mut random, &mut stalls).await;
        send.write_all(second).await?;
    }
    send.close().await
}

/// Waits up to 3 ms, one time in sixteen, while stalls are left.
async fn stall(random: &mut Rng, stalls: &mut u64) {
    if *stalls > 0 && random.u8(..16) == 0 {
        *stalls -= 1;
        time::sleep(Duration::from_micros(random.u64(..3000))).await;
    }
}
