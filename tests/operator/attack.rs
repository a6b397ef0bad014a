//! Attacks: well-behaved clients are served throughout, and nothing is left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Flood;
use halfopen_tests::memory;
use halfopen_tests::patience::PATIENCE;
use halfopen_tests::server::Server;

use super::host::{connect_from, echo, served};

/// Attacks a server, round after round, until its memory has stopped growing.
///
/// A well-behaved client is served again and again meanwhile, and once more while the
/// connections stand that `attack` returns. After each round all descriptors are closed
/// again. Memory never grows by more than `bound` KiB.
fn under_attack(
    what: &str,
    server: &Server,
    bound: usize,
    attack: impl Fn(SocketAddr) -> Result<Vec<TcpStream>>,
) -> Result<()> {
    // The first connections allocate what is allocated once.
    for _ in 0..200 {
        served(server)?;
    }
    let before = memory::at_rest(server)?;
    let descriptors = server.descriptors()?;
    let after = memory::settles(server, |round| {
        let over = AtomicBool::new(false);
        let (peak, (count, longest)) = memory::peak(server, || {
            thread::scope(|scope| {
                let other = scope.spawn(|| well_behaved(server, &over));
                let attacked = attack(server.address()).and_then(|standing| {
                    served(server).context("while the attack goes on")?;
                    drop(standing);
                    Ok(())
                });
                over.store(true, Ordering::Relaxed);
                let other = other.join().expect("a client does not panic");
                attacked.and(other)
            })
        })?;
        server.closes_to(descriptors)?;
        let grown = peak.saturating_sub(before);
        println!(
            "{what}, round {round}: {count} others were served meanwhile, after {longest:?} at most; memory {before} KiB before, at most {grown} KiB more (bound {bound})"
        );
        ensure!(grown <= bound, "memory grew by {grown} KiB, and the bound is {bound}");
        Ok(())
    })
    .with_context(|| what.to_owned())?;
    println!("{what}: memory after each round {after:?} KiB");
    served(server).map(drop)
}

/// Connects and is served, until the attack is over. Returns how often, and the longest time
/// that it took.
fn well_behaved(server: &Server, over: &AtomicBool) -> Result<(usize, Duration)> {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        served(server)?;
        longest = longest.max(start.elapsed());
        count += 1;
        thread::sleep(Duration::from_millis(5));
    }
    Ok((count, longest))
}

/// Half of the attackers send a byte now and then. The others have much to receive, and take
/// a little of it now and then. No limit on idleness strikes, but the limit on age does.
#[test]
fn slow_senders_and_slow_receivers() -> Result<()> {
    let flags = [
        "--max-age",
        "8",
        "--write-timeout",
        "2",
        "--max-connections",
        "500",
    ];
    let server = echo(&flags)?;
    under_attack("400 slow clients", &server, memory::bound(500), |address| {
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
        while !slow.is_empty() && start.elapsed() < PATIENCE {
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
        ensure!(ended == 400, "the limits ended {ended} of 400 connections");
        Ok(Vec::new())
    })
}

/// As many connections as the limit on descriptors of usual machines allows.
#[test]
fn fifteen_thousand_idle_connections() -> Result<()> {
    let flags = ["--isolation", "shared", "--max-connections", "15500"];
    let server = echo(&flags)?;
    let bound = memory::idle_bound(15_500);
    under_attack("15,000 idle connections", &server, bound, |address| {
        let mut idle: Vec<TcpStream> = Vec::with_capacity(15_000);
        for number in 0..15_000_u16 {
            let [_, low] = (number / 5000).to_be_bytes();
            idle.push(connect_from([127, 0, 2, low + 1], address)?);
        }
        // The service has accepted all of them: any of them would be answered.
        for stream in idle.iter_mut().step_by(1000) {
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
        }
        Ok(idle)
    })
}

#[test]
fn a_flood_of_connects_and_resets() -> Result<()> {
    for isolation in ["connection", "shared"] {
        // Memory depends on how many connections are open at once, and that on how fast the
        // machine is; at most it is this many.
        let server = echo(&["--isolation", isolation, "--max-connections", "256"])?;
        let what = format!("8,000 resets, {isolation}");
        under_attack(&what, &server, memory::bound(256), |address| {
            Flood::of_resets(address, 2000).wait()?;
            Ok(Vec::new())
        })?;
    }
    Ok(())
}

/// One peer that opens all the connections that it may holds up no other peer.
#[test]
fn connections_are_shared_out_among_peers() -> Result<()> {
    let flags = [
        "--max-connections",
        "100",
        "--max-connections-per-peer",
        "10",
        "--at-limit",
        "refuse",
    ];
    let server = echo(&flags)?;
    under_attack("one greedy peer", &server, memory::bound(100), |address| {
        let mut hoard = Vec::new();
        for _ in 0..300 {
            hoard.push(connect_from([127, 0, 3, 1], address)?);
        }
        let mut other = connect_from([127, 0, 3, 2], address)?;
        other.write_all(b"x")?;
        other.read_exact(&mut [0])?;
        Ok(hoard)
    })
}
