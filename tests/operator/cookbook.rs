//! The recipes of the SDK's README are guests, and do what the README says.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::chat::{self, asks, enter};
use halfopen_tests::client::{Client, End};
use halfopen_tests::port::Port;
use halfopen_tests::runner::{Runner, root};
use halfopen_tests::server::{Server, command, run};

use super::host::{BINARIES, echo, serve};

/// The guests of the recipes, by the folders of their crates.
const RECIPES: [&str; 6] = [
    "guest/examples/chat",
    "guest/examples/store",
    "tests/guests/tap",
    "tests/guests/pinger",
    "tests/guests/relay",
    "tests/guests/counter",
];

#[test]
fn the_recipes_are_the_sources_of_guests() -> Result<()> {
    let readme = fs::read_to_string(root().join("guest/sdk/README.md"))?;
    for recipe in RECIPES {
        let source = fs::read_to_string(root().join(recipe).join("src/lib.rs"))?;
        let (_, code) = source
            .split_once("\n\n")
            .context("a guest begins with its documentation")?;
        let block = format!("```rust,no_run\n{code}```\n");
        ensure!(readme.contains(&block), "the README does not show {recipe}");
    }
    Ok(())
}

/// What the table for users of Node names, exists: a function or macro of the SDK, or a flag.
#[test]
fn the_table_for_users_of_node_names_what_exists() -> Result<()> {
    /// Names of the standard library and of `futures`.
    const FOREIGN: [&str; 2] = ["thread_local", "read"];
    let readme = fs::read_to_string(root().join("guest/sdk/README.md"))?;
    let (_, table) = readme
        .split_once("| Node | halfopen |")
        .context("no table")?;
    let sources = sources(&root().join("guest/sdk/src"))?;
    let help = run(command(&BINARIES.halfopen, ["serve", "--help"]))?.stdout;
    let mut names = 0;
    for row in table.lines().skip(2).take_while(|row| row.starts_with('|')) {
        let (_, right) = row
            .trim_end_matches([' ', '|'])
            .rsplit_once('|')
            .context("a row")?;
        for code in right.split('`').skip(1).step_by(2) {
            names += 1;
            if code.starts_with("--") {
                ensure!(help.iter().any(|line| line.contains(code)), "{code}");
                continue;
            }
            // `Options::default().allow_half_open(true)`: the last name before a parenthesis.
            let code = code.rsplit_once('(').map_or(code, |(name, _)| name);
            let name = code
                .rsplit([':', '.'])
                .next()
                .unwrap_or(code)
                .trim_end_matches('!');
            let exists = [
                format!("fn {name}("),
                format!("fn {name}<"),
                format!("macro_rules! {name} "),
                format!("pub struct {name} "),
            ]
            .iter()
            .any(|definition| sources.contains(definition));
            ensure!(exists || FOREIGN.contains(&name), "`{name}` in {row}");
        }
    }
    ensure!(names > 30, "only {names} names");
    Ok(())
}

/// The text of all Rust files in a folder.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            text += &sources(&path)?;
        } else {
            text += &fs::read_to_string(path)?;
        }
    }
    Ok(text)
}

/// Starts a recipe natively, without a flag about isolation, and composed on the stock
/// command line.
fn both(guest: &str, flags: &[&str], arguments: &[&str]) -> Result<[Server; 2]> {
    let composed = Runner::Wasmtime.service(&BINARIES, guest, &["127.0.0.1:0"], arguments);
    Ok([serve(guest, flags, arguments)?, Server::start(composed, 1)?])
}

#[test]
fn the_store_answers_one_client_what_another_has_stored() -> Result<()> {
    for server in both("store", &[], &[])? {
        let mut one = Client::connect(server.address())?;
        asks(&mut one, "set colour deep blue\n", "ok\n")?;
        let mut other = Client::connect(server.address())?;
        asks(&mut other, "get colour\r\nget shape\n", "deep blue\n\n")?;
        asks(&mut other, "got\n", "error: `get KEY` or `set KEY VALUE`\n")?;
        other.fin()?;
        ensure!(other.end()? == (Vec::new(), End::Fin));
    }
    Ok(())
}

#[test]
fn the_proxy_logs_and_passes_on_what_it_forwards() -> Result<()> {
    let upstream = echo(&[])?;
    let to = upstream.address().to_string();
    for server in both("tap", &["--allow-connect", &to], &[&to])? {
        let mut client = Client::connect(server.address())?;
        asks(&mut client, "hi", "hi")?;
        client.fin()?;
        ensure!(client.end()? == (Vec::new(), End::Fin));
        let printed = server.printed(2);
        ensure!(
            printed == ["> <Buffer 68 69>", "< <Buffer 68 69>"],
            "{printed:?}"
        );
        Client::connect(server.address())?.exchange(1 << 20, 1)?;
    }
    Ok(())
}

#[test]
fn in_the_chat_everybody_hears_the_others() -> Result<()> {
    chat::everybody_hears_the_others(&serve("chat", &[], &[])?)
}

#[test]
fn in_the_chat_a_slow_reader_harms_nobody_and_is_dropped() -> Result<()> {
    chat::a_slow_reader_harms_nobody_and_is_dropped(&serve("chat", &[], &[])?)
}

#[test]
fn the_pinger_pings_every_second() -> Result<()> {
    for isolation in ["connection", "shared"] {
        let server = serve("pinger", &["--isolation", isolation], &[])?;
        let start = Instant::now();
        let mut client = Client::connect(server.address())?;
        ensure!(client.receive(15)? == b"ping\nping\nping\n");
        let took = start.elapsed();
        ensure!(took >= Duration::from_secs(2), "three pings in {took:?}");
        client.fin()?;
        ensure!(client.end()?.1 == End::Fin);
    }
    Ok(())
}

#[test]
fn a_timer_of_the_sdk_is_called_unless_it_is_dropped() -> Result<()> {
    let server = serve("alarm", &[], &[])?;
    let connect = || Client::connect(server.address());
    let mut silent = connect()?;
    asks(&mut silent, "", "late\n")?;
    // What a client says also clears its timer of `late`.
    let mut counting = connect()?;
    asks(&mut counting, "c", "1\n2\n3\n")?;
    let mut forgetting = connect()?;
    asks(&mut forgetting, "f", "forgotten\n")?;
    let mut dropping = connect()?;
    dropping.send(b"d")?;
    dropping.silence(Duration::from_millis(1500))?; // more than any of the timers
    for client in [&mut silent, &mut counting, &mut forgetting] {
        client.silence(Duration::from_millis(1))?;
    }
    Ok(())
}

/// Starts the relay in one instance for all connections, in front of a server.
fn relay(to: SocketAddr) -> Result<Server> {
    let to = to.to_string();
    let flags = ["--isolation", "shared", "--allow-connect", &to];
    serve("relay", &flags, &[&to])
}

#[test]
fn the_relay_passes_on_bytes_and_fin_and_keeps_the_events_of_its_own_connections() -> Result<()> {
    let upstream = serve("echo", &[], &["--quiet", "--allow-half-open"])?;
    let server = relay(upstream.address())?;
    for round in 1..=2 {
        let mut client = Client::connect(server.address())?;
        asks(&mut client, "hello", "hello")?;
        client.exchange(1 << 20, round)?; // with FIN in both directions
    }
    // One line for each client, and no connection that nobody has asked for.
    let printed = server.printed(2);
    ensure!(printed == ["connected", "connected"], "{printed:?}");
    Ok(())
}

#[test]
fn the_relay_resets_a_client_whose_server_is_not_there() -> Result<()> {
    let port = Port::reserve()?;
    let gone = port.address()?;
    let server = relay(gone)?;
    ensure!(Client::until_end(server.address())?.1 == End::Rst);
    server.logged("the server: connection refused")?;

    // An address that is not granted is the error of `connect` itself.
    let server = serve("relay", &[], &[&gone.to_string()])?;
    ensure!(Client::until_end(server.address())?.1 == End::Rst);
    server.logged("cannot forward: access denied")
}

#[test]
fn the_counter_counts_all_visits() -> Result<()> {
    for server in both("counter", &[], &[])? {
        for visit in 1..=3 {
            let said = Client::until_end(server.address())?.0;
            ensure!(said == format!("visit {visit}\n").as_bytes(), "{said:?}");
        }
    }
    Ok(())
}

/// The line that the endless peer sends: far more than an instance's memory.
const ENDLESS: usize = 160 << 20;

/// What the server may grow by meanwhile, in KiB: a line, its chunks and buffers of the
/// socket, and the memory that its allocator keeps.
const GROWTH: usize = 24 << 10;

/// Sends a line without an end, until the server closes the connection or has had enough
/// of it. Returns what the server said.
fn endless(address: SocketAddr) -> Result<Vec<u8>> {
    let mut client = Client::connect(address)?;
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..ENDLESS / piece.len() {
        if client.send(&piece).is_err() {
            break;
        }
    }
    // Whether by FIN or RST: the connection has ended.
    Ok(client.end()?.0)
}

#[test]
fn an_endless_line_ends_its_own_connection_only() -> Result<()> {
    for (guest, flags, request, answer) in [
        ("chat", &[][..], "/who\n", "* here: me\n"),
        ("store", &[], "get a\n", "\n"),
        ("lines", &["--isolation", "shared"], "upper a\n", "A\n"),
    ] {
        let server = serve(guest, flags, &[])?;
        let mut other = match guest {
            "chat" => enter(&server, "me")?,
            _ => Client::connect(server.address())?,
        };
        asks(&mut other, request, answer)?;
        // The first one warms the allocator.
        for time in 0..2 {
            let before = server.resident()?;
            let said = endless(server.address()).with_context(|| guest)?;
            ensure!(
                said.is_empty()
                    || said.starts_with(b"error: line longer than ")
                    || said.starts_with(b"What is your name?\n"),
                "{guest}: {}",
                said.escape_ascii()
            );
            let grown = server.resident()?.saturating_sub(before);
            ensure!(time == 0 || grown < GROWTH, "{guest}: {grown} KiB");
            asks(&mut other, request, answer).with_context(|| guest)?;
        }
    }
    Ok(())
}
