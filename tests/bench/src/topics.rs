//! How fast messages on topics reach their subscribers, beside PUBLISH of Redis by itself.
//!
//! One client publishes a batch, waits until every subscriber has all of it, and goes on: nothing
//! is lost, and the slowest subscriber counts. The service is `tests/guests/herald`, to which each
//! subscriber is a connection. A batch of one message shows how long it takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::report::{digits, median};
use crate::server::{Places, Server};
use crate::state::{Folder, Process, command, redis_server};

#[derive(clap::Args)]
pub(crate) struct TopicsArgs {
    /// Subscribers. May be given several times.
    #[arg(long, default_values_t = [1, 16, 128])]
    subscribers: Vec<usize>,
    /// Rounds, in each of which every way is measured once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that each measurement lasts.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=100))]
    bytes: u8,
    /// Messages of a batch. Beyond 1,024, instances may lose some.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
}

/// How messages get from who publishes to who has subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Redis by itself: PUBLISH and SUBSCRIBE.
    Redis,
    /// One instance has all connections.
    Shared,
    /// Each connection has an instance.
    Instances,
    /// The same in two processes, over Redis.
    OverRedis,
}

const WAYS: [Way; 4] = [Way::Redis, Way::Shared, Way::Instances, Way::OverRedis];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Redis => "Redis by itself",
            Way::Shared => "within an instance",
            Way::Instances => "between instances",
            Way::OverRedis => "between processes, over Redis",
        }
    }
}

/// What is measured: the servers, their clients, and the bytes that these exchange.
struct Stage {
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    /// The request that publishes a message.
    request: Vec<u8>,
    /// What the publisher is answered, for each message.
    answer: Vec<u8>,
    /// What each subscriber gets, for each message.
    delivery: Vec<u8>,
    _servers: Vec<Server>,
    _redis: Option<Process>,
}

pub(crate) fn measure(args: &TopicsArgs, places: &Places) -> Result<()> {
    let time = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let has_redis = Command::new("redis-server").arg("--version").output();
    ensure!(
        has_redis.is_ok(),
        "there is no redis-server to compare with"
    );
    println!(
        "messages of {} bytes, {} in a batch\n",
        args.bytes, args.batch
    );
    println!("| subscribers | way | deliveries/s | : Redis | µs until all have one | : Redis |");
    println!("|--:|---|--:|--:|--:|--:|");
    for &count in &args.subscribers {
        let mut rates = [(); WAYS.len()].map(|()| Vec::new());
        let mut times = rates.clone();
        for round in 1..=args.rounds {
            eprintln!("{count} subscribers, round {round} of {}", args.rounds);
            for ((way, rates), times) in WAYS.iter().zip(&mut rates).zip(&mut times) {
                let folder = Folder::new()?;
                let stage = Stage::set(*way, count, usize::from(args.bytes), places, &folder);
                let mut stage = stage.with_context(|| way.name().to_owned())?;
                let one = stage.batches(1, time)?;
                let all = stage.batches(usize::from(args.batch), time)?;
                times.push(1e6 / one);
                #[allow(clippy::cast_precision_loss, reason = "numbers of connections")]
                rates.push(all * f64::from(args.batch) * count as f64);
            }
        }
        for ((way, own), took) in WAYS.iter().zip(&rates).zip(&times) {
            println!(
                "| {count} | {} | {} | {:.2} | {} | {:.2} |",
                way.name(),
                digits(median(own.iter().copied())),
                ratio(own, &rates[0]),
                digits(median(took.iter().copied())),
                ratio(took, &times[0]),
            );
        }
    }
    Ok(())
}

/// The median of the ratios within rounds, so that what disturbs all of them disturbs no ratio.
fn ratio(own: &[f64], redis: &[f64]) -> f64 {
    median(own.iter().zip(redis).map(|(own, redis)| own / redis))
}

impl Stage {
    /// Starts servers, and lets `count` clients subscribe.
    fn set(way: Way, count: usize, bytes: usize, places: &Places, folder: &Folder) -> Result<Self> {
        let redis = match way {
            Way::Redis | Way::OverRedis => Some(redis_server(&folder.0, "every-second")?),
            Way::Shared | Way::Instances => None,
        };
        let herald =
            |isolation, topics: &str| Server::start(places.herald(isolation, topics), way.name());
        let servers = match (way, &redis) {
            (Way::Shared, _) => vec![herald("shared", "local")?],
            (Way::Instances, _) => vec![herald("connection", "local")?],
            (Way::OverRedis, Some(redis)) => {
                let url = format!("redis://{}", redis.address);
                vec![herald("connection", &url)?, herald("connection", &url)?]
            }
            _ => Vec::new(),
        };
        let addresses: Vec<_> = match &redis {
            Some(redis) if way == Way::Redis => vec![redis.address],
            _ => servers.iter().map(|server| server.address).collect(),
        };
        let text = "x".repeat(bytes);
        let exchanged = match way {
            Way::Redis => of_redis(&text, count),
            Way::Shared => of_herald(&text, "own"),
            Way::Instances | Way::OverRedis => of_herald(&text, "other"),
        };
        let places = addresses.iter().cycle().take(count);
        let subscribers = places.map(|&address| {
            let mut subscriber = connect(address)?;
            subscriber.write_all(&exchanged.subscribe)?;
            expect(&mut subscriber, &exchanged.subscribed)?;
            Ok(subscriber)
        });
        let subscribers = subscribers.collect::<Result<_>>()?;
        Ok(Stage {
            publisher: connect(addresses[0])?,
            subscribers,
            request: exchanged.request,
            answer: exchanged.answer,
            delivery: exchanged.delivery,
            _servers: servers,
            _redis: redis,
        })
    }

    /// Publishes batches for some time, and returns how many there were in a second.
    fn batches(&mut self, length: usize, time: Duration) -> Result<f64> {
        let request = self.request.repeat(length);
        let answer = self.answer.repeat(length);
        let delivery = self.delivery.repeat(length);
        let mut batch = || -> Result<()> {
            self.publisher.write_all(&request)?;
            for subscriber in &mut self.subscribers {
                expect(subscriber, &delivery)?;
            }
            expect(&mut self.publisher, &answer)
        };
        let warm = Instant::now();
        while warm.elapsed() < time / 5 {
            batch()?;
        }
        let begin = Instant::now();
        let mut count = 0_u32;
        while begin.elapsed() < time {
            batch()?;
            count += 1;
        }
        Ok(f64::from(count) / begin.elapsed().as_secs_f64())
    }
}

/// What clients and servers say to each other.
struct Exchanged {
    subscribe: Vec<u8>,
    subscribed: Vec<u8>,
    request: Vec<u8>,
    answer: Vec<u8>,
    delivery: Vec<u8>,
}

fn of_redis(text: &str, count: usize) -> Exchanged {
    let subscribed = command(&["subscribe", "t"]).replacen("*2", "*3", 1) + ":1\r\n";
    Exchanged {
        subscribe: command(&["SUBSCRIBE", "t"]).into(),
        subscribed: subscribed.into(),
        request: command(&["PUBLISH", "t", text]).into(),
        answer: format!(":{count}\r\n").into(),
        delivery: command(&["message", "t", text]).into(),
    }
}

/// `whose` says whether the instance of the subscriber has published the message.
fn of_herald(text: &str, whose: &str) -> Exchanged {
    Exchanged {
        subscribe: b"subscribe t\n".into(),
        subscribed: b"subscribing\nt: subscribed\n".into(),
        request: format!("publish t {text}\n").into(),
        answer: b"published\n".into(),
        delivery: format!("t: {whose} {text}\n").into(),
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Reads exactly these bytes.
fn expect(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut read = vec![0; expected.len()];
    stream.read_exact(&mut read)?;
    ensure!(
        read == expected,
        "`{}` instead of `{}`",
        String::from_utf8_lossy(&read)
            .chars()
            .take(200)
            .collect::<String>(),
        String::from_utf8_lossy(expected)
            .chars()
            .take(200)
            .collect::<String>()
    );
    Ok(())
}
