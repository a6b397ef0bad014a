//! The loads that servers are measured under: closed loops over loopback, from several
//! threads.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::report::median;
use crate::server::{Kind, Places, ProcessorTime, Server};

/// One load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Each connection sends this many bytes, waits until they are back, and repeats.
    RoundTrips { connections: usize, bytes: usize },
    /// Each connection sends and receives without a pause.
    Bulk { connections: usize },
    /// This many connections make round trips without a pause, and one more makes them now
    /// and then.
    Skewed { busy: usize },
    /// Each client connects, makes a round trip of 64 bytes, closes, and repeats.
    Churn,
    /// This many connections do nothing, and one more makes round trips.
    Idle { connections: usize },
    /// A process starts and serves its first round trip.
    Start { warm: bool },
}

/// The number of clients that connect and close at the same time.
const CHURN_CLIENTS: usize = 32;

/// A figure that is measured: its name, its unit, and its better direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
}

const RATE: Metric = Metric {
    name: "rate",
    unit: "1/s",
    more_is_better: true,
};
const P50: Metric = less("p50", "µs");
const P99: Metric = less("p99", "µs");
const MEMORY: Metric = less("memory", "KiB");
const BUSY: Metric = less("p99 of the busy", "µs");
const SELDOM: Metric = less("p99 of the seldom one", "µs");
const THROUGHPUT: Metric = Metric {
    name: "throughput",
    unit: "MB/s",
    more_is_better: true,
};
const EACH: Metric = less("memory each", "KiB");
/// The server's processor time for each round trip, connection or megabyte.
const CPU: Metric = less("processor", "µs each");
/// How much of that time the kernel has.
const IN_KERNEL: Metric = Metric {
    name: "in the kernel",
    unit: "%",
    more_is_better: true,
};
const TIME: Metric = less("time", "ms");

/// How often a process starts with a warm cache in each round; the median counts.
const WARM_STARTS: usize = 5;

const fn less(name: &'static str, unit: &'static str) -> Metric {
    Metric {
        name,
        unit,
        more_is_better: false,
    }
}

/// The figures of one measurement.
pub(crate) type Figures = Vec<(Metric, f64)>;

impl Load {
    /// Returns the load's name in tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Load::RoundTrips { connections, bytes } => {
                format!("round trips, {connections} × {bytes} B")
            }
            Load::Bulk { connections } => format!("bulk, {connections}"),
            Load::Skewed { busy } => format!("skewed, {busy} and 1"),
            Load::Churn => "churn".to_owned(),
            Load::Idle { connections } => format!("idle, {connections}"),
            Load::Start { warm: true } => "start, warm".to_owned(),
            Load::Start { warm: false } => "start, cold".to_owned(),
        }
    }

    /// Returns how many connections the load has open at the same time.
    pub(crate) fn connections(&self) -> usize {
        match *self {
            Load::RoundTrips { connections, .. }
            | Load::Bulk { connections }
            | Load::Idle { connections } => connections,
            Load::Skewed { busy } => busy + 1,
            Load::Churn => CHURN_CLIENTS,
            Load::Start { .. } => 1,
        }
    }

    /// Returns the figures that the load measures.
    pub(crate) fn metrics(&self) -> &'static [Metric] {
        match self {
            Load::RoundTrips { .. } => &[RATE, P50, P99, CPU, IN_KERNEL, MEMORY],
            Load::Bulk { .. } => &[THROUGHPUT, CPU, MEMORY],
            Load::Skewed { .. } => &[BUSY, SELDOM],
            Load::Churn => &[RATE, P99, CPU, MEMORY],
            Load::Idle { .. } => &[EACH, P50, P99],
            Load::Start { .. } => &[TIME],
        }
    }

    /// Measures a server of this kind for `time`, after a warm-up.
    pub(crate) fn measure(&self, kind: &Kind, places: &Places, time: Duration) -> Result<Figures> {
        if let Load::Start { warm } = *self {
            return start(kind, places, warm);
        }
        self.measure_server(&kind.start(places)?, time)
    }

    /// Measures a server that runs, for `time`, after a warm-up.
    pub(crate) fn measure_server(&self, server: &Server, time: Duration) -> Result<Figures> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        // A server may leave connections waiting that it has no room for.
        let longest = 4 * time + Duration::from_secs(30);
        let figures = runtime
            .block_on(async { tokio::time::timeout(longest, self.load(server, time)).await });
        // The rest of the load ends with the runtime.
        runtime.shutdown_timeout(Duration::from_secs(5));
        let figures =
            figures.with_context(|| format!("not finished after {} s", longest.as_secs()))??;
        debug_assert!(
            figures.iter().map(|figure| &figure.0).eq(self.metrics()),
            "{self:?} measures other figures than it says"
        );
        Ok(figures)
    }

    async fn load(&self, server: &Server, time: Duration) -> Result<Figures> {
        match *self {
            Load::RoundTrips { connections, bytes } => {
                round_trips(server, connections, bytes, time).await
            }
            Load::Bulk { connections } => bulk(server, connections, time).await,
            Load::Skewed { busy } => skewed(server, busy, time).await,
            Load::Churn => churn(server, time).await,
            Load::Idle { connections } => idle(server, connections, time).await,
            Load::Start { .. } => Ok(Vec::new()),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The time in which a load is measured, after a warm-up.
#[derive(Clone, Copy)]
struct Span {
    from: Instant,
    to: Instant,
}

impl Span {
    fn of(time: Duration) -> Self {
        let from = Instant::now() + time / 4;
        Span {
            from,
            to: from + time,
        }
    }

    fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }
}

/// Returns the processor time that the server uses within the span.
async fn used_within(server: &Server, span: Span) -> Result<ProcessorTime> {
    tokio::time::sleep_until(span.from.into()).await;
    let before = server.processor_time()?;
    tokio::time::sleep_until(span.to.into()).await;
    Ok(server.processor_time()?.since(before))
}

/// Makes a histogram of nanoseconds, exact to three digits.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

async fn round_trips(
    server: &Server,
    connections: usize,
    bytes: usize,
    time: Duration,
) -> Result<Figures> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(server.address).await?);
    }
    let span = Span::of(time);
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(request(stream, bytes, span));
    }
    let used = used_within(server, span).await?;
    let mut all = histogram()?;
    while let Some(latencies) = tasks.join_next().await {
        all.add(latencies??)?;
    }
    let rate = all.len() as f64 / span.seconds();
    // While a client waits for an answer it sends no requests. The requests that it would
    // have sent are added, one for each usual interval, so that a stall counts in full
    // (coordinated omission).
    let interval = connections as f64 / rate * 1e9;
    let corrected = all.clone_correct(interval as u64);
    Ok(vec![
        (RATE, rate),
        (P50, corrected.value_at_quantile(0.5) as f64 / 1e3),
        (P99, corrected.value_at_quantile(0.99) as f64 / 1e3),
        (CPU, used.total() / all.len() as f64 * 1e6),
        (IN_KERNEL, used.in_kernel()),
        (MEMORY, server.memory()? as f64),
    ])
}

/// Makes round trips, one after another. Returns the durations of those within the span.
async fn request(mut stream: TcpStream, bytes: usize, span: Span) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let question = vec![b'x'; bytes];
    let mut answer = vec![0; bytes];
    loop {
        let start = Instant::now();
        stream.write_all(&question).await?;
        stream.read_exact(&mut answer).await?;
        let now = Instant::now();
        if now >= span.to {
            ensure!(answer == question, "other bytes came back");
            return Ok(latencies);
        }
        if now >= span.from {
            latencies.record((now - start).as_nanos() as u64)?;
        }
    }
}

async fn skewed(server: &Server, busy: usize, time: Duration) -> Result<Figures> {
    let mut seldom = connect(server.address).await?;
    let mut streams = Vec::new();
    for _ in 0..busy {
        streams.push(connect(server.address).await?);
    }
    let span = Span::of(time);
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(request(stream, 4096, span));
    }
    let mut waited = histogram()?;
    let mut answer = [0; 64];
    tokio::time::sleep_until(span.from.into()).await;
    while Instant::now() < span.to {
        let start = Instant::now();
        seldom.write_all(&[b'x'; 64]).await?;
        seldom.read_exact(&mut answer).await?;
        waited.record(start.elapsed().as_nanos() as u64)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut all = histogram()?;
    while let Some(latencies) = tasks.join_next().await {
        all.add(latencies??)?;
    }
    Ok(vec![
        (BUSY, all.value_at_quantile(0.99) as f64 / 1e3),
        (SELDOM, waited.value_at_quantile(0.99) as f64 / 1e3),
    ])
}

async fn bulk(server: &Server, connections: usize, time: Duration) -> Result<Figures> {
    let received = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (mut receive, mut send) = connect(server.address).await?.into_split();
        let sending = over.clone();
        tasks.spawn(async move {
            let chunk = vec![b'x'; 64 * 1024];
            while !sending.load(Ordering::Relaxed) {
                send.write_all(&chunk).await?;
            }
            send.shutdown().await
        });
        let received = received.clone();
        tasks.spawn(async move {
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let length = receive.read(&mut buffer).await?;
                if length == 0 {
                    return Ok(());
                }
                received.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time / 4).await;
    let (from, before) = (Instant::now(), received.load(Ordering::Relaxed));
    let idle = server.processor_time()?;
    tokio::time::sleep(time).await;
    let used = server.processor_time()?.since(idle);
    let bytes = received.load(Ordering::Relaxed) - before;
    let throughput = bytes as f64 / 1e6 / from.elapsed().as_secs_f64();
    let memory = server.memory()? as f64;
    over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(vec![
        (THROUGHPUT, throughput),
        (CPU, used.total() / (bytes as f64 / 1e6) * 1e6),
        (MEMORY, memory),
    ])
}

async fn churn(server: &Server, time: Duration) -> Result<Figures> {
    let span = Span::of(time);
    let address = server.address;
    let mut tasks = JoinSet::new();
    for client in 0..CHURN_CLIENTS as u8 {
        tasks.spawn(async move {
            let mut latencies = histogram()?;
            let mut host = 0_u8;
            loop {
                let start = Instant::now();
                // Each connection leaves its port in TIME-WAIT. From a single address, free
                // ports would soon run out, and the search for one would be measured.
                host = host % 250 + 1;
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::from(([127, 1, client, host], 0)))?;
                socket.set_nodelay(true)?;
                let mut stream = socket.connect(address).await?;
                let mut answer = [0; 64];
                stream.write_all(&[b'x'; 64]).await?;
                stream.read_exact(&mut answer).await?;
                stream.shutdown().await?;
                ensure!(
                    stream.read(&mut answer).await? == 0,
                    "more bytes came than were sent"
                );
                let now = Instant::now();
                if now >= span.to {
                    return Ok(latencies);
                }
                if now >= span.from {
                    latencies.record((now - start).as_nanos() as u64)?;
                }
            }
        });
    }
    let used = used_within(server, span).await?;
    let mut all = histogram()?;
    while let Some(latencies) = tasks.join_next().await {
        all.add(latencies??)?;
    }
    Ok(vec![
        (RATE, all.len() as f64 / span.seconds()),
        (P99, all.value_at_quantile(0.99) as f64 / 1e3),
        (CPU, used.total() / all.len() as f64 * 1e6),
        (MEMORY, server.memory()? as f64),
    ])
}

async fn idle(server: &Server, connections: usize, time: Duration) -> Result<Figures> {
    // The first connections allocate what is allocated once.
    for _ in 0..100 {
        echo_once(server.address).await?;
    }
    let before = server.memory()?;
    let mut idle = Vec::with_capacity(connections);
    for _ in 0..connections {
        idle.push(echo_once(server.address).await?);
    }
    let after = server.memory()?;
    let latencies = request(connect(server.address).await?, 64, Span::of(time)).await?;
    Ok(vec![
        (
            EACH,
            after.saturating_sub(before) as f64 / connections as f64,
        ),
        (P50, latencies.value_at_quantile(0.5) as f64 / 1e3),
        (P99, latencies.value_at_quantile(0.99) as f64 / 1e3),
    ])
}

/// Connects, and makes one round trip.
async fn echo_once(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = connect(address).await?;
    let mut answer = [0; 64];
    stream.write_all(&[b'x'; 64]).await?;
    stream.read_exact(&mut answer).await?;
    Ok(stream)
}

/// Measures the time from the start of the process to its first echo.
fn start(kind: &Kind, places: &Places, warm: bool) -> Result<Figures> {
    let cache = std::env::temp_dir().join(format!("halfopen-bench-{}", std::process::id()));
    let places = places.with_cache(&cache);
    let once = || -> Result<f64> {
        let from = Instant::now();
        let server = kind.start(&places)?;
        let mut stream = std::net::TcpStream::connect(server.address)?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        Ok(from.elapsed().as_secs_f64() * 1e3)
    };
    let time = once().and_then(|first| {
        if !warm {
            return Ok(first);
        }
        let times: Result<Vec<f64>> = (0..WARM_STARTS).map(|_| once()).collect();
        Ok(median(times?.into_iter()))
    });
    match std::fs::remove_dir_all(&cache) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", cache.display()));
        }
        _ => {}
    }
    Ok(vec![(TIME, time?)])
}
