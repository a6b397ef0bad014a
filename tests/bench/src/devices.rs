//! Devices for `guest/examples/gateway`: thousands of slow clients, some of which are flaky.
//!
//! A device logs in, asks what the gateway has of it, and goes on from there: it sends a reading,
//! waits for the acknowledgement, and sends the next. Whenever it has lost its connection, it
//! begins again. What was acknowledged must then still be there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a device waits for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct DevicesArgs {
    /// The address of the gateway.
    address: SocketAddr,
    /// Number of devices. Every other one sends lines, and the rest lengths.
    #[arg(long, default_value_t = 100)]
    devices: u64,
    /// Number of readings that each device sends.
    #[arg(long, default_value_t = 10)]
    readings: u64,
    /// Milliseconds between the readings of a device.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Percentage of devices that reset, end or forget their connections again and again.
    #[arg(long, default_value_t = 50)]
    flaky: u64,
    /// Write the tokens of the devices to this folder, a file for each, and do nothing else.
    #[arg(long, value_name = "FOLDER")]
    write_tokens: Option<PathBuf>,
}

/// What has happened to all devices.
struct Figures {
    acknowledged: AtomicU64,
    connections: AtomicU64,
    broken: AtomicU64,
    resets: AtomicU64,
}

/// Something that must not happen.
#[derive(Debug)]
struct Lost {
    device: u64,
    acknowledged: u64,
    stored: u64,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost {
            device,
            acknowledged,
            stored,
        } = self;
        write!(
            f,
            "device {device}: {acknowledged} was acknowledged, and {stored} is the last that is stored"
        )
    }
}

pub(crate) fn run(args: &DevicesArgs) -> Result<()> {
    if let Some(folder) = &args.write_tokens {
        for device in 0..args.devices {
            std::fs::write(folder.join(name(device)), format!("{}\n", token(device)))?;
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(all(args))
}

async fn all(args: &DevicesArgs) -> Result<()> {
    let figures = Arc::new(Figures {
        acknowledged: AtomicU64::new(0),
        connections: AtomicU64::new(0),
        broken: AtomicU64::new(0),
        resets: AtomicU64::new(0),
    });
    let begin = Instant::now();
    let mut devices = JoinSet::new();
    for number in 0..args.devices {
        devices.spawn(
            Device {
                number,
                address: args.address,
                readings: args.readings,
                pause: Duration::from_millis(args.pause),
                is_flaky: number % 100 < args.flaky,
                acknowledged: 0,
                times: Histogram::new(3)?,
                random: fastrand::Rng::with_seed(number),
                figures: figures.clone(),
            }
            .run(),
        );
    }
    let total = args.devices * args.readings;
    let progress = {
        let figures = figures.clone();
        tokio::spawn(async move {
            // A line for each tenth, so that whoever disturbs the gateway knows when.
            for tenth in 1..10 {
                while figures.acknowledged.load(Ordering::Relaxed) * 10 < total * tenth {
                    sleep(Duration::from_millis(10)).await;
                }
                println!("{tenth}0% acknowledged");
            }
        })
    };
    let mut times = Histogram::<u64>::new(3)?;
    let mut lost = Vec::new();
    while let Some(device) = devices.join_next().await {
        match device? {
            Ok(of_device) => times.add(of_device)?,
            Err(error) => lost.push(error),
        }
    }
    progress.abort();
    let seconds = begin.elapsed().as_secs_f64();
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} readings of {} devices acknowledged in {seconds:.1} s, {:.0} a second",
        of(&figures.acknowledged),
        args.devices,
        of(&figures.acknowledged) as f64 / seconds,
    );
    println!(
        "{} connections, {} broken by devices, {} lost or refused",
        of(&figures.connections),
        of(&figures.broken),
        of(&figures.resets),
    );
    println!(
        "an acknowledgement took {:.1} ms (p50), {:.1} ms (p99)",
        times.value_at_quantile(0.5) as f64 / 1000.0,
        times.value_at_quantile(0.99) as f64 / 1000.0,
    );
    for lost in lost.iter().take(10) {
        println!("LOST: {lost}");
    }
    ensure!(lost.is_empty(), "{} devices have lost readings", lost.len());
    println!("nothing acknowledged is lost");
    Ok(())
}

fn name(device: u64) -> String {
    format!("device-{device}")
}

fn token(device: u64) -> String {
    format!(
        "{:016x}",
        device.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    )
}

struct Device {
    number: u64,
    address: SocketAddr,
    readings: u64,
    pause: Duration,
    is_flaky: bool,
    acknowledged: u64,
    times: Histogram<u64>,
    random: fastrand::Rng,
    figures: Arc<Figures>,
}

/// How a connection has ended.
enum Ended {
    /// Everything is acknowledged.
    Done,
    /// The gateway has less than it has acknowledged.
    Lost(u64),
}

impl Device {
    async fn run(mut self) -> Result<Histogram<u64>, Lost> {
        loop {
            match self.connect().await {
                Ok(Ended::Done) => return Ok(self.times),
                Ok(Ended::Lost(stored)) => {
                    return Err(Lost {
                        device: self.number,
                        acknowledged: self.acknowledged,
                        stored,
                    });
                }
                Err(_) => {
                    self.figures.resets.fetch_add(1, Ordering::Relaxed);
                    // Not all at the same time.
                    sleep(Duration::from_millis(self.random.u64(10..200))).await;
                }
            }
        }
    }

    /// Serves one connection, until it ends or everything is done.
    async fn connect(&mut self) -> io::Result<Ended> {
        let stream = in_time(TcpStream::connect(self.address)).await?;
        stream.set_nodelay(true)?;
        self.figures.connections.fetch_add(1, Ordering::Relaxed);
        let mut wire = Wire {
            stream: BufReader::new(stream),
            lines: self.number.is_multiple_of(2),
        };
        let hello = format!("hello {} {}", name(self.number), token(self.number));
        if wire.ask(&hello).await? != "ok" {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let last = wire.ask("last").await?;
        let stored = last
            .split(' ')
            .nth(1)
            .and_then(|number| number.parse().ok());
        let stored: u64 = stored.ok_or(io::ErrorKind::InvalidData)?;
        if stored < self.acknowledged {
            return Ok(Ended::Lost(stored));
        }
        let more = stored - self.acknowledged;
        self.figures.acknowledged.fetch_add(more, Ordering::Relaxed);
        self.acknowledged = stored;
        while self.acknowledged < self.readings {
            if self.is_flaky && self.random.u8(0..8) == 0 {
                self.figures.broken.fetch_add(1, Ordering::Relaxed);
                return self.break_off(wire).await;
            }
            let next = self.acknowledged + 1;
            let begin = Instant::now();
            let answer = wire.ask(&self.reading(next)).await?;
            if answer != format!("ack {next}") {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            // Fails only where there is no memory for the value.
            _ = self.times.record(micros);
            self.acknowledged = next;
            self.figures.acknowledged.fetch_add(1, Ordering::Relaxed);
            sleep(self.pause).await;
        }
        Ok(Ended::Done)
    }

    fn reading(&self, number: u64) -> String {
        format!(
            "{number} temperature={}.5,device={}",
            number % 90,
            self.number
        )
    }

    /// Ends a connection as a flaky device does. The result says that it has to begin again.
    async fn break_off(&mut self, mut wire: Wire) -> io::Result<Ended> {
        let next = self.reading(self.acknowledged + 1);
        match self.random.u8(0..4) {
            // It is switched off in the middle of a message.
            0 => wire.send_part(&next).await?,
            // It does not wait for the acknowledgement.
            1 => wire.send(&next).await?,
            // It resets the connection, and what is on its way.
            2 => {
                wire.send(&next).await?;
                wire.stream.get_ref().set_zero_linger()?;
            }
            // It has said everything, and still reads.
            _ => {
                wire.send(&next).await?;
                wire.stream.get_mut().shutdown().await?;
                wire.receive().await?;
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// A connection of a device, with its way to tell messages apart.
struct Wire {
    stream: BufReader<TcpStream>,
    lines: bool,
}

impl Wire {
    fn frame(&self, text: &str) -> Vec<u8> {
        match self.lines {
            true => format!("{text}\n").into_bytes(),
            false => {
                let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
                [&length.to_be_bytes()[..], text.as_bytes()].concat()
            }
        }
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        let bytes = self.frame(text);
        in_time(self.stream.get_mut().write_all(&bytes)).await
    }

    async fn send_part(&mut self, text: &str) -> io::Result<()> {
        let bytes = self.frame(text);
        in_time(self.stream.get_mut().write_all(&bytes[..bytes.len() / 2])).await
    }

    async fn ask(&mut self, text: &str) -> io::Result<String> {
        self.send(text).await?;
        self.receive().await
    }

    async fn receive(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        if self.lines {
            loop {
                match in_time(self.stream.read_u8()).await? {
                    b'\n' => break,
                    byte => text.push(byte),
                }
            }
        } else {
            let length = in_time(self.stream.read_u16()).await?;
            text.resize(length.into(), 0);
            in_time(self.stream.read_exact(&mut text)).await?;
        }
        String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

async fn in_time<T>(done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, done).await?
}
