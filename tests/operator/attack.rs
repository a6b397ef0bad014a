//! What attackers do, bounded in count and time, and that the others do not suffer; with
//! memory and descriptors as they were afterwards.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::client::Flood;
use halfopen_tests::server::Server;

use super::host::{connect_from, descriptors, echo, served, soon};

/// Well-behaved clients, and the longest that one had to wait to be served.
fn longest_wait(server: &Server, attacked: &AtomicBool) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    while !attacked.load(Ordering::Relaxed) {
        let asked = Instant::now();
        served(server)?;
        longest = longest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(longest)
}

/// Attacks, three times, while others are served. Then the descriptors have to be as they
/// were, and the last time must not have left more memory in use than those before: what
/// they left is kept for the next rush, and is no more than that.
fn under_attack(
    what: &str,
    server: &Server,
    attack: impl Fn(SocketAddr) -> Result<()>,
) -> Result<()> {
    // What is made once is not counted.
    for _ in 0..200 {
        served(server)?;
    }
    thread::sleep(Duration::from_millis(500));
    let (files, before) = (descriptors(server)?, server.resident()?);
    let mut kept = Vec::new();
    for _ in 0..3 {
        let over = AtomicBool::new(false);
        let (longest, peak) = thread::scope(|scope| -> Result<_> {
            let other = scope.spawn(|| longest_wait(server, &over));
            let attacked = attack(server.address());
            let peak = server.resident();
            over.store(true, Ordering::Relaxed);
            let longest = other.join().expect("no panic");
            attacked?;
            Ok((longest?, peak?))
        })?;
        soon("the descriptors are back", || {
            Ok(descriptors(server)? <= files)
        })?;
        thread::sleep(Duration::from_millis(500));
        let after = server.resident()?;
        println!(
            "{what}: another client waited {longest:?} at most; descriptors {files} before and after; \
             memory {before} KiB before, {peak} KiB meanwhile, {after} KiB after"
        );
        ensure!(longest < Duration::from_secs(5), "{what}: {longest:?}");
        kept.push(after);
    }
    let most = kept[0].max(kept[1]);
    ensure!(
        kept[2] <= most + most / 10 + 8 * 1024,
        "{what}: memory grows: {kept:?} KiB"
    );
    served(server).map(drop)
}

/// Half of them send a byte now and then, and half of them have much to receive and take
/// a little of it now and then; so no limit on idleness strikes, but that on age does.
#[test]
fn slow_senders_and_slow_receivers() -> Result<()> {
    let server = echo(&["--max-age", "4", "--write-timeout", "2"])?;
    under_attack("400 slow clients", &server, |address| {
        let mut slow = Vec::new();
        for number in 0..400_usize {
            let mut stream = connect_from([127, 0, 1, 1], address)?;
            if number % 2 == 1 {
                stream.set_nonblocking(true)?;
                while stream.write(&[b'x'; 65536]).is_ok() {}
                stream.set_nonblocking(false)?;
            }
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            slow.push(stream);
        }
        let start = Instant::now();
        let mut ended = 0;
        while !slow.is_empty() && start.elapsed() < Duration::from_secs(30) {
            slow.retain_mut(|stream| {
                let alive = match stream.write(b"x") {
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => false,
                    _ => {
                        !matches!(stream.read(&mut [0; 64]), Ok(0))
                            && stream.take_error().is_ok_and(|error| error.is_none())
                    }
                };
                ended += usize::from(!alive);
                alive
            });
            thread::sleep(Duration::from_millis(20));
        }
        ensure!(ended == 400, "{ended} of 400 were ended");
        Ok(())
    })
}

/// As many as the descriptors of usual machines allow.
#[test]
fn fifteen_thousand_idle_connections() -> Result<()> {
    let flags = ["--isolation", "shared", "--max-connections", "15500"];
    let server = echo(&flags)?;
    under_attack("15,000 idle connections", &server, |address| {
        let mut idle: Vec<TcpStream> = Vec::with_capacity(15_000);
        for number in 0..15_000_u16 {
            let [_, low] = (number / 5000).to_be_bytes();
            idle.push(connect_from([127, 0, 2, low + 1], address)?);
        }
        // The service has got them all: each would answer.
        for stream in idle.iter_mut().step_by(1000) {
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
        }
        Ok(())
    })
}

#[test]
fn a_flood_of_connects_and_resets() -> Result<()> {
    for isolation in ["connection", "shared"] {
        let server = echo(&["--isolation", isolation])?;
        under_attack(&format!("8,000 resets, {isolation}"), &server, |address| {
            Flood::of_resets(address, 2000).wait()
        })?;
    }
    Ok(())
}

/// Many peers, each of which takes all that one may: nobody else is held up.
#[test]
fn places_are_shared_out_among_peers() -> Result<()> {
    let flags = [
        "--max-connections",
        "100",
        "--max-connections-per-peer",
        "10",
        "--at-limit",
        "refuse",
    ];
    let server = echo(&flags)?;
    under_attack("one peer that wants all places", &server, |address| {
        let mut hoard = Vec::new();
        for _ in 0..300 {
            hoard.push(connect_from([127, 0, 3, 1], address)?);
        }
        let mut other = connect_from([127, 0, 3, 2], address)?;
        other.write_all(b"x")?;
        other.read_exact(&mut [0])?;
        Ok(())
    })
}
