//! Topics, on each way to run a service that can grant them, in both styles.
//!
//! The services `tests/guests/herald` (callback style) and `crier` (await style) publish and
//! subscribe as their clients say, and report what is delivered.

use std::collections::HashSet;
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::redis::Redis;
use halfopen_tests::runner::{Binaries, Instances, Runner};
use halfopen_tests::server::Server;

use super::further::Peer;
use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "topics-denied",
        rules: &["T1"],
        runners: |runner| runner != Runner::NodeHost,
        elsewhere: "the host, which is a test's own, does not have the interfaces",
        run: denied,
    },
    case("topics", &["T2", "T3"], heard_by_all),
    case("topics-in-order", &["T4", "T5"], in_order),
    case("topics-too-slow", &["T6"], too_slow),
    case("topics-limits", &["T7"], limits),
    case("topics-left", &["T3", "T8"], left),
    case(
        "topics-between-processes",
        &["T4", "T5", "T9"],
        between_processes,
    ),
    case("topics-after-a-restart", &["T9"], after_a_restart),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::is_serve,
        elsewhere: "the host grants no topics",
        run,
    }
}

/// The service in each style.
const GUESTS: [&str; 2] = ["herald", "crier"];

fn start(runner: Runner, binaries: &Binaries, guest: &str, topics: &[&str]) -> Result<Server> {
    let command = runner.service_with(binaries, guest, &["127.0.0.1:0"], topics, &[]);
    Server::start(command, 1)
}

const LOCAL: [&str; 2] = ["--topics", "local"];

/// How a message of client `from` comes to client `to`: connections go to instances in turns.
fn whose(runner: Runner, from: usize, to: usize) -> &'static str {
    let same = match runner.properties().instances {
        Instances::PerConnection => from == to,
        Instances::Shared(instances) => from % instances == to % instances,
    };
    if same { "own" } else { "other" }
}

/// Connects a client that subscribes to a topic, and waits until that is in force.
fn subscribed(server: &Server, topic: &str) -> Result<Peer> {
    let mut client = Peer::connect(server.address())?;
    subscribe(&mut client, topic)?;
    Ok(client)
}

fn subscribe(client: &mut Peer, topic: &str) -> Result<()> {
    client.send(&format!("subscribe {topic}\n"))?;
    client.expect(&["subscribing", &format!("{topic}: subscribed")])
}

/// Without a grant every call is an error value, and everything else goes on.
fn denied(runner: Runner, binaries: &Binaries) -> Result<()> {
    // Some hosts have callback style alone.
    for guest in GUESTS
        .iter()
        .filter(|guest| runner.guest(guest) == Some(**guest))
    {
        let server = start(runner, binaries, guest, &[])?;
        let mut client = Peer::connect(server.address())?;
        client.send("publish t hello\nsubscribe t\nunsubscribe t\nhello\n")?;
        client.expect(&["AccessDenied", "AccessDenied", "unsubscribed", "what?"])?;
    }
    Ok(())
}

/// A message reaches all who have subscribed, its publisher included, and nobody else.
fn heard_by_all(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let server = start(runner, binaries, guest, &LOCAL)?;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(subscribed(&server, "t")?);
        }
        let mut other = subscribed(&server, "t/other")?;
        for from in 0..3 {
            clients[from].send("publish t hello\n")?;
            clients[from].expect(&["published"])?;
            for (to, client) in clients.iter_mut().enumerate() {
                client.expect(&[&format!("t: {} hello", whose(runner, from, to))])?;
            }
        }
        other.send("publish t/other again\n")?;
        other.expect(&["published", "t/other: own again"])?;
    }
    Ok(())
}

/// Clients publish at the same time. All of them hear everything once, and each publisher in
/// order.
fn in_order(runner: Runner, binaries: &Binaries) -> Result<()> {
    const CLIENTS: usize = 4;
    const MESSAGES: usize = 200;
    for guest in GUESTS {
        let server = start(runner, binaries, guest, &LOCAL)?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(subscribed(&server, "t")?);
        }
        for (name, client) in clients.iter().enumerate() {
            client.send(&format!("flood t {MESSAGES} {name}\n"))?;
        }
        let listening = clients
            .into_iter()
            .map(|mut client| thread::spawn(move || hears(&mut client, CLIENTS, MESSAGES)));
        for client in listening.collect::<Vec<_>>() {
            client.join().expect("a client does not panic")?;
        }
    }
    Ok(())
}

/// Receives the messages of publishers with the names 0, 1 and so on, and the answer to an own
/// flood.
fn hears(client: &mut Peer, publishers: usize, messages: usize) -> Result<()> {
    let mut next = vec![0; publishers];
    for _ in 0..publishers * messages + 1 {
        let line = client.line()?;
        if line == "flooded" {
            continue;
        }
        let (name, number) = message(&line)?;
        ensure!(number == next[name], "{line}, and {} is next", next[name]);
        next[name] += 1;
    }
    ensure!(next.iter().all(|&next| next == messages), "{next:?}");
    Ok(())
}

/// Reads `t: own NAME NUMBER`.
fn message(line: &str) -> Result<(usize, usize)> {
    let mut words = line.rsplit(' ');
    let number = words.next().and_then(|word| word.parse().ok());
    let name = words.next().and_then(|word| word.parse().ok());
    name.zip(number).with_context(|| format!("`{line}`"))
}

/// An instance that publishes more than waits for it misses the oldest messages, and the number
/// of those comes before what is left.
fn too_slow(runner: Runner, binaries: &Binaries) -> Result<()> {
    const MESSAGES: usize = 3000;
    const WAITING: usize = 1024;
    for guest in GUESTS {
        let server = start(runner, binaries, guest, &LOCAL)?;
        let mut client = subscribed(&server, "t")?;
        client.send(&format!("flood t {MESSAGES} 0\n"))?;
        let (mut next, mut heard, mut missed) = (0, 0, 0);
        while next < MESSAGES {
            let line = client.line()?;
            if line == "flooded" {
                continue;
            }
            if let Some(count) = line.strip_prefix("t: missed ") {
                let count: usize = count.parse()?;
                missed += count;
                // In await style, an instance that computes for long gives way to others, and a
                // read that it had begun gets a message then.
                if guest == "herald" {
                    ensure!(count == MESSAGES - WAITING, "{line}");
                    next += count;
                }
                continue;
            }
            let (_, number) = message(&line)?;
            ensure!(number >= next, "`{line}` comes late");
            ensure!(guest != "herald" || number == next, "`{line}`, not {next}");
            heard += 1;
            next = number + 1;
        }
        ensure!(
            missed > 0 && heard + missed == MESSAGES,
            "{heard}, {missed}"
        );
        // Everybody goes on.
        client.send("publish t hello\n")?;
        client.expect(&["published", "t: own hello"])?;
    }
    Ok(())
}

/// Names, messages and the number of subscriptions have limits.
fn limits(runner: Runner, binaries: &Binaries) -> Result<()> {
    const SUBSCRIPTIONS: usize = 1024;
    for guest in GUESTS {
        let server = start(runner, binaries, guest, &LOCAL)?;
        let mut client = Peer::connect(server.address())?;
        let long = "n".repeat(128);
        for (name, fits) in [
            ("", false),
            ("a\tb", false),
            (&*long, true),
            (&format!("{long}n"), false),
        ] {
            let answer = if fits { "published" } else { "InvalidTopic" };
            client.send(&format!("publish {name} hello\n"))?;
            client.expect(&[answer])?;
            if !fits {
                client.send(&format!("subscribe {name}\n"))?;
                client.expect(&[answer])?;
            }
        }
        client.send("bytes t 65537\n")?;
        client.expect(&["TooLarge"])?;
        subscribe(&mut client, "t")?;
        client.send("bytes t 65536\n")?;
        client.expect(&["published", "t: own 65536 bytes"])?;
        // All at once: one after another, each answer's second line would wait for the client's
        // delayed ACK (Nagle, RFC 9293, 3.7.4).
        let lines = (1..SUBSCRIPTIONS).map(|number| format!("subscribe {number}\n"));
        client.send(&lines.collect::<String>())?;
        let mut answers = HashSet::new();
        let mut subscribing = 0;
        while subscribing + answers.len() < 2 * (SUBSCRIPTIONS - 1) {
            match client.line()?.as_str() {
                "subscribing" => subscribing += 1,
                line => ensure!(answers.insert(line.to_owned()), "{line} again"),
            }
        }
        let all =
            (1..SUBSCRIPTIONS).all(|number| answers.contains(&format!("{number}: subscribed")));
        ensure!(all, "{answers:?}");
        client.send("subscribe more\nunsubscribe 1\n")?;
        client.expect(&["TooMany", "unsubscribed"])?;
        subscribe(&mut client, "more")?;
    }
    Ok(())
}

/// After `unsubscribe` nothing comes, and a subscription ends with its instance.
fn left(runner: Runner, binaries: &Binaries) -> Result<()> {
    for guest in GUESTS {
        let server = start(runner, binaries, guest, &LOCAL)?;
        let mut client = subscribed(&server, "t")?;
        subscribe(&mut client, "u")?;
        let gone = subscribed(&server, "t")?;
        drop(gone);
        client.send("unsubscribe t\n")?;
        client.expect(&["unsubscribed"])?;
        let mut other = Peer::connect(server.address())?;
        for topic in ["t", "u"] {
            other.send(&format!("publish {topic} hello\n"))?;
            other.expect(&["published"])?;
        }
        let line = client.line()?;
        ensure!(line.starts_with("u: "), "{line}");
        // And again.
        subscribe(&mut client, "t")?;
        other.send("publish t again\n")?;
        other.expect(&["published"])?;
        let line = client.line()?;
        ensure!(
            line.starts_with("t: ") && line.ends_with(" again"),
            "{line}"
        );
        client.fin()?;
        other.fin()?;
        ensure!(client.rest()?.is_empty() && other.rest()?.is_empty());
    }
    Ok(())
}

/// Two processes share a Redis. Everything comes once, in order, in both.
fn between_processes(runner: Runner, binaries: &Binaries) -> Result<()> {
    const MESSAGES: usize = 300;
    let Some(redis) = Redis::start("topics between processes", &[])? else {
        return Ok(());
    };
    let url = redis.url();
    for guest in GUESTS {
        let topics = ["--topics", &url];
        let servers = [
            start(runner, binaries, guest, &topics)?,
            start(runner, binaries, guest, &topics)?,
        ];
        let mut clients = [subscribed(&servers[0], "t")?, subscribed(&servers[1], "t")?];
        for (name, client) in clients.iter().enumerate() {
            client.send(&format!("flood t {MESSAGES} {name}\n"))?;
        }
        for client in &mut clients {
            hears(client, 2, MESSAGES)?;
        }
        clients[1].send("publish t last\n")?;
        clients[1].expect(&["published", "t: own last"])?;
        clients[0].expect(&["t: other last"])?;
    }
    Ok(())
}

/// Redis ends, and comes back: subscriptions are in force again, and say so. What is published
/// meanwhile waits, and what waits no longer than that arrives once.
fn after_a_restart(runner: Runner, binaries: &Binaries) -> Result<()> {
    let Some(mut redis) = Redis::start("topics after a restart of Redis", &[])? else {
        return Ok(());
    };
    let url = redis.url();
    for guest in GUESTS {
        let topics = ["--topics", &url];
        let servers = [
            start(runner, binaries, guest, &topics)?,
            start(runner, binaries, guest, &topics)?,
        ];
        let mut clients = [subscribed(&servers[0], "t")?, subscribed(&servers[1], "t")?];
        redis.kill()?;
        // Within a process topics need no Redis.
        clients[0].send("publish t meanwhile\n")?;
        clients[0].expect(&["published", "t: own meanwhile"])?;
        redis.start_again()?;
        clients[0].expect(&["t: subscribed"])?;
        // The other process may be back before or after the message was on its way.
        let mut line = clients[1].line()?;
        if line == "t: other meanwhile" {
            line = clients[1].line()?;
        }
        ensure!(line == "t: subscribed", "{line}");
        clients[0].send("publish t hello\n")?;
        clients[0].expect(&["published", "t: own hello"])?;
        let mut line = clients[1].line()?;
        if matches!(&*line, "t: other meanwhile" | "t: missed 1") {
            line = clients[1].line()?;
        }
        ensure!(line == "t: other hello", "{line}");
    }
    Ok(())
}
